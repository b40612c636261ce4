//! The journey of a blank machine, as the demo shows it and the end-to-end tests check it: power-on to `Ready`,
//! power-off, power-on again, `Ready` again, and what a plain download would have taken.

pub mod follow;
pub mod inside;
pub mod node;
pub mod outside;
pub mod record;
pub mod table;

use crate::materials::image::Image;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Memory of the machine that is installed: the least that is promised to work.
pub const MEMORY_MIB: u32 = 1024;
/// Its disk: the smallest that the disk layout allows.
pub const DISK_GIB: u64 = 64;

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
    /// Folder with the Kubernetes programs.
    pub kubernetes: PathBuf,
    /// The program `netboot`.
    pub netboot: PathBuf,
    /// The program `registrar`.
    pub registrar: PathBuf,
    /// The registrar's manifest for the cluster.
    pub rbac: PathBuf,
    /// The image.
    pub image: Image,
    /// A person has to admit the machine.
    #[serde(default)]
    pub person: bool,
}
