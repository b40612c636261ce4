//! Reads images from a repository on this machine. Nothing is locked and nothing is written.

use crate::files::{self, FileError, at};
use contracts::manifest::{Channel, ImageManifest};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tough::{ExpirationEnforcement, FilesystemTransport, IntoVec, RepositoryLoader, TargetName};
use url::Url;

/// No manifest or channel is larger.
const MAX_DOCUMENT: u64 = 1 << 20;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// What is there is no repository, is damaged, or is signed by other keys.
    #[error("the repository {} cannot be read", path.display())]
    Load {
        /// The repository.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// Not `TEMPLATE@VERSION`.
    #[error("'{0}' names no image")]
    Reference(String),
    /// No such version, and no such channel.
    #[error("the repository has no image {reference}")]
    Unknown {
        /// What was asked for.
        reference: String,
        /// What there is, sorted.
        known: Vec<String>,
    },
    /// The image has no such file.
    #[error("the image has no {0}")]
    NoTarget(String),
    /// A file does not match its signed digest, or cannot be read.
    #[error("{name} cannot be read")]
    Target {
        /// Its TUF target name.
        name: String,
        /// What is wrong.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// A file is larger than any that image-builder writes.
    #[error("{name} has {bytes} bytes, more than the {limit} that are read")]
    TooBig {
        /// Its TUF target name.
        name: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A file is no document of this version.
    #[error("{name} cannot be understood")]
    Document {
        /// Its TUF target name.
        name: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A repository, verified from its root of trust down.
#[derive(Debug)]
pub struct Published {
    folder: PathBuf,
    tuf: tough::Repository,
}

/// One image of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The template.
    pub template: String,
    /// The version.
    pub image_version: String,
}

impl std::fmt::Display for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.template, self.image_version)
    }
}

impl Published {
    /// Opens a repository. Without `trust` its own first root is believed: that finds damage, and no forgery. Metadata may have
    /// expired, since an old image can still be looked at.
    ///
    /// # Errors
    /// [`PublishedError::Load`] and [`PublishedError::File`].
    pub async fn open(folder: &Path, trust: Option<&Path>) -> Result<Self, PublishedError> {
        let folder = fs::canonicalize(folder).map_err(at("look at", folder))?;
        let own = folder.join("metadata/1.root.json");
        let root = files::read(trust.unwrap_or(&own))?;
        let url = |part: &str| {
            #[expect(clippy::expect_used, reason = "the folder is absolute, and an absolute path always is a file URL")]
            Url::from_directory_path(folder.join(part)).expect("absolute path")
        };
        let loader = RepositoryLoader::new(&root, url("metadata"), url("targets"))
            .transport(FilesystemTransport)
            .expiration_enforcement(ExpirationEnforcement::Unsafe);
        let load = |source| PublishedError::Load { path: folder.clone(), source: Box::new(source) };
        let tuf = loader.load().await.map_err(load)?;
        Ok(Self { folder, tuf })
    }

    /// The folder of the repository.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The image that `TEMPLATE@VERSION` or `TEMPLATE:CHANNEL` names. After an `@` may be a channel, too: a version goes before
    /// a channel of that name.
    ///
    /// # Errors
    /// [`PublishedError::Reference`], [`PublishedError::Unknown`], and what reading the channel brings.
    pub async fn find(&self, reference: &str) -> Result<Image, PublishedError> {
        let (template, name) =
            reference.split_once(['@', ':']).ok_or_else(|| PublishedError::Reference(reference.to_owned()))?;
        let image = |version: &str| Image { template: template.to_owned(), image_version: version.to_owned() };
        let has = |version: &str| self.target(&ImageManifest::target_name(template, version)).is_some();
        if !reference.contains(':') && has(name) {
            return Ok(image(name));
        }
        let channel = Channel::target_name(template, name);
        if self.target(&channel).is_some() {
            let channel: Channel = self.document(&channel).await?;
            if has(&channel.image_version) {
                return Ok(image(&channel.image_version));
            }
        }
        Err(PublishedError::Unknown { reference: reference.to_owned(), known: self.images() })
    }

    /// Every image, as `TEMPLATE@VERSION`, sorted.
    #[must_use]
    pub fn images(&self) -> Vec<String> {
        let names = self.tuf.targets().signed.targets.keys();
        let image = |name: &TargetName| match name.raw().split('/').collect::<Vec<_>>().as_slice() {
            ["images", template, version, "manifest.json"] => Some(format!("{template}@{version}")),
            _ => None,
        };
        let mut images: Vec<String> = names.filter_map(image).collect();
        images.sort();
        images
    }

    /// Length and SHA-256 of a target, as signed.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<(u64, String)> {
        let target = self.tuf.targets().signed.targets.get(&TargetName::new(name).ok()?)?;
        Some((target.length, hex::encode(&target.hashes.sha256)))
    }

    /// Reads a target whole, checked against its signed digest.
    ///
    /// # Errors
    /// See [`PublishedError`].
    pub async fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, PublishedError> {
        let wrong = |source| PublishedError::Target { name: name.to_owned(), source: Box::new(source) };
        let missing = || PublishedError::NoTarget(name.to_owned());
        let (bytes, _) = self.target(name).ok_or_else(missing)?;
        if bytes > limit {
            return Err(PublishedError::TooBig { name: name.to_owned(), bytes, limit });
        }
        let target = TargetName::new(name).map_err(wrong)?;
        let stream = self.tuf.read_target(&target).await.map_err(wrong)?.ok_or_else(missing)?;
        stream.into_vec().await.map_err(wrong)
    }

    /// Reads a small document.
    ///
    /// # Errors
    /// See [`PublishedError`].
    pub async fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, PublishedError> {
        let bytes = self.read(name, MAX_DOCUMENT).await?;
        serde_json::from_slice(&bytes).map_err(|source| PublishedError::Document { name: name.to_owned(), source })
    }
}
