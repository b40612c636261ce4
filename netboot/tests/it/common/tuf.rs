//! Signs small TUF repositories, written from the specification and not with the library that reads them.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fs, path::PathBuf};

const EXPIRES: &str = "2099-01-01T00:00:00Z";

/// A repository with one key for all roles.
pub(crate) struct Repository {
    pub(crate) folder: PathBuf,
    key: Ed25519KeyPair,
}

/// Canonical JSON: sorted keys, no white space. Our documents have plain ASCII and integers only.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(name, _)| *name);
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("\"{k}\":{}", canonical(v))).collect();
            format!("{{{}}}", pairs.join(","))
        }
        Value::Array(all) => format!("[{}]", all.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Repository {
    pub(crate) fn new(folder: PathBuf) -> Self {
        for part in ["metadata", "targets", "archives"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        Self { folder, key: Ed25519KeyPair::generate().unwrap() }
    }

    fn public(&self) -> Value {
        let public = hex::encode(self.key.public_key().as_ref());
        json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } })
    }

    fn signed(&self, document: &Value) -> Vec<u8> {
        let signature = hex::encode(self.key.sign(canonical(document).as_bytes()).as_ref());
        let id = sha256(canonical(&self.public()).as_bytes());
        json!({ "signed": document, "signatures": [{ "keyid": id, "sig": signature }] }).to_string().into_bytes()
    }

    pub(crate) fn root_json(&self) -> Vec<u8> {
        let id = sha256(canonical(&self.public()).as_bytes());
        let role = json!({ "keyids": [id], "threshold": 1 });
        self.signed(&json!({
            "_type": "root", "spec_version": "1.0.0", "version": 1, "expires": EXPIRES, "consistent_snapshot": true,
            "keys": { id: self.public() },
            "roles": { "root": role, "targets": role, "snapshot": role, "timestamp": role },
        }))
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
        let mut targets = serde_json::Map::new();
        for (path, bytes) in files {
            let place = self.folder.join("targets").join(format!("{}.{path}", sha256(&bytes)));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, &bytes).unwrap();
            let digest = json!({ "sha256": sha256(&bytes) });
            targets.insert(path, json!({ "length": bytes.len(), "hashes": digest }));
        }
        let head =
            |kind: &str| json!({ "_type": kind, "spec_version": "1.0.0", "version": version, "expires": EXPIRES });
        let document = |kind: &str, name: &str, value: Value| {
            let mut document = head(kind);
            document[name] = value;
            self.signed(&document)
        };
        let refer = |bytes: &[u8]| {
            let digest = json!({ "sha256": sha256(bytes) });
            json!({ "length": bytes.len(), "hashes": digest, "version": version })
        };
        let targets = document("targets", "targets", Value::Object(targets));
        let snapshot = document("snapshot", "meta", json!({ "targets.json": refer(&targets) }));
        let timestamp = document("timestamp", "meta", json!({ "snapshot.json": refer(&snapshot) }));
        let write = |name: String, bytes: &[u8]| fs::write(self.folder.join("metadata").join(name), bytes).unwrap();
        write("1.root.json".into(), &self.root_json());
        write("root.json".into(), &self.root_json());
        write(format!("{version}.targets.json"), &targets);
        write(format!("{version}.snapshot.json"), &snapshot);
        write("timestamp.json.new".into(), &timestamp);
        let metadata = self.folder.join("metadata");
        fs::rename(metadata.join("timestamp.json.new"), metadata.join("timestamp.json")).unwrap();
    }
}
