//! What a machine is, as the agent found it.

use serde::{Deserialize, Serialize};

/// Facts about one machine, reported with every `POST /v1/machines` and every enrollment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// [`crate::VERSION`].
    pub version: u32,
    /// BIOS or UEFI.
    pub firmware: Firmware,
    /// The UEFI variable `SecureBoot`; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// What SMBIOS says; empty strings where it says nothing.
    pub smbios: Smbios,
    /// Logical processors.
    pub cpus: u32,
    /// Usable memory in bytes.
    pub memory_bytes: u64,
    /// Every block device that could hold a system, in the order of their PCI paths.
    pub disks: Vec<Disk>,
    /// Every Ethernet interface, in the order of their PCI paths.
    pub nics: Vec<Nic>,
}

/// The firmware family that started this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// UEFI: `/sys/firmware/efi` is there.
    Uefi,
    /// PC BIOS.
    Bios,
}

/// Identification from SMBIOS type 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smbios {
    /// Manufacturer.
    pub manufacturer: String,
    /// Product name.
    pub product: String,
    /// Serial number. Cheap boards carry placeholders: never the only key.
    pub serial: String,
    /// System UUID in lower case.
    pub uuid: String,
}

/// One block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Kernel name, for example `vda`. Changes between boots: never an identity.
    pub kernel_name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical sector size in bytes: 512 or 4096.
    pub sector_bytes: u32,
    /// The device's path on its bus, for example `pci-0000:00:04.0`.
    pub path: String,
    /// World Wide Name, where the device has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Serial number, where the device has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Model name, where the device has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The kernel says that the medium can be taken out.
    pub removable: bool,
    /// The kernel says that it cannot be written.
    pub read_only: bool,
    /// What is on it.
    pub content: DiskContent,
}

/// What is on a disk, as libblkid's signatures and our own partition labels tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum DiskContent {
    /// No signature that libblkid knows.
    Blank,
    /// An install of ours that did not finish: safe to start over.
    HalfInstall {
        /// Whose state is on it, from a finished install before; `None` when there is none that can be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Owner>,
    },
    /// A finished install of ours.
    Installed {
        /// The verity root hashes of the finished slots, in hex.
        root_hashes: Vec<String>,
        /// Whose it is, as its state partition says; `None` when that could not be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Owner>,
    },
    /// Somebody's data. Never written to.
    Foreign {
        /// What it is, for people: `an NTFS file system`.
        what: String,
    },
}

/// Whose install a disk holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The store that it was installed in.
    pub store: String,
    /// The machine: the MAC address of the NIC that it was installed through, lower case with colons.
    pub machine: String,
}

/// One Ethernet interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Kernel name.
    pub kernel_name: String,
    /// MAC address, lower case with colons.
    pub mac: String,
    /// Kernel driver.
    pub driver: String,
    /// The cable is in and the other side answers.
    pub carrier: bool,
}
