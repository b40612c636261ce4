//! What a machine is, as the agent found it.

mod disk;

pub use disk::{Disk, DiskContent, DiskHealth, Owner, Signature, Transport};

use serde::{Deserialize, Serialize};

/// Facts about one machine, reported with every `POST /v1/machines` and every enrollment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The processors' make and shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory modules, as SMBIOS lists them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryModule>,
    /// What UEFI says of its keys; `None` on BIOS machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uefi: Option<Uefi>,
    /// The TPM; `None` when there is none that the kernel has a driver for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<Tpm>,
    /// What the machine's own clock said, before anybody set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
}

/// The firmware family that started this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// UEFI: `/sys/firmware/efi` is there.
    Uefi,
    /// PC BIOS.
    #[default]
    Bios,
}

/// Identification from SMBIOS: type 1, and what other types say of board, case and firmware.
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
    /// Stock keeping unit (type 1).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sku: String,
    /// Maker and product of the main board (type 2).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub board: String,
    /// Serial number of the main board (type 2).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub board_serial: String,
    /// Kind of case (type 3), for example `rack mount chassis`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chassis: String,
    /// The owner's tag on the case (type 3).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub asset_tag: String,
    /// Maker, version and date of the firmware (type 0).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub firmware_version: String,
}

/// The processors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// For example `GenuineIntel`.
    pub vendor: String,
    /// For example `Intel(R) Xeon(R) E-2336 CPU @ 2.90GHz`.
    pub model: String,
    /// Sockets that are in use.
    pub sockets: u32,
    /// Cores in all sockets.
    pub cores: u32,
    /// It can run virtual machines (VMX or SVM).
    #[serde(default)]
    pub virtualization: bool,
    /// This is a virtual machine itself.
    #[serde(default)]
    pub virtual_machine: bool,
}

/// One memory module (SMBIOS type 17).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryModule {
    /// The slot, for example `DIMM_A1`.
    pub slot: String,
    /// Bytes.
    pub bytes: u64,
    /// Mega-transfers per second; 0 where unknown.
    #[serde(default)]
    pub speed: u32,
    /// Maker and part number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// Serial number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
}

/// UEFI's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uefi {
    /// The variable `SetupMode`: keys can be enrolled by anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_mode: Option<bool>,
    /// Certificates in `PK`, `KEK` and `db`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<FirmwareCertificate>,
}

/// One certificate that the firmware trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareCertificate {
    /// `PK`, `KEK` or `db`.
    pub list: String,
    /// The subject's common name, for example `Microsoft UEFI CA 2023`; the whole subject where it has none.
    pub subject: String,
    /// SHA-256 of the certificate, 64 hex digits.
    pub sha256: String,
}

/// A Trusted Platform Module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tpm {
    /// Major version: 1 or 2.
    pub version: u32,
    /// The maker's letters, for example `IFX`; empty where it did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manufacturer: String,
}

/// The machine's own clock. Times are RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The real-time clock; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub rtc: Option<time::OffsetDateTime>,
    /// What this boot image says that no clock may be earlier than.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub floor: Option<time::OffsetDateTime>,
    /// Whether the one can be believed beside the other.
    pub verdict: ClockVerdict,
}

/// Whether a clock can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockVerdict {
    /// Between the floor and ten years later.
    Plausible,
    /// Before the floor: an empty battery, as a rule.
    TooEarly,
    /// More than ten years after the floor.
    TooLate,
    /// There is no clock, or no floor to hold it against.
    Unknown,
    /// A word of a later version.
    #[serde(other)]
    Other,
}

/// One Ethernet interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Kernel name.
    pub kernel_name: String,
    /// MAC address, lower case with colons.
    pub mac: String,
    /// Kernel driver.
    pub driver: String,
    /// The cable is in and the other side answers.
    pub carrier: bool,
    /// The MAC address that it was made with, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permanent_mac: Option<String>,
    /// Its place on its bus, for example `pci-0000:00:03.0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Megabits per second, while there is a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<u32>,
    /// The switch port on the other side, where it spoke LLDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbour: Option<Neighbour>,
}

/// Who is at the other end of the cable (LLDP, IEEE 802.1AB). Anybody on the cable can claim this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its chassis id: a MAC address, as a rule.
    pub chassis: String,
    /// Its port.
    pub port: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// What the port is called there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port_description: String,
    /// The VLAN of untagged frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}
