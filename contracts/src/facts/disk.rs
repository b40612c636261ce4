//! Disks, and what is on them.

use serde::{Deserialize, Serialize};

/// One block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Physical sector size in bytes, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_sector_bytes: Option<u32>,
    /// True for turning disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// How it is attached.
    #[serde(default, skip_serializing_if = "Transport::is_unknown")]
    pub transport: Transport,
    /// The maker, where the kernel tells it apart from the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Version of its firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// This boot image was started from it, or it carries an offline medium.
    #[serde(default, skip_serializing_if = "is_false")]
    pub boot_medium: bool,
    /// Who uses it now: a mount point, device mapper, a RAID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<String>,
    /// Zones that are written in order only (host-managed SMR, ZNS).
    #[serde(default, skip_serializing_if = "is_false")]
    pub zoned: bool,
    /// What the disk says of its own health, where the kernel tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<DiskHealth>,
    /// Signatures that were found on it, for programs; the first 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// SATA, or PATA.
    Sata,
    /// SAS.
    Sas,
    /// SCSI of another kind, also of RAID controllers and virtual machines.
    Scsi,
    /// NVMe over PCIe.
    Nvme,
    /// virtio-blk.
    Virtio,
    /// eMMC, soldered.
    Emmc,
    /// An SD card.
    Sd,
    /// USB.
    Usb,
    /// UFS, soldered.
    Ufs,
    /// Xen.
    Xen,
    /// Through a network: iSCSI, Fibre Channel, NVMe over fabrics. Others may use the same disk.
    Network,
    /// Not told, or a word of a later version.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Transport {
    /// True when it was not told.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

/// A disk's health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskHealth {
    /// How much of its life is used, in percent; can go beyond 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wear_percent: Option<u8>,
    /// Why it must not be trusted with a system, in words; `None` while it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
}

/// One signature on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// A stable word, for example `ext4`, `lvm2`, `md`, `gpt`.
    pub kind: String,
    /// Where it lies, in bytes from the beginning of the disk.
    pub at: u64,
    /// The name that it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// What is on a disk, as our own prober, libblkid and our own partition labels tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum DiskContent {
    /// Nothing that anybody has a name for, and nothing without a name either.
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
        /// What it is, for people: `an ntfs file system`.
        what: String,
    },
}

impl Default for DiskContent {
    /// What was not looked at is not blank.
    fn default() -> Self {
        Self::Foreign { what: "something that was not looked at".into() }
    }
}

/// Whose install a disk holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The store that it was installed in.
    pub store: String,
    /// The machine: the MAC address of the NIC that it was installed through, lower case with colons.
    pub machine: String,
}
