//! A signed repository with boot images of random bytes: nobody starts them here.

use anyhow::{Context as _, Result};
use serde_json::json;
use std::{
    fs,
    num::NonZeroU64,
    path::{Path, PathBuf},
};
use tough::{
    editor::RepositoryEditor,
    key_source::{KeySource, LocalKeySource},
    schema::Target,
};

/// The version of every image here.
const VERSION: &str = "1";

/// Writes a repository with one image for each template; `images` has their boot images.
///
/// # Errors
/// When a file cannot be written or a key not be used.
pub async fn make(folder: &Path, keys: &Path, images: &[(&str, &Path)]) -> Result<()> {
    let root = keys.join("tuf/1.root.json");
    let metadata = folder.join("metadata");
    let staged = folder.join("staged");
    for path in [&metadata, &staged, &folder.join("archives")] {
        fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    }
    let mut editor = RepositoryEditor::new(&root).await.context("reading the root of trust")?;
    let expires = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 86_400).context("a time")?;
    editor.targets_version(NonZeroU64::MIN)?.targets_expires(expires)?;
    editor.snapshot_version(NonZeroU64::MIN).snapshot_expires(expires);
    editor.timestamp_version(NonZeroU64::MIN).timestamp_expires(expires);
    for (template, image) in images {
        let hash = "0".repeat(64);
        let uki = format!("images/{template}/{VERSION}/uki.efi");
        let manifest = json!({
            "version": 1, "template": template, "image_version": VERSION, "architecture": "x86_64",
            "root": { "data_bytes": 4096, "hash_bytes": 4096, "root_hash": hash },
            "archive": { "path": "archives/a.bita", "header_bytes": 1, "header_sha256": hash, "bytes": 2 },
            "uki": uki, "boot_loader": "boot/x86_64/systemd-bootx64.efi", "registrar_ca": "region/registrar-ca.pem",
        });
        let channel = json!({ "version": 1, "image_version": VERSION });
        let documents = [
            (format!("images/{template}/{VERSION}/manifest.json"), manifest),
            (format!("channels/{template}/stable.json"), channel),
        ];
        for (name, document) in documents {
            let file = staged.join("document");
            fs::write(&file, document.to_string()).context("writing a document")?;
            add(&mut editor, folder, &name, &file).await?;
            fs::remove_file(&file).context("removing a file")?;
        }
        add(&mut editor, folder, &uki, image).await?;
    }
    let signers: Vec<Box<dyn KeySource>> =
        ["targets", "snapshot", "timestamp"].map(|role| signer(keys, role)).into_iter().collect();
    editor.sign(&signers).await.context("signing the repository")?.write(&metadata).await.context("writing it")?;
    fs::copy(&root, metadata.join("root.json")).context("copying the root of trust")?;
    fs::remove_dir_all(&staged).context("removing a folder")
}

async fn add(editor: &mut RepositoryEditor, folder: &Path, name: &str, file: &Path) -> Result<()> {
    let target = Target::from_path(file).await.context("describing a target")?;
    let place = folder.join("targets").join(format!("{}.{name}", hex::encode(&target.hashes.sha256)));
    fs::create_dir_all(place.parent().unwrap_or(folder)).context("making a target's folder")?;
    fs::copy(file, &place).with_context(|| format!("writing {}", place.display()))?;
    editor.add_target(name, target)?;
    Ok(())
}

fn signer(keys: &Path, role: &str) -> Box<dyn KeySource> {
    let path: PathBuf = keys.join("tuf").join(format!("{role}.pk8"));
    Box::new(LocalKeySource { path })
}
