//! `image-builder diff`: what is different between two images of a repository, and what an update from one to the other
//! transfers.
//!
//! [`diff()`] reads; [`compare`] decides, without files; [`table`] shows.

mod chunks;
pub mod compare;
pub mod table;

use crate::{
    published::{Image, Published, PublishedError},
    sbom::{Format, cyclonedx::Bom},
};
pub use chunks::ChunksError;
pub use compare::{Difference, Side};
use contracts::manifest::ImageManifest;
use std::path::Path;

/// No list of packages and files is larger: some 200,000 files.
pub const MAX_LIST: u64 = 64 << 20;

/// Why two images could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The repository.
    #[error(transparent)]
    Published(#[from] PublishedError),
    /// An archive.
    #[error("the archive of {image} cannot be read")]
    Chunks {
        /// Whose.
        image: String,
        /// Why.
        #[source]
        source: ChunksError,
    },
}

/// Compares two images, each `TEMPLATE@VERSION` or `TEMPLATE:CHANNEL`.
///
/// # Errors
/// See [`DiffError`].
pub async fn diff(repository: &Path, trust: Option<&Path>, from: &str, to: &str) -> Result<Difference, DiffError> {
    let published = Published::open(repository, trust).await?;
    let (from, to) = (published.find(from).await?, published.find(to).await?);
    Ok(compare::compare(&side(&published, &from).await?, &side(&published, &to).await?))
}

async fn side(published: &Published, image: &Image) -> Result<Side, DiffError> {
    let Image { template, image_version } = image;
    let manifest: ImageManifest = published.document(&ImageManifest::target_name(template, image_version)).await?;
    let name = Format::Cyclonedx.target_name(template, image_version);
    let bytes = published.read(&name, MAX_LIST).await?;
    let list: Bom = serde_json::from_slice(&bytes).map_err(|source| PublishedError::Document { name, source })?;
    let uki = published.target(&manifest.uki).ok_or_else(|| PublishedError::NoTarget(manifest.uki.clone()))?;
    let chunks = chunks::read(published.folder(), &manifest).await;
    let chunks = chunks.map_err(|source| DiffError::Chunks { image: image.to_string(), source })?;
    Ok(Side { name: image.to_string(), manifest, uki, chunks, list })
}
