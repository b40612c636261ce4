//! What a repository's metadata needs to lie beside it: the bytes of targets, and the archives that manifests name.

use super::{Problem, layout};
use contracts::{
    Versioned,
    manifest::{Channel, ImageManifest},
    rollout::Rollout,
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};
use tough::schema::Target;

/// Documents are small; this bounds what is read into memory.
pub const LARGEST_DOCUMENT: u64 = 1 << 20;

/// The kinds of targets that have a meaning of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// `images/TEMPLATE/VERSION/manifest.json`.
    Manifest(Box<ImageManifest>),
    /// `channels/TEMPLATE/CHANNEL.json`.
    Channel(Channel),
    /// `rollouts/TEMPLATE/CHANNEL.json`.
    Rollout(Box<Rollout>),
}

/// Whether [`read_document`] knows what a target of this name means. Others may be of any size: a list of software has megabytes.
#[must_use]
pub fn is_document(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    matches!(parts.as_slice(), ["images", _, _, "manifest.json"] | ["channels" | "rollouts", _, _])
}

/// Reads a target that has a meaning of its own; `None` for all others.
///
/// # Errors
/// Why it cannot be believed, in words.
pub fn read_document(name: &str, bytes: &[u8]) -> Option<Result<Document, String>> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["images", template, version, "manifest.json"] => Some(manifest(template, version, bytes)),
        ["channels", _, _] => Some(read::<Channel>(bytes).map(Document::Channel)),
        ["rollouts", template, channel] => Some(rollout(template, channel.trim_end_matches(".json"), bytes)),
        _ => None,
    }
}

fn read<T: Versioned + DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    contracts::read(bytes).map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

fn manifest(template: &str, version: &str, bytes: &[u8]) -> Result<Document, String> {
    let manifest: ImageManifest = read(bytes)?;
    manifest.check(template, version)?;
    Ok(Document::Manifest(Box::new(manifest)))
}

fn rollout(template: &str, channel: &str, bytes: &[u8]) -> Result<Document, String> {
    let rollout: Rollout = read(bytes)?;
    if rollout.template != template || rollout.channel != channel {
        return Err(format!("it is about {} {}", rollout.template, rollout.channel));
    }
    rollout.check().map_err(|error| error.to_string())?;
    Ok(Document::Rollout(Box::new(rollout)))
}

/// What the documents of one set of targets say.
#[derive(Debug, Default, Clone)]
pub struct Content {
    /// Manifests by target name.
    pub manifests: BTreeMap<String, ImageManifest>,
    /// Channels by target name.
    pub channels: BTreeMap<String, Channel>,
    /// Rollouts by target name.
    pub rollouts: BTreeMap<String, Rollout>,
}

impl Content {
    /// Adds a document.
    pub fn add(&mut self, name: &str, document: Document) {
        match document {
            Document::Manifest(manifest) => drop(self.manifests.insert(name.to_owned(), *manifest)),
            Document::Channel(channel) => drop(self.channels.insert(name.to_owned(), channel)),
            Document::Rollout(rollout) => drop(self.rollouts.insert(name.to_owned(), *rollout)),
        }
    }

    /// The version that a channel of a template names.
    #[must_use]
    pub fn channel(&self, template: &str, channel: &str) -> Option<&str> {
        self.channels.get(&Channel::target_name(template, channel)).map(|channel| channel.image_version.as_str())
    }

    /// True when an image is there.
    #[must_use]
    pub fn has_image(&self, template: &str, version: &str) -> bool {
        self.manifests.contains_key(&ImageManifest::target_name(template, version))
    }

    /// What documents name and `has` does not know.
    #[must_use]
    pub fn dangling(&self, has: impl Fn(&str) -> bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, manifest) in &self.manifests {
            for target in manifest.targets().into_iter().filter(|target| !has(target)) {
                problems.push(Problem::new(
                    name,
                    "dangling",
                    format!("it names the target {target}, which is not there"),
                ));
            }
        }
        let channels = self.channels.iter().filter_map(|(name, channel)| {
            let template = name.split('/').nth(1)?;
            Some((name, template, channel.image_version.as_str()))
        });
        let rollouts = self
            .rollouts
            .iter()
            .map(|(name, rollout)| (name, rollout.template.as_str(), rollout.image_version.as_str()));
        for (name, template, version) in channels.chain(rollouts) {
            if !has(&ImageManifest::target_name(template, version)) {
                let message = format!("it names {template} {version}, which is not there");
                problems.push(Problem::new(name, "dangling", message));
            }
        }
        problems
    }
}

/// Checks the bytes of one target under both of its names, and gives them when they are small.
#[must_use]
pub fn check_target(folder: &Path, name: &str, target: &Target) -> (Option<Vec<u8>>, Vec<Problem>) {
    let paths = layout::target_paths(name, &hex::encode(&target.hashes.sha256));
    let mut problems = Vec::new();
    let mut bytes = None;
    let mut seen = None;
    for path in &paths {
        let inode = std::fs::metadata(folder.join(path)).ok().map(|found| (found.dev(), found.ino()));
        if inode.is_some() && inode == seen {
            continue;
        }
        match hash_file(&folder.join(path), target) {
            Ok(read) => {
                seen = inode;
                bytes = bytes.or(read);
            }
            Err((code, message)) => problems.push(Problem::new(path, code, message)),
        }
    }
    (bytes, problems)
}

/// Reads a file once: hashes it, and keeps it when it is a small document.
fn hash_file(path: &Path, target: &Target) -> Result<Option<Vec<u8>>, (&'static str, String)> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => ("missing", "it is not there".to_owned()),
        _ => ("unreadable", error.to_string()),
    };
    let found = std::fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(("missing", "it is not a file".to_owned()));
    }
    if found.len() != target.length {
        return Err(("length", format!("it has {} bytes instead of {}", found.len(), target.length)));
    }
    let mut file = File::open(path).map_err(failed)?.take(target.length + 1);
    let mut kept = (target.length <= LARGEST_DOCUMENT).then(Vec::new);
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            length => {
                hasher.update(&buffer[..length]);
                if let Some(kept) = &mut kept {
                    kept.extend_from_slice(&buffer[..length]);
                }
            }
        }
    }
    if hasher.finalize()[..] != target.hashes.sha256[..] {
        return Err(("hash", "its bytes are not the ones that were signed".to_owned()));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_software_is_no_document_of_the_repository() {
        for name in ["images/till/1/manifest.json", "channels/till/stable.json", "rollouts/till/stable.json"] {
            assert!(is_document(name), "{name}");
        }
        for name in ["images/till/1/sbom.cdx.json", "images/till/1/provenance.dsse.json", "region/registrar-ca.pem"] {
            assert!(!is_document(name) && read_document(name, b"{}").is_none(), "{name}");
        }
    }

    #[test]
    fn a_document_speaks_for_its_own_name_only() {
        let hash = "ab".repeat(32);
        let manifest = serde_json::json!({
            "version": 1, "template": "till", "image_version": "1", "architecture": "x86_64",
            "root": { "data_bytes": 4096, "hash_bytes": 4096, "root_hash": hash },
            "archive": { "path": format!("archives/{hash}.bita"), "header_bytes": 1, "header_sha256": hash, "bytes": 2 },
            "uki": "u", "boot_loader": "b", "registrar_ca": "c",
        });
        let read = |name: &str, document: &serde_json::Value| read_document(name, document.to_string().as_bytes());
        assert!(matches!(read("images/till/1/manifest.json", &manifest), Some(Ok(Document::Manifest(_)))));
        assert!(matches!(read("images/till/2/manifest.json", &manifest), Some(Err(_))));
        assert!(read("images/till/1/uki.efi", &manifest).is_none());
        let mut outside = manifest.clone();
        outside["archive"]["path"] = "../keys".into();
        assert!(matches!(read("images/till/1/manifest.json", &outside), Some(Err(_))));
    }
}
