//! Container images as they are exchanged: the OCI Image Format Specification 1.1, as a layout in a folder or as the same in a
//! tar file. Everything is found by its digest, and nothing is believed that does not have it.
//!
//! Start reading at [`find`], then [`copy`].

mod documents;
mod source;

use documents::platform_of;
pub use documents::{Descriptor, Kind, Manifest, Platform, read_blob};
pub use source::Source;

use crate::files::{self, FileError};
use contracts::exit::Code;
use std::path::{Path, PathBuf};

/// What images of this project run on (the names of Go's GOOS and GOARCH, as the specification wants them).
pub const PLATFORM: (&str, &str) = ("linux", "amd64");

/// A manifest, an index or a configuration; containerd itself reads no more than 8 MiB of them.
const MAX_DOCUMENT: u64 = 4 << 20;
/// An index may name indexes.
const MAX_DEPTH: usize = 4;

/// Why a container image could not be used.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Neither a tar file nor a layout.
    #[error("{} is neither an OCI archive nor an OCI image layout: {why}", path.display())]
    NoLayout {
        /// Where.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// There is no such blob.
    #[error("{} does not hold {digest}", path.display())]
    NoBlob {
        /// Where.
        path: PathBuf,
        /// What was looked for.
        digest: String,
        /// The images that its index names, one line each.
        holds: Vec<String>,
    },
    /// A blob is not what its digest says.
    #[error("{digest} in {} is damaged: {why}", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// Which.
        digest: String,
        /// In which way.
        why: String,
    },
    /// A document that cannot be understood.
    #[error("{digest} in {} cannot be used: {why}", path.display())]
    Document {
        /// Where.
        path: PathBuf,
        /// Which.
        digest: String,
        /// Why not.
        why: String,
    },
    /// Made for other machines.
    #[error("{} has no image for {}/{} below {digest}, but for {found}", path.display(), PLATFORM.0, PLATFORM.1)]
    Platform {
        /// Where.
        path: PathBuf,
        /// Which.
        digest: String,
        /// What there is instead.
        found: String,
    },
}

impl OciError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File(_) => "name a file or folder that exists and that you may read".into(),
            Self::NoLayout { .. } => "name a tar file or a folder with the files oci-layout and index.json".into(),
            Self::NoBlob { holds, .. } if !holds.is_empty() => {
                format!("write the digest of one of its images in 'containerImages': {}", holds.join("; "))
            }
            Self::NoBlob { .. } | Self::Damaged { .. } => {
                "fetch the image again, with everything that belongs to it".into()
            }
            Self::Document { .. } => "only images of the OCI format or of Docker's second one can be used".into(),
            Self::Platform { .. } => format!("fetch the image for {}/{}", PLATFORM.0, PLATFORM.1),
        })
    }

    /// Whose fault it is.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::File(file) if file.action != "read" && file.action != "look at" => Code::Failed,
            _ => Code::Input,
        }
    }
}

/// An image whose documents have been read and whose layers are there.
#[derive(Debug, Clone)]
pub struct Image {
    /// What the pinned digest names: a manifest or an index.
    pub root: Descriptor,
    /// The digest of its configuration, by which runtimes know the image itself.
    pub id: String,
    /// Manifest, configuration and, where there are some, indexes: digest and content.
    documents: Vec<(String, Vec<u8>)>,
    layers: Vec<Descriptor>,
}

/// Reads what the digest names, down to the manifest for [`PLATFORM`], and sees that every layer is there. The layers' content
/// is not looked at.
///
/// # Errors
/// See [`OciError`].
pub fn find(source: &Source, digest: &str) -> Result<Image, OciError> {
    let mut documents: Vec<(String, Vec<u8>)> = Vec::new();
    let mut root = None;
    let mut next = digest.to_owned();
    for _ in 0..MAX_DEPTH {
        let bytes = source.document(&next, MAX_DOCUMENT)?;
        let read = read_blob(&bytes).map_err(|why| source.unusable(&next, why))?;
        let root = root.get_or_insert(Descriptor::new(read.media_type(), &next, bytes.len() as u64)).clone();
        documents.push((next.clone(), bytes));
        match read {
            Kind::Index(index) => {
                let fits = |entry: &&Descriptor| entry.platform.as_ref().is_none_or(Platform::fits);
                let Some(entry) = index.manifests.iter().find(fits) else {
                    let found = index.manifests.iter().filter_map(|entry| Some(entry.platform.as_ref()?.to_string()));
                    return Err(source.wrong_platform(digest, &found.collect::<Vec<_>>().join(", ")));
                };
                next.clone_from(&entry.digest);
            }
            Kind::Manifest(Manifest { config, layers, .. }) => {
                let bytes = source.document(&config.digest, MAX_DOCUMENT)?;
                source.check_length(&config, bytes.len() as u64)?;
                let made_for = platform_of(&bytes).map_err(|why| source.unusable(&config.digest, why))?;
                if !made_for.fits() {
                    return Err(source.wrong_platform(digest, &made_for.to_string()));
                }
                documents.push((config.digest.clone(), bytes));
                layers.iter().try_for_each(|layer| source.check_presence(layer))?;
                return Ok(Image { root, id: config.digest, documents, layers });
            }
        }
    }
    Err(source.unusable(digest, format!("its indexes name each other more than {MAX_DEPTH} times")))
}

/// Copies an image into a folder with one file per blob, named by its digest, and checks every byte. What is in the folder
/// already has been checked. Gives the bytes that were written.
///
/// # Errors
/// See [`OciError`].
pub fn copy(source: &Source, image: &Image, blobs: &Path) -> Result<u64, OciError> {
    let mut written = 0;
    for (digest, bytes) in &image.documents {
        let place = blobs.join(source.digits(digest)?);
        if !place.exists() {
            files::write(&place, bytes, 0o644)?;
            written += bytes.len() as u64;
        }
    }
    for layer in &image.layers {
        let place = blobs.join(source.digits(&layer.digest)?);
        if !place.exists() {
            source.copy_blob(layer, &place)?;
            written += layer.size;
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests;
