//! The documents of an image: index, manifest, configuration. Only what is needed of them; unknown fields are tolerated, as the
//! specification asks.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Names a blob (OCI Content Descriptors).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// What it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Words for people and programs.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

impl Descriptor {
    /// One without anything else.
    #[must_use]
    pub fn new(media_type: &str, digest: &str, size: u64) -> Self {
        let (media_type, digest) = (media_type.to_owned(), digest.to_owned());
        Self { media_type, digest, size, platform: None, annotations: Default::default() }
    }
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// For example `linux`.
    pub os: String,
    /// For example `amd64`.
    pub architecture: String,
}

impl Platform {
    /// True when it runs on the machines that images are built for.
    #[must_use]
    pub fn fits(&self) -> bool {
        (self.os.as_str(), self.architecture.as_str()) == super::PLATFORM
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// Manifests by platform.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// Its media type; OCI allows to leave it out.
    #[serde(default)]
    pub media_type: Option<String>,
    /// What it names.
    pub manifests: Vec<Descriptor>,
}

/// One image for one platform.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Its media type; OCI allows to leave it out.
    #[serde(default)]
    pub media_type: Option<String>,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// What the digest of an image may name.
#[derive(Debug, Clone)]
pub enum Kind {
    /// An index.
    Index(Index),
    /// A manifest.
    Manifest(Manifest),
}

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What containerd unpacks.
const LAYERS: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

impl Kind {
    /// As the document says, or as its shape does.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Index(index) => index.media_type.as_deref().unwrap_or(OCI_INDEX),
            Self::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST),
        }
    }
}

/// Reads a manifest or an index: what has no media type is told by its fields.
///
/// # Errors
/// Says why it is neither.
pub fn read_blob(bytes: &[u8]) -> Result<Kind, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Any {
        schema_version: u32,
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        layers: Option<serde::de::IgnoredAny>,
    }
    let json = |error: serde_json::Error| format!("it is no manifest ({error})");
    let any: Any = serde_json::from_slice(bytes).map_err(json)?;
    if any.schema_version != 2 {
        return Err(format!("its schemaVersion is {}", any.schema_version));
    }
    match (any.media_type.as_deref(), any.manifests, any.layers) {
        // Both at once could be read either way (CVE-2021-41190).
        (_, Some(_), Some(_)) => Err("it has both manifests and layers".into()),
        (Some(OCI_INDEX | DOCKER_INDEX) | None, Some(_), None) => {
            Ok(Kind::Index(serde_json::from_slice(bytes).map_err(json)?))
        }
        (Some(OCI_MANIFEST | DOCKER_MANIFEST) | None, None, Some(_)) => {
            let manifest: Manifest = serde_json::from_slice(bytes).map_err(json)?;
            match manifest.layers.iter().find(|layer| !LAYERS.contains(&layer.media_type.as_str())) {
                Some(layer) => Err(format!("it has a layer of the type {}", layer.media_type)),
                None => Ok(Kind::Manifest(manifest)),
            }
        }
        (Some(other), ..) => Err(format!("its media type is {other}")),
        (None, ..) => Err("it has neither manifests nor layers".into()),
    }
}

/// What a configuration says that the image was made for.
pub(super) fn platform_of(bytes: &[u8]) -> Result<Platform, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("it is no configuration of an image ({error})"))
}

/// The digits of a digest; SHA-256 is the only kind that is used.
pub(super) fn digits(digest: &str) -> Option<&str> {
    let digits = digest.strip_prefix("sha256:")?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (digits.len() == 64 && digits.bytes().all(hex)).then_some(digits)
}
