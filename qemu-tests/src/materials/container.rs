//! Container images of the test's own: a static busybox from the lab tree, and a word that is nowhere else. One is an OCI archive
//! of a manifest, the other an OCI layout with an index of two architectures, of which one is missing.

use crate::cache::{Cache, Key};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Raised when other images are made.
const RECIPE: &str = "1";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Where the word lies inside the greeter.
pub const WORD_FILE: &str = "/etc/word";

/// Two images, and what one of them knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Containers {
    /// Folder of `pause.tar` and of the layout `greeter`.
    pub folder: PathBuf,
    /// The digest of the image that holds a pod's network.
    pub pause: String,
    /// The digest of the image that knows the word.
    pub greeter: String,
    /// Made at random, with the images.
    pub word: String,
}

/// Makes them, or finds them in the cache.
///
/// # Errors
/// When a file cannot be read or written.
pub fn make(cache: &Cache, lab: &Path) -> Result<Containers> {
    let key = Key::of([RECIPE.as_bytes(), lab.as_os_str().as_encoded_bytes()]);
    let entry = cache.make("containers", &key, |folder| {
        let made = images(lab, folder, &uuid::Uuid::new_v4().simple().to_string())?;
        fs::write(folder.join("containers.json"), serde_json::to_vec(&made).context("writing JSON")?)
            .context("writing what the images are")
    })?;
    let made = fs::read(entry.path.join("containers.json")).context("reading what the images are")?;
    let made: Containers = serde_json::from_slice(&made).context("reading what the images are")?;
    // It was made under another name.
    Ok(Containers { folder: entry.path, ..made })
}

fn images(lab: &Path, folder: &Path, word: &str) -> Result<Containers> {
    let busybox = fs::read(lab.join("bin/busybox")).context("reading busybox")?;
    let program = layer("bin/busybox", &busybox, 0o755)?;
    let words = layer(WORD_FILE.trim_start_matches('/'), word.as_bytes(), 0o644)?;

    let layout = Layout::new(&folder.join("pause"))?;
    let pause = layout.image(&[&program], &["/bin/busybox", "tail", "-f", "/dev/null"])?;
    layout.name(&pause)?;
    let archive = folder.join("pause.tar");
    let mut tar = tar::Builder::new(fs::File::create(&archive).context("making an OCI archive")?);
    tar.append_dir_all(".", &layout.0).and_then(|()| tar.finish()).context("writing an OCI archive")?;

    let layout = Layout::new(&folder.join("greeter"))?;
    let mut here = layout.image(&[&program, &words], &["/bin/busybox"])?;
    here["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut elsewhere = here.clone();
    elsewhere["platform"]["architecture"] = json!("arm64");
    elsewhere["digest"] = json!(digest(b"not here"));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [elsewhere, here]});
    let greeter = layout.json(INDEX, &index)?;
    layout.name(&greeter)?;

    let of = |image: &Value| image["digest"].as_str().map(str::to_owned).context("an image without digest");
    Ok(Containers { folder: folder.to_owned(), pause: of(&pause)?, greeter: of(&greeter)?, word: word.to_owned() })
}

/// A layer of one file.
fn layer(path: &str, content: &[u8], mode: u32) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, content).context("writing a layer")?;
    tar.into_inner().context("writing a layer")
}

/// An OCI image layout in the making.
struct Layout(PathBuf);

impl Layout {
    fn new(folder: &Path) -> Result<Self> {
        let layout = Self(folder.to_owned());
        layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(layout)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let place = self.0.join(name);
        fs::create_dir_all(place.parent().unwrap_or(&self.0))
            .and_then(|()| fs::write(&place, bytes))
            .with_context(|| format!("writing {}", place.display()))
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = digest(bytes);
        self.write(&format!("blobs/{}", digest.replace(':', "/")), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    }

    fn json(&self, media_type: &str, document: &Value) -> Result<Value> {
        self.blob(media_type, document.to_string().as_bytes())
    }

    fn image(&self, layers: &[&[u8]], command: &[&str]) -> Result<Value> {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "os": "linux",
            "architecture": "amd64",
            "config": {"Entrypoint": command},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.json(CONFIG, &config)?;
        let layers = layers.iter().map(|layer| self.blob(LAYER, layer)).collect::<Result<Vec<_>>>()?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.json(MANIFEST, &manifest)
    }

    fn name(&self, image: &Value) -> Result<()> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image]});
        self.write("index.json", index.to_string().as_bytes())
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
