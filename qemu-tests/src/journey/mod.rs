//! The journey of a blank machine, as the demo shows it and the end-to-end tests check it: power-on to `Ready`,
//! power-off, power-on again, `Ready` again, and what a plain download would have taken.

pub mod follow;
pub mod inside;
pub mod outside;
pub mod record;
pub mod table;

use crate::materials::{
    container::Containers,
    export::Exports,
    image::Image,
    region::{Materials, Shape},
};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The system disk of the machine that is installed: the smallest that the disk layout allows.
pub const DISK_GIB: u64 = 64;
/// Each of its disks for data. Another size than the system disk's, so that a reinstall cannot confuse them.
pub const DATA_DISK_GIB: u64 = 10;

/// Everything that the process inside the world needs to know, handed over as a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The end-to-end case.
    pub case: String,
    /// Logs, disks, state of this run.
    pub run: PathBuf,
    /// The cache.
    pub cache: PathBuf,
    /// The lab tree.
    pub lab: PathBuf,
    /// What the machine joins.
    pub region: Materials,
    /// The machine.
    pub shape: Shape,
    /// The program `image-builder`.
    pub image_builder: PathBuf,
    /// The program `netboot`.
    pub netboot: PathBuf,
    /// The program `registrar`.
    pub registrar: PathBuf,
    /// The image.
    pub image: Image,
    /// The image in other shapes.
    #[serde(default)]
    pub exports: Exports,
    /// A person has to admit the machine.
    #[serde(default)]
    pub person: bool,
    /// The container images that the machine's image carries.
    #[serde(default)]
    pub containers: Option<Containers>,
    /// The tree of other people's DHCP programs.
    #[serde(default)]
    pub neighbours: Option<PathBuf>,
    /// The tree with QEMU for arm64.
    #[serde(default)]
    pub arm64: Option<PathBuf>,
    /// Of a case with many runs, only those whose name holds this.
    #[serde(default)]
    pub only: Option<String>,
    /// For cases that leave something to chance: the same seed, the same chances.
    #[serde(default)]
    pub seed: u64,
    /// How often something is measured.
    #[serde(default)]
    pub samples: u8,
    /// A tree of other people's programs to be measured beside ours.
    #[serde(default)]
    pub peers: Option<PathBuf>,
}

impl Plan {
    /// An export of the image.
    ///
    /// # Errors
    /// When the case did not ask for it.
    pub fn export(&self, format: &str) -> anyhow::Result<PathBuf> {
        self.exports.get(format).cloned().with_context(|| format!("there is no {format}"))
    }
}
