//! The tools tree: a Debian tree with the image tools, so that every host builds with the same versions.

use crate::{
    cache::Cache,
    command::Sandbox,
    files,
    packages::{bootstrap::BootstrapError, lock::Layer},
    report::Reporter,
    trees,
};
use std::path::{Path, PathBuf};

/// What is installed on top of Debian's essential packages.
pub const PACKAGES: [&str; 22] = [
    "cryptsetup-bin",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "grub-pc-bin",
    "ipxe",
    "kmod",
    // What systemd-cryptenroll and its part of cryptsetup open by name to speak with a TPM.
    "libtss2-esys-3.0.2-0t64",
    "libtss2-mu-4.0.1-0t64",
    "libtss2-rc0t64",
    "libtss2-tcti-device0t64",
    "mtools",
    "python3-pefile",
    "qemu-utils",
    "systemd-boot-efi",
    "systemd-cryptsetup",
    "systemd-ukify",
    "udev",
    "util-linux",
    "xorriso",
    "xz-utils",
    "zstd",
];

/// Where the work folder and the image's root are seen inside.
pub const WORK: &str = "/work";
/// See [`WORK`].
pub const TREE: &str = "/tree";

/// The tools tree.
#[derive(Debug, Clone)]
pub struct Tools {
    path: PathBuf,
    key: String,
}

impl Tools {
    /// Takes the tree from the cache or makes it. Says whether the cache had it.
    ///
    /// # Errors
    /// See [`BootstrapError`].
    pub async fn prepare(
        cache: &Cache,
        layers: &[Layer],
        reporter: &mut dyn Reporter,
    ) -> Result<(Self, bool), BootstrapError> {
        let (path, cached) = trees::prepare(cache, "tools", layers, reporter).await?;
        for folder in [WORK, TREE] {
            files::create_folder(&path.join(&folder[1..]))?;
        }
        Ok((Self { path, key: trees::key(layers) }, cached))
    }

    /// True when the cache has the tree.
    #[must_use]
    pub fn is_cached(cache: &Cache, layers: &[Layer]) -> bool {
        cache.tree("tools", &trees::key(layers)).is_dir()
    }

    /// The hash of what made the tree.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the tree is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the tree's programs, with `work` at [`WORK`].
    #[must_use]
    pub fn sandbox(&self, work: &Path) -> Sandbox {
        Sandbox::of_tree(&self.path).bind(work, WORK)
    }
}
