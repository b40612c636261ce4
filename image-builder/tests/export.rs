//! `image-builder export --format oci` against small repositories: what is believed, what is refused, what comes out. Formats that
//! need image tools are tested where they start machines: `cargo xtask e2e iso-thin`, `iso-offline`, `disk-image`.

use contracts::{
    VERSION,
    manifest::{Archive, Channel, ImageManifest, Root},
};
use image_builder::{
    archive,
    keys::{self, Keys},
    repository::{Expiry, Publication, Repository},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

const EXPIRY: Expiry = Expiry { targets_days: 365, timestamp_days: 30 };

struct Shop {
    folder: TempDir,
    keys: Keys,
    archive: Archive,
}

impl Shop {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys::init(&folder.path().join("keys")).await.unwrap();
        let archive = Archive { path: String::new(), header_bytes: 0, header_sha256: String::new(), bytes: 0 };
        let mut shop = Self { folder, keys, archive };
        shop.publish("1", EXPIRY).await;
        shop.publish("2", EXPIRY).await;
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn publish(&mut self, version: &str, expiry: Expiry) {
        let (data, tree) = (self.path("data"), self.path("tree"));
        fs::write(&data, format!("root {version} ").repeat(20_000)).unwrap();
        fs::write(&tree, "tree").unwrap();
        let made = archive::make(self.folder.path(), &data, &tree).await.unwrap();
        let manifest = ImageManifest {
            version: VERSION,
            template: "till".into(),
            image_version: version.into(),
            architecture: "x86_64".into(),
            root: Root { data_bytes: data.metadata().unwrap().len(), hash_bytes: 4, root_hash: "ab".repeat(32) },
            archive: made.archive.clone(),
            uki: format!("images/till/{version}/uki.efi"),
            boot_loader: "boot/loader.efi".into(),
            registrar_ca: "region/ca.pem".into(),
            bios: None,
            disks: contracts::disks::DiskPolicy::default(),
            state: Default::default(),
        };
        self.archive = made.archive.clone();
        let file = |name: &str, content: Vec<u8>| {
            let path = self.path(name);
            fs::write(&path, content).unwrap();
            path
        };
        let beside = |name: &str| format!("images/till/{version}/{name}");
        let publication = Publication {
            fixed: vec![
                (beside("manifest.json"), file("m", serde_json::to_vec(&manifest).unwrap())),
                (beside("uki.efi"), file("u", b"boot image".to_vec())),
                (beside("provenance.json"), file("p", b"{}".to_vec())),
            ],
            replaceable: vec![
                ("boot/loader.efi".into(), file("l", b"loader".to_vec())),
                ("region/ca.pem".into(), file("c", b"certificate".to_vec())),
                (
                    Channel::target_name("till", "stable"),
                    file(
                        "s",
                        serde_json::to_vec(&Channel { version: VERSION, image_version: version.into() }).unwrap(),
                    ),
                ),
            ],
            plain: vec![(made.archive.path, made.path)],
        };
        let repository = Repository::open(&self.path("repository"), self.keys.clone()).await.unwrap();
        repository.publish(&publication, expiry).await.unwrap();
    }

    fn export(&self, image: &str, root: &Path, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_image-builder"));
        command.args(["export", image, "--format", "oci", "--repository"]).arg(self.path("repository"));
        command.arg("--root").arg(root).arg("--out").arg(self.path("layout")).args(more);
        command.env("LC_ALL", "C").output().unwrap()
    }

    fn refused(&self, image: &str, code: i32) -> String {
        let output = self.export(image, &self.keys.root_json(), &[]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(!self.path("layout/index.json").exists(), "there is an output all the same");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The last event.
fn summary(output: &Output) -> Value {
    let last = output.stdout.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap();
    let summary: Value = serde_json::from_slice(last).unwrap();
    assert_eq!(summary["event"], "summary");
    summary
}

/// The blob of a descriptor, with its digest and length checked.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = fs::read(layout.join("blobs/sha256").join(digest)).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&bytes)), digest);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

/// What an artifact client leaves behind: every layer under its title.
fn pull(layout: &Path, manifest: &Value, to: &Path) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap();
    let titles = layers.iter().map(|layer| {
        let title = layer["annotations"]["org.opencontainers.image.title"].as_str().unwrap();
        let path = to.join(title);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, blob(layout, layer)).unwrap();
        title.to_owned()
    });
    titles.collect()
}

#[tokio::test]
async fn a_layout_holds_a_repository_of_one_image_and_several_images() {
    let shop = Shop::new().await;
    let (layout, root) = (shop.path("layout"), shop.keys.root_json());
    let output = shop.export("till@1", &root, &["--json"]);
    assert!(output.status.success(), "{output:?}");
    let summary = summary(&output);
    assert_eq!((&summary["image_version"], &summary["format"]), (&"1".into(), &"oci".into()));

    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let index = json(&layout.join("index.json"));
    let descriptor = &index["manifests"][0];
    assert_eq!(descriptor["digest"], summary["digest"]);
    assert_eq!(descriptor["annotations"]["org.opencontainers.image.ref.name"], "till-1");
    let manifest: Value = serde_json::from_slice(&blob(&layout, descriptor)).unwrap();
    assert_eq!(manifest["artifactType"], "application/vnd.shelfboot.image.v1");
    assert_eq!(blob(&layout, &manifest["config"]), b"{}");

    // What comes out is a repository for whoever has the root of trust.
    let pulled = shop.path("pulled");
    let titles = pull(&layout, &manifest, &pulled);
    assert!(titles.iter().any(|title| title.ends_with("images/till/1/provenance.json")), "{titles:?}");
    assert!(!titles.iter().any(|title| title.contains("images/till/2")), "{titles:?}");
    fs::rename(&pulled, shop.path("again")).unwrap();
    fs::rename(shop.path("repository"), shop.path("first")).unwrap();
    fs::rename(shop.path("again"), shop.path("repository")).unwrap();
    let again = shop.export("till@1", &root, &["--json"]);
    assert!(again.status.success(), "{again:?}");
    let again = self::summary(&again);
    assert_eq!(again["digest"], summary["digest"], "the same image makes the same artifact");
    assert_eq!(json(&layout.join("index.json")), index);

    fs::rename(shop.path("repository"), shop.path("again")).unwrap();
    fs::rename(shop.path("first"), shop.path("repository")).unwrap();
    assert!(shop.export("till", &root, &[]).status.success());
    let index = json(&layout.join("index.json"));
    let names: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|m| &m["annotations"]).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(names[1]["org.opencontainers.image.ref.name"], "till-2", "its channel names the newest");
}

#[tokio::test]
async fn what_cannot_be_believed_is_not_exported() {
    let shop = Shop::new().await;
    let stderr = shop.refused("till@3", 3);
    assert!(stderr.contains("no target images/till/3/manifest.json"), "{stderr}");
    let stderr = shop.refused("till:canary", 3);
    assert!(stderr.contains("no target channels/till/canary.json"), "{stderr}");

    let other = keys::init(&shop.path("other")).await.unwrap();
    let output = shop.export("till", &other.root_json(), &[]);
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("cannot be believed with this root of trust"), "{stderr}");

    let archive = shop.path("repository").join(&shop.archive.path);
    let good = fs::read(&archive).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&archive, &bad).unwrap();
    let stderr = shop.refused("till", 3);
    assert!(stderr.contains("the archive cannot be believed") && stderr.contains("because: chunk "), "{stderr}");
    fs::write(&archive, &good).unwrap();

    let uki = format!("{}.images/till/2/uki.efi", hex::encode(Sha256::digest(b"boot image")));
    fs::write(shop.path("repository/targets").join(uki), b"boot imagE").unwrap();
    let stderr = shop.refused("till", 3);
    assert!(stderr.contains("the target images/till/2/uki.efi cannot be believed"), "{stderr}");
}

#[tokio::test]
async fn an_expired_repository_and_a_folder_of_something_else_are_refused() {
    let mut shop = Shop::new().await;
    fs::create_dir(shop.path("layout")).unwrap();
    fs::write(shop.path("layout/thesis"), "x").unwrap();
    let stderr = shop.refused("till", 2);
    assert!(stderr.contains("is no OCI image layout"), "{stderr}");
    fs::remove_dir_all(shop.path("layout")).unwrap();

    shop.publish("3", Expiry { targets_days: -1, timestamp_days: -1 }).await;
    let stderr = shop.refused("till", 3);
    assert!(stderr.contains("expired") && stderr.contains("publishing again"), "{stderr}");
}
