//! Small repositories, published by the code that a build publishes with, and the program that looks after them.

use contracts::manifest::{Channel, ImageManifest, Root};
use image_builder::{
    archive, keys,
    keys::Keys,
    repository::{Expiry, Publication, Repository},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

pub(crate) const EXPIRY: Expiry = Expiry { targets_days: 365, timestamp_days: 30 };

/// A folder with keys and a repository `repo`.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
}

/// Bytes that compress a little, and differ from image to image.
pub(crate) fn noise(seed: u32, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..bytes).map(|n| if n % 3 == 0 { b'x' } else { (next() >> 9) as u8 }).collect()
}

impl World {
    /// Keys, and a repository with these images of the template `till`; the channel `stable` names the last one.
    pub(crate) async fn new(versions: &[&str]) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        keys::init(&world.path("keys")).await.unwrap();
        for version in versions {
            world.build("repo", version, 300_000).await;
        }
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Publishes an image as a build does.
    pub(crate) async fn build(&self, repository: &str, version: &str, bytes: usize) -> ImageManifest {
        let work = tempfile::tempdir().unwrap();
        let seed = version.bytes().fold(7, |sum: u32, byte| sum.wrapping_mul(31) + u32::from(byte));
        let file = |name: &str, content: &[u8]| {
            let path = work.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let (data, hashes) = (file("data", &noise(seed, bytes)), file("hashes", &noise(seed + 1, 8192)));
        let finished = archive::make(work.path(), &data, &hashes).await.unwrap();
        let manifest = ImageManifest {
            version: contracts::VERSION,
            template: "till".into(),
            image_version: version.into(),
            architecture: "x86_64".into(),
            root: Root { data_bytes: bytes as u64, hash_bytes: 8192, root_hash: "ab".repeat(32) },
            archive: finished.archive.clone(),
            uki: format!("images/till/{version}/uki.efi"),
            boot_loader: "boot/x86_64/systemd-bootx64.efi".into(),
            registrar_ca: "region/registrar-ca.pem".into(),
            bios: None,
            disks: contracts::disks::DiskPolicy::default(),
            state: Default::default(),
        };
        let channel = Channel { version: contracts::VERSION, image_version: version.into() };
        let (uki, loader, ca) = (noise(seed + 2, 200_000), noise(1, 50_000), b"CERTIFICATE".to_vec());
        let publication = Publication {
            fixed: vec![
                (
                    ImageManifest::target_name("till", version),
                    file("manifest.json", &serde_json::to_vec(&manifest).unwrap()),
                ),
                (manifest.uki.clone(), file("uki", &uki)),
            ],
            replaceable: vec![
                (manifest.boot_loader.clone(), file("loader", &loader)),
                (manifest.registrar_ca.clone(), file("ca", &ca)),
                (Channel::target_name("till", "stable"), file("channel", &serde_json::to_vec(&channel).unwrap())),
            ],
            plain: vec![(finished.archive.path, finished.path)],
        };
        let keys = Keys::open(&self.path("keys")).unwrap();
        let repository = Repository::open(&self.path(repository), keys).await.unwrap();
        repository.publish(&publication, EXPIRY).await.unwrap();
        manifest
    }

    /// The program; `@` in front of an argument is the world's folder.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_image-builder"));
        let folder = format!("{}/", self.folder.path().display());
        command.args(arguments.split(' ').map(|argument| argument.replace('@', &folder)));
        command.stdin(std::process::Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it, and shows what it said when it did not end well.
    pub(crate) fn good(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The report of `repo verify`.
    pub(crate) fn verify(&self, repository: &str) -> serde_json::Value {
        let output = self.run(&format!("repo verify @{repository} --root @keys/tuf/1.root.json --json"));
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
        assert_eq!(output.status.code(), Some(if report["verified"] == true { 0 } else { 1 }));
        report
    }

    pub(crate) fn assert_verified(&self, repository: &str) {
        let report = self.verify(repository);
        assert_eq!(report["verified"], true, "{report:#}");
    }

    /// Problems as `code file`.
    pub(crate) fn problems(&self, repository: &str) -> Vec<String> {
        let report = self.verify(repository);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let rows = report["problems"].as_array().unwrap().iter();
        rows.map(|row| format!("{} {}", text(&row["code"]), text(&row["file"]))).collect()
    }

    /// The version that `stable` names, as `repo list` says it.
    pub(crate) fn stable(&self, repository: &str) -> String {
        let listed = self.good(&format!("repo list @{repository} --keys @keys --json"));
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let images = listed["images"].as_array().unwrap().iter();
        let named: Vec<_> = images.filter(|image| image["channels"][0] == "stable").collect();
        assert_eq!(named.len(), 1, "{listed:#}");
        named[0]["image_version"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every file below a folder, by path.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let (mut open, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// The head of a program for 64-bit firmware, with one section.
pub(crate) fn program() -> Vec<u8> {
    let mut image = noise(3, 1024);
    image[..512].fill(0);
    for (at, bytes) in [
        (0, &b"MZ"[..]),
        (0x3c, &[0x40]),
        (0x40, b"PE\0\0"),
        (0x46, &[1]),
        (0x54, &[240]),
        (0x58, &[0x0b, 2]),
        (0x58 + 60, &[0, 2]),
        (0x58 + 108, &[16]),
        (0x58 + 240 + 16, &[0, 2]),
        (0x58 + 240 + 20, &[0, 2]),
    ] {
        image[at..at + bytes.len()].copy_from_slice(bytes);
    }
    image
}
