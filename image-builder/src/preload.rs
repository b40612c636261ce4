//! Container images inside the root, and what gives them to containerd before anything asks for one.
//!
//! The root carries one OCI image layout with every blob once. At the start of the machine a unit compares containerd's own list
//! with the names beside the layout and imports what is missing: on a first start and after an update, and never again until then. Imported images are
//! pinned, so that the kubelet's garbage collection leaves them alone.

use crate::{
    files::{self, FileError},
    oci::{self, Descriptor, OciError, Source},
    report::mebibytes,
};
use contracts::exit::Code;
use profiles::{ContainerImage, MachineTemplate};
use serde_json::json;
use std::{fmt, path::Path};

/// The unit that imports.
pub const UNIT: &str = "shelfboot-images.service";
/// The layout, below the root.
const LAYOUT: &str = "usr/lib/shelfboot/images";
/// Beside the layout's own files: `NAME DIGEST`, one line for each name that containerd shall know.
const NAMES: &str = "names";
const PROGRAM: &str = "usr/lib/shelfboot/import-images";
const PROGRAM_TEXT: &str = include_str!("preload/import-images.sh");
const UNIT_TEXT: &str = include_str!("preload/shelfboot-images.service");
/// The name that containerd gives an image of a layout.
const NAME_ANNOTATION: &str = "io.containerd.image.name";

/// Why images could not be put into the root.
#[derive(Debug, thiserror::Error)]
pub enum PreloadError {
    /// An image cannot be used.
    #[error("the container image {reference} cannot be used")]
    Image {
        /// The name that pods use.
        reference: String,
        /// Why not.
        #[source]
        source: OciError,
    },
    /// Nothing in the root would read them.
    #[error("the template has container images, but no containerd: /usr/bin/ctr is missing")]
    NoContainerd,
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What was put into the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Preloaded {
    /// Images.
    pub images: usize,
    /// Bytes of their blobs, each counted once.
    pub bytes: u64,
}

impl fmt::Display for Preloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.images {
            0 => Ok(()),
            images => write!(f, ", {images} container images with {}", mebibytes(self.bytes)),
        }
    }
}

impl PreloadError {
    /// Whose fault it is.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Image { source, .. } => source.code(),
            Self::NoContainerd => Code::Input,
            Self::File(_) => Code::Failed,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image { source, .. } => source.hint(),
            Self::NoContainerd => Some("add the package containerd to a software profile of the template".into()),
            Self::File(_) => None,
        }
    }
}

/// Sees that every image is there, before anything is built. Layers are checked when they are copied.
///
/// # Errors
/// See [`PreloadError`].
pub fn check(template: &MachineTemplate) -> Result<(), PreloadError> {
    template.container_images.iter().try_for_each(|(reference, image)| {
        let found = Source::open(&image.source).and_then(|source| oci::find(&source, &image.digest));
        found.map(drop).map_err(|source| PreloadError::Image { reference: reference.clone(), source })
    })
}

/// Writes layout, names, program and unit into `tree`. Without images it writes nothing.
///
/// # Errors
/// See [`PreloadError`].
pub fn put(tree: &Path, template: &MachineTemplate) -> Result<Preloaded, PreloadError> {
    if template.container_images.is_empty() {
        return Ok(Preloaded::default());
    }
    if !tree.join("usr/bin/ctr").exists() {
        return Err(PreloadError::NoContainerd);
    }
    let layout = tree.join(LAYOUT);
    let blobs = layout.join("blobs/sha256");
    let (mut entries, mut names, mut bytes) = (Vec::new(), String::new(), 0);
    for (reference, image) in &template.container_images {
        let copied = copy(image, &blobs);
        let (root, id, written) =
            copied.map_err(|source| PreloadError::Image { reference: reference.clone(), source })?;
        bytes += written;
        for name in names_of(reference, &image.digest, &id) {
            let line = format!("{name} {}\n", image.digest);
            // Two names of one image share its other ones.
            if !names.contains(&line) {
                names += &line;
                entries.push(named(&root, &name));
            }
        }
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    });
    files::write(&layout.join("oci-layout"), b"{\"imageLayoutVersion\":\"1.0.0\"}\n", 0o644)?;
    files::write(&layout.join("index.json"), format!("{index}\n").as_bytes(), 0o644)?;
    files::write(&layout.join(NAMES), names.as_bytes(), 0o644)?;
    files::write(&tree.join(PROGRAM), PROGRAM_TEXT.as_bytes(), 0o755)?;
    files::write(&tree.join("etc/systemd/system").join(UNIT), UNIT_TEXT.as_bytes(), 0o644)?;
    Ok(Preloaded { images: template.container_images.len(), bytes })
}

fn copy(image: &ContainerImage, blobs: &Path) -> Result<(Descriptor, String, u64), OciError> {
    let source = Source::open(&image.source)?;
    let found = oci::find(&source, &image.digest)?;
    let written = oci::copy(&source, &found, blobs)?;
    Ok((found.root, found.id, written))
}

/// The names under which a pull leaves an image with containerd's CRI plugin: as it was asked for, by digest, and by the digest
/// of its configuration. With the last one missing here, removing the others would not remove the image.
fn names_of(reference: &str, digest: &str, id: &str) -> Vec<String> {
    let repository = match reference.split_once('@') {
        Some((repository, _)) => repository,
        // The last colon: an earlier one belongs to the host's port.
        None => reference.rsplit_once(':').map_or(reference, |(repository, _)| repository),
    };
    let mut names = vec![reference.to_owned(), format!("{repository}@{digest}"), id.to_owned()];
    names.dedup();
    names
}

fn named(root: &Descriptor, name: &str) -> Descriptor {
    let mut entry = root.clone();
    entry.annotations.insert(NAME_ANNOTATION.into(), name.into());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_the_names_of_a_pull() {
        let names = |reference| names_of(reference, "sha256:d", "sha256:i");
        assert_eq!(names("h:5000/a/b:1"), ["h:5000/a/b:1", "h:5000/a/b@sha256:d", "sha256:i"]);
        assert_eq!(names("h.example/a@sha256:d"), ["h.example/a@sha256:d", "sha256:i"]);
    }
}
