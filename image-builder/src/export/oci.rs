//! An OCI image layout with the image as an artifact (OCI Image Format Specification 1.1, "Image Layout" and "Guidelines for
//! Artifact Usage"). Each layer is one file of the repository with its path as title, so that a client that unpacks artifacts
//! by title (`oras pull`) is left with a repository that netboot can serve: TUF metadata, targets and archive.

use super::staged::{Staged, StagedFile};
use crate::files::{self, FileError};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, io, path::Path};

/// What the artifact is.
pub const ARTIFACT_TYPE: &str = "application/vnd.shelfboot.image.v1";

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// The descriptor of an empty document, `{}` (specification of descriptors, "Guidance for an Empty Descriptor").
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";
const TITLE: &str = "org.opencontainers.image.title";
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// No index of ours comes near this.
const INDEX_LIMIT: u64 = 4 << 20;

/// Why there is no layout.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is there is something else.
    #[error("{0} is there already and is no OCI image layout")]
    NoLayout(String),
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Digest of its manifest, `sha256:…`.
    pub digest: String,
    /// Bytes of all its blobs.
    pub bytes: u64,
}

/// A content descriptor.
#[derive(Debug, Clone, Serialize)]
struct Descriptor {
    #[serde(rename = "mediaType")]
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

/// Writes the artifact into a layout, which is made when there is none. The index, by which readers find it, is replaced last; other
/// artifacts in it stay.
///
/// # Errors
/// See [`OciError`].
pub fn write(staged: &Staged, layout: &Path) -> Result<Artifact, OciError> {
    let others = read_index(layout)?;
    let mut layers = Vec::new();
    for file in &staged.files {
        let from = staged.folder.join(&file.path);
        let descriptor = Descriptor {
            media_type: media_type(file, &staged.manifest.uki),
            digest: format!("sha256:{}", files::sha256(&from)?),
            size: files::length(&from)?,
            annotations: [(TITLE, file.path.clone())].into(),
        };
        files::publish(&from, &blob(layout, &descriptor.digest))?;
        layers.push(descriptor);
    }
    let config = Descriptor { annotations: BTreeMap::new(), ..in_memory(EMPTY_TYPE, EMPTY) };
    publish(EMPTY, &blob(layout, &config.digest), layout)?;
    let image = &staged.manifest;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": config,
        "layers": layers,
        "annotations": {
            TITLE: image.template,
            "org.opencontainers.image.version": image.image_version,
            "dev.shelfboot.architecture": image.architecture,
            "dev.shelfboot.root-hash": image.root.root_hash,
        },
    });
    let manifest = manifest.to_string().into_bytes();
    let mut descriptor = in_memory(MANIFEST_TYPE, &manifest);
    descriptor.annotations = [(REFERENCE, format!("{}-{}", image.template, image.image_version))].into();
    publish(&manifest, &blob(layout, &descriptor.digest), layout)?;
    publish(br#"{"imageLayoutVersion":"1.0.0"}"#, &layout.join("oci-layout"), layout)?;
    let index = index(&others, &descriptor);
    publish(index.to_string().as_bytes(), &layout.join("index.json"), layout)?;
    let bytes = layers.iter().map(|layer| layer.size).sum::<u64>() + config.size + descriptor.size;
    Ok(Artifact { digest: descriptor.digest, bytes })
}

fn in_memory(media_type: &'static str, content: &[u8]) -> Descriptor {
    Descriptor {
        media_type,
        digest: format!("sha256:{}", hex::encode(Sha256::digest(content))),
        size: content.len() as u64,
        annotations: BTreeMap::new(),
    }
}

fn blob(layout: &Path, digest: &str) -> std::path::PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn publish(content: &[u8], to: &Path, layout: &Path) -> Result<(), FileError> {
    let beside = layout.join(".new");
    files::write(&beside, content, 0o644)?;
    files::publish(&beside, to)?;
    files::remove(&beside)
}

/// The artifacts that a layout has already.
///
/// # Errors
/// When what is there is something else, or cannot be read.
pub fn read_index(layout: &Path) -> Result<Vec<Value>, OciError> {
    let no_layout = || OciError::NoLayout(layout.display().to_string());
    let path = layout.join("index.json");
    match files::length(&path) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
            let empty = match std::fs::read_dir(layout) {
                // Blobs of a run that was cut off are no harm.
                Ok(entries) => entries
                    .flatten()
                    .all(|e| ["blobs", ".new", "oci-layout"].contains(&&*e.file_name().to_string_lossy())),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            if empty { Ok(Vec::new()) } else { Err(no_layout()) }
        }
        Ok(bytes) if bytes > INDEX_LIMIT => Err(no_layout()),
        Err(error) => Err(error.into()),
        Ok(_) => {
            let index: Value = serde_json::from_slice(&files::read(&path)?).map_err(|_| no_layout())?;
            let manifests = index.get("manifests").and_then(Value::as_array).ok_or_else(no_layout)?;
            Ok(manifests.clone())
        }
    }
}

/// An index with this artifact, and with the others that have other names.
fn index(others: &[Value], artifact: &Descriptor) -> Value {
    let name = artifact.annotations.get(REFERENCE);
    let named_so = |other: &Value| other["annotations"][REFERENCE].as_str().map(str::to_owned) == name.cloned();
    let mut entry = json!(artifact);
    entry["artifactType"] = ARTIFACT_TYPE.into();
    let manifests: Vec<Value> = others.iter().filter(|other| !named_so(other)).cloned().chain([entry]).collect();
    json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests})
}

fn media_type(file: &StagedFile, uki: &str) -> &'static str {
    let Some(target) = &file.target else {
        return if file.path.starts_with("metadata/") {
            "application/vnd.shelfboot.tuf.v1+json"
        } else {
            "application/vnd.shelfboot.root.v1.bita"
        };
    };
    match target.rsplit('/').next().unwrap_or_default() {
        _ if target == uki => "application/vnd.shelfboot.uki.v1.efi",
        "manifest.json" => "application/vnd.shelfboot.manifest.v1+json",
        name if name.ends_with(".cdx.json") => "application/vnd.cyclonedx+json",
        name if name.ends_with(".spdx.json") => "application/spdx+json",
        name if name.contains("provenance") => "application/vnd.in-toto+json",
        _ => "application/vnd.shelfboot.file.v1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(name: &str) -> Descriptor {
        let mut descriptor = in_memory(MANIFEST_TYPE, name.as_bytes());
        descriptor.annotations = [(REFERENCE, name.to_owned())].into();
        descriptor
    }

    #[test]
    fn the_empty_document_is_the_one_of_the_specification() {
        let digest = in_memory(EMPTY_TYPE, EMPTY).digest;
        assert_eq!(digest, "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }

    #[test]
    fn an_index_has_every_name_once() {
        let one = index(&[], &descriptor("a"));
        let others = one["manifests"].as_array().unwrap().clone();
        let two = index(&others, &descriptor("b"));
        assert_eq!(two["manifests"].as_array().unwrap().len(), 2);
        let again = index(two["manifests"].as_array().unwrap(), &descriptor("a"));
        let names: Vec<_> =
            again["manifests"].as_array().unwrap().iter().map(|m| &m["annotations"][REFERENCE]).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_index(folder.path()).unwrap().is_empty());
        std::fs::write(folder.path().join("thesis.doc"), "x").unwrap();
        assert!(matches!(read_index(folder.path()), Err(OciError::NoLayout(_))));
        std::fs::write(folder.path().join("index.json"), "[]").unwrap();
        assert!(matches!(read_index(folder.path()), Err(OciError::NoLayout(_))));
    }
}
