use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image layout in the making: files by name.
#[derive(Default, Clone)]
struct Layout(std::collections::BTreeMap<String, Vec<u8>>);

impl Layout {
    fn new() -> Self {
        let mut layout = Self::default();
        layout.0.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        layout
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digits = hex::encode(Sha256::digest(bytes));
        self.0.insert(format!("blobs/sha256/{digits}"), bytes.to_vec());
        json!({"mediaType": media_type, "digest": format!("sha256:{digits}"), "size": bytes.len()})
    }

    fn json(&mut self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    /// A manifest for this architecture.
    fn image(&mut self, architecture: &str, layers: &[&[u8]]) -> Value {
        let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": []}});
        let config = self.json("application/vnd.oci.image.config.v1+json", &config);
        let layers: Vec<Value> = layers.iter().map(|layer| self.blob(LAYER, layer)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.json(MANIFEST, &manifest)
    }

    fn named(&mut self, image: &Value) {
        let mut entry = image.clone();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "shop/till:1"});
        self.0.insert("index.json".into(), json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into());
    }

    fn folder(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in &self.0 {
            files::write(&folder.path().join(name), bytes, 0o644).unwrap();
        }
        folder
    }

    fn archive(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.as_file());
        for (name, bytes) in &self.0 {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("./{name}"), bytes.as_slice()).unwrap();
        }
        tar.into_inner().unwrap();
        file
    }
}

fn digest(of: &Value) -> String {
    of["digest"].as_str().unwrap().to_owned()
}

/// Finds and copies; gives the names of what lies in the folder then.
fn copied(path: &Path, digest: &str) -> Result<(Image, Vec<String>), OciError> {
    let out = tempfile::tempdir().unwrap();
    let source = Source::open(path)?;
    let image = find(&source, digest)?;
    copy(&source, &image, out.path())?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(out.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(hex::encode(Sha256::digest(std::fs::read(&path).unwrap())), name);
        names.push(name);
    }
    names.sort();
    Ok((image, names))
}

#[test]
fn a_folder_and_an_archive_give_the_same() {
    let mut layout = Layout::new();
    let image = layout.image("amd64", &[b"base", b"app"]);
    layout.image("amd64", &[b"base", b"something else"]);
    let (folder, archive) = (layout.folder(), layout.archive());
    let one = copied(folder.path(), &digest(&image)).unwrap();
    let other = copied(archive.path(), &digest(&image)).unwrap();
    assert_eq!(one.1, other.1);
    // Manifest, configuration and two layers: nothing of the other image.
    assert_eq!(one.1.len(), 4);
    assert_eq!((one.0.root.media_type.as_str(), one.0.root.digest), (MANIFEST, digest(&image)));
    assert_eq!(one.0.id, other.0.id);
}

#[test]
fn a_layer_of_two_images_is_written_once() {
    let mut layout = Layout::new();
    let (one, other) = (layout.image("amd64", &[b"base", b"one"]), layout.image("amd64", &[b"base", b"other"]));
    let (archive, out) = (layout.archive(), tempfile::tempdir().unwrap());
    let source = Source::open(archive.path()).unwrap();
    let mut written = Vec::new();
    for image in [&one, &other, &one] {
        let image = find(&source, &digest(image)).unwrap();
        written.push(copy(&source, &image, out.path()).unwrap());
    }
    // The configuration is the same too.
    let manifest_of = |image: &Value| image["size"].as_u64().unwrap();
    assert_eq!(written[1], manifest_of(&other) + "other".len() as u64);
    assert_eq!(written[2], 0);
}

#[test]
fn of_an_index_comes_what_these_machines_need() {
    let mut layout = Layout::new();
    let mut entries = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let mut entry = layout.image(architecture, &[architecture.as_bytes()]);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let index = layout.json(INDEX, &json!({"schemaVersion": 2, "manifests": entries}));
    let (image, names) = copied(layout.folder().path(), &digest(&index)).unwrap();
    assert_eq!(image.root.media_type, INDEX);
    assert!(names.contains(&hex::encode(Sha256::digest(b"amd64"))));
    assert!(!names.contains(&hex::encode(Sha256::digest(b"arm64"))));

    let only = layout.json(INDEX, &json!({"schemaVersion": 2, "manifests": [entries[0]]}));
    let error = copied(layout.folder().path(), &digest(&only)).unwrap_err();
    assert!(error.to_string().ends_with("but for linux/arm64"), "{error}");
    let arm = digest(&entries[0]);
    assert!(matches!(copied(layout.folder().path(), &arm), Err(OciError::Platform { .. })));
}

#[test]
fn every_changed_byte_and_every_missing_blob_is_found() {
    let mut layout = Layout::new();
    let image = layout.image("amd64", &[b"base"]);
    layout.named(&image);
    for name in layout.0.keys().filter(|name| name.starts_with("blobs/")).cloned().collect::<Vec<_>>() {
        let mut damaged = layout.clone();
        damaged.0.get_mut(&name).unwrap()[0] ^= 1;
        let error = copied(damaged.archive().path(), &digest(&image)).unwrap_err();
        assert!(matches!(error, OciError::Damaged { .. }), "{error}");
        damaged.0.get_mut(&name).unwrap().pop();
        assert!(matches!(copied(damaged.folder().path(), &digest(&image)), Err(OciError::Damaged { .. })));
        damaged.0.remove(&name);
        let error = copied(damaged.folder().path(), &digest(&image)).unwrap_err();
        assert!(matches!(error, OciError::NoBlob { .. }), "{error}");
    }
}

#[test]
fn an_unknown_digest_is_answered_with_what_there_is() {
    let mut layout = Layout::new();
    let image = layout.image("amd64", &[]);
    layout.named(&image);
    let error = copied(layout.folder().path(), &format!("sha256:{}", "0".repeat(64))).unwrap_err();
    assert!(error.hint().unwrap().ends_with(&format!("{} (shop/till:1)", digest(&image))));
}

#[test]
fn what_is_no_image_is_told_from_what_is() {
    let said = |document: Value| read_blob(document.to_string().as_bytes()).unwrap_err();
    let descriptor = json!({"mediaType": "text/plain", "digest": "sha256:00", "size": 1});
    assert!(said(json!({"schemaVersion": 1})).contains("schemaVersion is 1"));
    assert!(said(json!({"schemaVersion": 2, "manifests": [], "layers": []})).contains("both"));
    assert!(said(json!({"schemaVersion": 2, "config": descriptor, "layers": [descriptor]})).contains("text/plain"));
    assert!(said(json!({"schemaVersion": 2, "mediaType": MANIFEST, "manifests": []})).contains("media type"));
    assert!(said(json!({"schemaVersion": 2})).contains("neither"));
    assert!(said(json!([])).contains("no manifest"));
}

#[test]
fn other_files_are_no_layouts() {
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), "hello\n".repeat(200)).unwrap();
    let empty = tempfile::tempdir().unwrap();
    for path in [text.path(), empty.path()] {
        assert!(matches!(Source::open(path), Err(OciError::NoLayout { .. })));
    }
    assert_eq!(Source::open(Path::new("/nowhere")).unwrap_err().code(), Code::Input);
}

#[test]
fn indexes_in_a_circle_of_words_come_to_an_end() {
    let mut layout = Layout::new();
    let mut image = layout.image("amd64", &[]);
    for _ in 0..MAX_DEPTH {
        image = layout.json(INDEX, &json!({"schemaVersion": 2, "manifests": [image]}));
    }
    assert!(matches!(copied(layout.folder().path(), &digest(&image)), Err(OciError::Document { .. })));
}

proptest! {
    #[test]
    fn any_archive_is_survived(flips in prop::collection::vec((0usize..20_000, any::<u8>()), 0..6), cut in 0usize..20_000) {
        let mut layout = Layout::new();
        let image = layout.image("amd64", &[b"base", b"app"]);
        layout.named(&image);
        let archive = layout.archive();
        let mut bytes = std::fs::read(archive.path()).unwrap();
        for (at, bits) in &flips {
            let at = at % bytes.len();
            bytes[at] ^= bits;
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 4));
        std::fs::write(archive.path(), &bytes).unwrap();
        if let Ok((found, names)) = copied(archive.path(), &digest(&image)) {
            prop_assert_eq!(found.root.digest, digest(&image));
            prop_assert_eq!(names.len(), 4);
        }
    }
}
