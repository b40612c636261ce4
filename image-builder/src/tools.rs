//! The tools tree: a Debian tree with the image tools, so that every host builds with the same versions.

use crate::{
    cache::Cache,
    command::Sandbox,
    debian::{self, DebianError, Tree},
    files::{self, InputHash},
    report::Reporter,
    sources::Mirrors,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Raised when this module makes another tree from the same packages.
const RECIPE: &str = "2";

const PACKAGES: [&str; 18] = [
    "cryptsetup-bin",
    "dosfstools",
    "e2fsprogs",
    "erofs-utils",
    "grub-pc-bin",
    "ipxe",
    "kmod",
    "mtools",
    "python3-pefile",
    "qemu-utils",
    "sbsigntool",
    "systemd-boot-efi",
    "systemd-ukify",
    "udev",
    "util-linux",
    "xorriso",
    "xz-utils",
    "zstd",
];

/// Where the work folder, the image's root and the Secure Boot key are seen inside.
pub const WORK: &str = "/work";
/// See [`WORK`].
pub const TREE: &str = "/tree";
/// See [`WORK`].
pub const KEYS: &str = "/keys";

/// The tools tree.
#[derive(Debug, Clone)]
pub struct Tools {
    path: PathBuf,
}

impl Tools {
    /// Takes the tree from the cache or makes it. Says whether the cache had it.
    ///
    /// # Errors
    /// See [`DebianError`].
    pub async fn prepare(
        cache: &Cache,
        mirrors: &Mirrors,
        refresh: bool,
        reporter: &mut dyn Reporter,
    ) -> Result<(Self, bool), DebianError> {
        let key = InputHash::default()
            .with("recipe", RECIPE)
            .with("release", debian::RELEASE)
            .with("packages", PACKAGES.join(","))
            .with("mirrors", format!("{mirrors:?}"))
            .finish();
        let path = cache.tree("tools", &key);
        if path.is_dir() && !refresh {
            return Ok((Self { path }, true));
        }
        let scratch = cache.temporary()?;
        let made = scratch.path().join("tree");
        let packages = PACKAGES.iter().map(|package| (*package).to_owned()).collect();
        let tree = Tree {
            mirrors,
            packages: &packages,
            repositories: &BTreeMap::new(),
            source_date_epoch: debian::PACKAGE_EPOCH,
        };
        debian::make(&tree, &made, scratch.path(), reporter).await?;
        for folder in [WORK, TREE, KEYS] {
            files::create_folder(&made.join(&folder[1..]))?;
        }
        Ok((Self { path: cache.publish(&made, "tools", &key)? }, false))
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
