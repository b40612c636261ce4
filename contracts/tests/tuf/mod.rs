//! Signs small TUF repositories, written from the specification and not with the library that reads them.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fs, path::Path};

const EXPIRES: &str = "2099-01-01T00:00:00Z";

/// One key for all roles.
pub(crate) struct Signer {
    key: Ed25519KeyPair,
    /// When what it publishes expires; its root does later.
    pub(crate) expires: &'static str,
    /// When timestamp and snapshot do, where that is another time.
    pub(crate) fresh: Option<&'static str>,
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

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Signer {
    pub(crate) fn new() -> Self {
        Self { key: Ed25519KeyPair::generate().unwrap(), expires: EXPIRES, fresh: None }
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

    pub(crate) fn root(&self) -> Vec<u8> {
        let id = sha256(canonical(&self.public()).as_bytes());
        let role = json!({ "keyids": [id], "threshold": 1 });
        self.signed(&json!({
            "_type": "root", "spec_version": "1.0.0", "version": 1, "expires": EXPIRES, "consistent_snapshot": true,
            "keys": { id: self.public() },
            "roles": { "root": role, "targets": role, "snapshot": role, "timestamp": role },
        }))
    }

    /// Writes targets and all metadata at this version.
    pub(crate) fn publish(&self, folder: &Path, version: u64, files: &[(&str, &[u8])]) {
        let metadata = folder.join("metadata");
        fs::create_dir_all(&metadata).unwrap();
        let mut targets = serde_json::Map::new();
        for (name, bytes) in files {
            let place = folder.join("targets").join(format!("{}.{name}", sha256(bytes)));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, bytes).unwrap();
            let digest = json!({ "sha256": sha256(bytes) });
            targets.insert((*name).to_owned(), json!({ "length": bytes.len(), "hashes": digest }));
        }
        let document = |kind: &str, name: &str, value: Value| {
            let expires = self.fresh.filter(|_| kind != "targets").unwrap_or(self.expires);
            let mut document =
                json!({ "_type": kind, "spec_version": "1.0.0", "version": version, "expires": expires });
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
        for (name, bytes) in [
            ("1.root.json".to_owned(), &self.root()),
            ("root.json".to_owned(), &self.root()),
            (format!("{version}.targets.json"), &targets),
            (format!("{version}.snapshot.json"), &snapshot),
            ("timestamp.json.new".to_owned(), &timestamp),
        ] {
            fs::write(metadata.join(name), bytes).unwrap();
        }
        // It leads to everything else, and a reader may look at any moment.
        fs::rename(metadata.join("timestamp.json.new"), metadata.join("timestamp.json")).unwrap();
    }
}
