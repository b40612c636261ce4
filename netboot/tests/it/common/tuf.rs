//! The image repository of the tests: images of one template, signed with one key for all roles.

#[path = "../../../../contracts/tests/tuf/mod.rs"]
mod signer;

use serde_json::json;
use signer::Signer;
use std::path::PathBuf;

/// A repository.
pub(crate) struct Repository {
    pub(crate) folder: PathBuf,
    signer: Signer,
}

impl Repository {
    pub(crate) fn new(folder: PathBuf) -> Self {
        for part in ["metadata", "targets", "archives"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        Self { folder, signer: Signer::new() }
    }

    pub(crate) fn root_json(&self) -> Vec<u8> {
        self.signer.root()
    }

    /// Publishes one image of the template `k8s-worker`, on the channel `stable`.
    pub(crate) fn publish(&self, version: u64, uki: &[u8]) {
        self.publish_with(version, uki, None);
    }

    /// The same with a network boot program for BIOS machines.
    pub(crate) fn publish_with(&self, version: u64, uki: &[u8], network_loader: Option<&[u8]>) {
        let name = version.to_string();
        let hash = "0".repeat(64);
        let mut manifest = json!({
            "version": 1, "template": "k8s-worker", "image_version": name, "architecture": "x86_64",
            "root": { "data_bytes": 4096, "hash_bytes": 4096, "root_hash": hash },
            "archive": { "path": "archives/a.bita", "header_bytes": 1, "header_sha256": hash, "bytes": 2 },
            "uki": format!("images/k8s-worker/{name}/uki.efi"), "boot_loader": "boot", "registrar_ca": "ca",
        });
        if network_loader.is_some() {
            manifest["bios"] = json!({ "network_loader": "boot/bios/loader", "boot_sector": "boot", "core": "core" });
        }
        let channel = json!({ "version": 1, "image_version": name });
        let mut files = vec![
            (format!("images/k8s-worker/{name}/manifest.json"), manifest.to_string().into_bytes()),
            (format!("images/k8s-worker/{name}/uki.efi"), uki.to_vec()),
            ("channels/k8s-worker/stable.json".to_owned(), channel.to_string().into_bytes()),
        ];
        files.extend(network_loader.map(|bytes| ("boot/bios/loader".to_owned(), bytes.to_vec())));
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.signer.publish(&self.folder, version, &files);
    }

    /// Publishes these targets and nothing else.
    pub(crate) fn publish_files(&self, version: u64, files: &[(String, Vec<u8>)]) {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.signer.publish(&self.folder, version, &files);
    }

    /// From now on, what is published expires at this time.
    pub(crate) fn expires(&mut self, at: &'static str) {
        self.expires_apart(at, at);
    }

    /// The same, with a time of its own for timestamp and snapshot.
    pub(crate) fn expires_apart(&mut self, targets: &'static str, fresh: &'static str) {
        (self.signer.expires, self.signer.fresh) = (targets, Some(fresh));
    }
}
