//! A CD or USB stick that machines start from: made by image-builder, read by the agent.
//!
//! It is an ISO 9660 file system, also when it is written to a stick, with the boot image, this document, and on an offline medium
//! the part of the repository that one image needs. Nothing on it is believed for being there: what is installed from it
//! has to pass the same TUF checks as what the store serves.

use crate::{assignment::ImageRef, network::NetworkConfig};
use serde::{Deserialize, Serialize};

/// The file system's label.
pub const LABEL: &str = "SHELFBOOT";
/// Where [`Medium`] lies on it.
pub const FILE: &str = "shelfboot/medium.json";
/// Where the repository lies on an offline medium.
pub const REPOSITORY: &str = "repo";
/// The word on the kernel's command line with which GRUB says that it started from a medium. On UEFI machines the path
/// [`EFI_PATH`] says so.
pub const WORD: &str = "shelfboot.medium";
/// Where the boot image lies in the medium's EFI system partition. On the disks of installed machines the boot loader has that place.
pub const EFI_PATH: &str = "\\EFI\\BOOT\\BOOTX64.EFI";
/// Where the kernel, the initrd and GRUB's environment block for BIOS machines lie: see [`crate::bios`].
pub const LINUX_PATH: &str = "shelfboot/linux";
/// See [`LINUX_PATH`].
pub const INITRD_PATH: &str = "shelfboot/initrd";
/// See [`LINUX_PATH`].
pub const ENVIRONMENT_PATH: &str = "shelfboot/grubenv";

/// What a medium is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Medium {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The image that it was made from, at a fixed version.
    pub image: ImageRef,
    /// The root hash of that image, 64 hex digits. Only the boot image of the same root hash installs from this medium.
    pub root_hash: String,
    /// It carries the image below [`REPOSITORY`].
    pub offline: bool,
    /// Base URL of the store's netboot, for LANs on which it cannot be heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netboot: Option<String>,
    /// The network of the machine that starts from it, for LANs on which nothing is heard without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkConfig>,
}
