//! What an image is made of, as CycloneDX 1.6 and SPDX 2.3.
//!
//! [`collect()`] looks at the trees and makes an [`Inventory`]; [`cyclonedx`] and [`spdx`] write it. The CycloneDX list is part
//! of every image and is what [`crate::diff`] reads.

pub mod collect;
pub mod copyright;
pub mod cyclonedx;
pub mod dpkg;
pub mod inventory;
pub mod known;
pub mod licence;
mod look;
pub mod origin;
pub mod spdx;
#[cfg(test)]
mod tests;

use crate::files::{self, FileError};
pub use collect::{Trees, collect};
pub use inventory::{Inventory, Pins};
pub use known::Known;
use std::path::{Path, PathBuf};

/// Why there is no list of what an image is made of.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Without dpkg's own list nothing can be said about a tree.
    #[error("{} has no package that dpkg knows as installed", .0.display())]
    NoPackages(PathBuf),
    /// A list could not be written as JSON.
    #[error("cannot write the list of packages as JSON")]
    Json(#[source] serde_json::Error),
    /// The time has no form in RFC 3339.
    #[error("the time of the build cannot be written")]
    Time(#[source] time::error::Format),
}

/// A form of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// CycloneDX 1.6, JSON.
    Cyclonedx,
    /// SPDX 2.3, JSON.
    Spdx,
}

impl Format {
    /// TUF target name of the list of one image.
    #[must_use]
    pub fn target_name(self, template: &str, image_version: &str) -> String {
        let file = match self {
            Self::Cyclonedx => "sbom.cdx.json",
            Self::Spdx => "sbom.spdx.json",
        };
        format!("images/{template}/{image_version}/{file}")
    }

    /// Writes an inventory in this form, as one line of JSON.
    ///
    /// # Errors
    /// [`SbomError::Json`] and [`SbomError::Time`].
    pub fn write(self, inventory: &Inventory) -> Result<Vec<u8>, SbomError> {
        match self {
            Self::Cyclonedx => serde_json::to_vec(&cyclonedx::write(inventory)?).map_err(SbomError::Json),
            Self::Spdx => serde_json::to_vec(&spdx::write(inventory)?).map_err(SbomError::Json),
        }
    }
}

/// Writes an inventory in these forms into the work folder. Gives the TUF target name and the file of each.
///
/// # Errors
/// See [`SbomError`].
pub fn write(work: &Path, inventory: &Inventory, formats: &[Format]) -> Result<Vec<(String, PathBuf)>, SbomError> {
    let mut out = Vec::new();
    for format in formats {
        let name = format.target_name(&inventory.template, &inventory.image_version);
        let path = work.join(name.rsplit('/').next().unwrap_or(&name));
        files::write(&path, &format.write(inventory)?, 0o644)?;
        out.push((name, path));
    }
    Ok(out)
}

/// The time as both forms want it: UTC, whole seconds.
fn rfc3339(time: time::OffsetDateTime) -> Result<String, SbomError> {
    let time = time.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(time);
    time.format(&time::format_description::well_known::Rfc3339).map_err(SbomError::Time)
}

/// A UUID that depends on nothing but the content.
fn derived_uuid(content: &[u8]) -> uuid::Uuid {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(content);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
