//! Publishing something else under the name of a target, with the real keys: the mistake, or the thief of the targets
//! key, that the next link of the chain has to stop.

use anyhow::{Context as _, Result, anyhow};
use std::{
    fs,
    num::NonZeroU64,
    path::{Path, PathBuf},
};
use tough::{
    FilesystemTransport, RepositoryLoader,
    editor::RepositoryEditor,
    key_source::{KeySource, LocalKeySource},
    schema::Target,
};
use url::Url;

/// Replaces a target's bytes; all metadata that depends on it is signed anew, one version higher.
///
/// # Errors
/// When the repository cannot be read with these keys, or a file not be written.
pub async fn target(repository: &Path, keys: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let root = keys.join("tuf/1.root.json");
    let url = |part: &str| {
        Url::from_directory_path(repository.join(part)).map_err(|()| anyhow!("the repository's path is not absolute"))
    };
    let trust = fs::read(&root).context("reading the root of trust")?;
    let loader = RepositoryLoader::new(&trust, url("metadata")?, url("targets")?).transport(FilesystemTransport);
    let current = loader.load().await.context("loading the repository")?;
    let version = |of: NonZeroU64| of.saturating_add(1);
    let (targets, snapshot, timestamp) = (
        version(current.targets().signed.version),
        version(current.snapshot().signed.version),
        version(current.timestamp().signed.version),
    );

    let staged = repository.join("republished");
    fs::create_dir_all(&staged).context("making a folder")?;
    let file = staged.join("target");
    fs::write(&file, bytes).context("writing the target")?;
    let target = Target::from_path(&file).await.context("describing the target")?;
    let place = repository.join("targets").join(format!("{}.{name}", hex::encode(&target.hashes.sha256)));
    fs::create_dir_all(place.parent().unwrap_or(repository)).context("making the target's folder")?;
    fs::rename(&file, &place).with_context(|| format!("writing {}", place.display()))?;

    let mut editor = RepositoryEditor::from_repo(&root, current).await.context("editing the repository")?;
    let expires = in_a_week()?;
    editor.targets_version(targets)?.targets_expires(expires)?;
    editor.snapshot_version(snapshot).snapshot_expires(expires);
    editor.timestamp_version(timestamp).timestamp_expires(expires);
    editor.add_target(name, target)?;
    let signers: Vec<Box<dyn KeySource>> =
        ["targets", "snapshot", "timestamp"].map(|role| signer(keys, role)).into_iter().collect();
    let signed = editor.sign(&signers).await.context("signing the repository")?;
    signed.write(&staged).await.context("writing the metadata")?;
    // The timestamp leads to everything else, so it comes last.
    for file in [format!("{targets}.targets.json"), format!("{snapshot}.snapshot.json"), "timestamp.json".into()] {
        let place = repository.join("metadata").join(&file);
        fs::rename(staged.join(&file), &place).with_context(|| format!("writing {}", place.display()))?;
    }
    fs::remove_dir_all(&staged).context("removing a folder")
}

fn signer(keys: &Path, role: &str) -> Box<dyn KeySource> {
    let path: PathBuf = keys.join("tuf").join(format!("{role}.pk8"));
    Box::new(LocalKeySource { path })
}

fn in_a_week() -> Result<jiff::Timestamp> {
    let seconds = jiff::Timestamp::now().as_second() + 7 * 86_400;
    jiff::Timestamp::from_second(seconds).context("a time")
}
