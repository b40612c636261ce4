//! Whether a disk can hold a system at all, whatever is on it; and which of several device names are one disk.

use super::{layout::SMALLEST_DISK, policy};
use contracts::{
    bios,
    disks::DiskPolicy,
    facts::{Disk, Firmware, Transport},
};
use std::cmp::Ordering;

/// Why a disk cannot hold the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// Somebody can take it out.
    Removable,
    /// This boot image came from it.
    BootMedium,
    /// The template says so.
    Never,
    /// Others may use the same disk, and no line of the template names such disks.
    Network,
    /// Bytes that it would need.
    TooSmall(u64),
    /// Bytes of its sectors.
    Sectors(u32),
    /// A BIOS does not start from such sectors.
    BiosSectors(u32),
    /// It is written in zones.
    Zoned,
    /// The kernel cannot write to it.
    ReadOnly,
    /// Who uses it.
    InUse(String),
    /// Why it must not be trusted.
    Failing(String),
}

impl Unfit {
    /// Stable word for the plan's output.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Removable => "removable",
            Self::BootMedium => "boot-medium",
            Self::Never => "forbidden",
            Self::Network => "network-disk",
            Self::TooSmall(_) => "too-small",
            Self::Sectors(_) | Self::BiosSectors(_) => "sector-size",
            Self::Zoned => "zoned",
            Self::ReadOnly => "read-only",
            Self::InUse(_) => "in-use",
            Self::Failing(_) => "failing",
        }
    }

    /// Words after the disk's name.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Removable => "can be taken out".into(),
            Self::BootMedium => "is what this machine was started from".into(),
            Self::Never => "is forbidden by the template".into(),
            Self::Network => "is reached through a network, and the template names no such disks".into(),
            Self::TooSmall(needed) => format!("is too small, {} GB are needed", needed / 1_000_000_000),
            Self::Sectors(bytes) => format!("has sectors of {bytes} bytes"),
            Self::BiosSectors(bytes) => {
                format!("has sectors of {bytes} bytes, and a BIOS starts only from disks with 512")
            }
            Self::Zoned => "is written in zones".into(),
            Self::ReadOnly => "is write-protected".into(),
            Self::InUse(who) => format!("is in use ({who})"),
            Self::Failing(why) => format!("must not be trusted: it {why}"),
        }
    }

    /// It is no disk of this machine: it is as if it were not there.
    pub(super) const fn is_not_fixed(&self) -> bool {
        matches!(self, Self::Removable | Self::BootMedium)
    }

    /// It was meant, and something is wrong with it: no other disk is taken in its place.
    pub(super) const fn is_a_fault(&self) -> bool {
        matches!(self, Self::ReadOnly | Self::InUse(_) | Self::Failing(_))
    }
}

/// Why a disk cannot hold the system; `None` when it can.
#[must_use]
pub fn unfit(disk: &Disk, rules: &DiskPolicy, firmware: Firmware) -> Option<Unfit> {
    let smallest = rules.smallest_bytes.unwrap_or(0).max(SMALLEST_DISK);
    let names_network = rules.system.iter().any(|line| line.transport.contains(&Transport::Network));
    if disk.boot_medium {
        Some(Unfit::BootMedium)
    } else if disk.removable || matches!(disk.transport, Transport::Usb | Transport::Sd) {
        Some(Unfit::Removable)
    } else if rules.never.iter().any(|line| policy::fits(line, disk)) {
        Some(Unfit::Never)
    } else if disk.transport == Transport::Network && !names_network {
        Some(Unfit::Network)
    } else if disk.zoned {
        Some(Unfit::Zoned)
    } else if !matches!(disk.sector_bytes, 512 | 4096) {
        Some(Unfit::Sectors(disk.sector_bytes))
    } else if disk.bytes < smallest {
        Some(Unfit::TooSmall(smallest))
    } else if firmware == Firmware::Bios && disk.sector_bytes != bios::SECTOR_BYTES {
        Some(Unfit::BiosSectors(disk.sector_bytes))
    } else if disk.read_only {
        Some(Unfit::ReadOnly)
    } else if let Some(who) = &disk.used_by {
        Some(Unfit::InUse(who.clone()))
    } else {
        disk.health.as_ref().and_then(|health| Some(Unfit::Failing(health.failing.clone()?)))
    }
}

/// The order in which disks are counted: by place, with numbers as numbers, so that port 2 comes before port 10. It does
/// not depend on the order in the facts.
#[must_use]
pub fn by_place(a: &Disk, b: &Disk) -> Ordering {
    let key = |disk: &Disk| (pieces(&disk.path), disk.wwn.clone(), disk.serial.clone(), pieces(&disk.kernel_name));
    key(a).cmp(&key(b))
}

/// Texts in an order in which their numbers count as numbers.
#[must_use]
pub fn by_number(a: &str, b: &str) -> Ordering {
    pieces(a).cmp(&pieces(b))
}

/// Text in runs of digits and of other characters.
fn pieces(text: &str) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let words = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (before, after) = rest.split_at(words);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(digits);
        found.push((before.into(), number.parse().unwrap_or(u64::MAX)));
        rest = after;
    }
    found
}

/// Two names for one disk, or two disks that cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// Different disks.
    No,
    /// One disk on two paths: everything that the two say is the same.
    OneDisk,
    /// They call themselves the same and are not, or not to be seen.
    Unclear,
}

/// Holds two device names against each other. Some makers give all their disks one World Wide Name; other serial numbers
/// tell those apart.
#[must_use]
pub fn same(a: &Disk, b: &Disk) -> Same {
    let (Some(name), Some(other)) = (&a.wwn, &b.wwn) else { return Same::No };
    let serials_differ = a.serial.as_ref().zip(b.serial.as_ref()).is_some_and(|(a, b)| a != b);
    if name != other || serials_differ {
        return Same::No;
    }
    let says = |disk: &Disk| {
        (disk.bytes, disk.sector_bytes, disk.serial.clone(), disk.model.clone(), disk.read_only, disk.content.clone())
    };
    if says(a) == says(b) && a.serial.is_some() { Same::OneDisk } else { Same::Unclear }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::facts::DiskContent;

    fn disk(path: &str, wwn: Option<&str>, serial: Option<&str>) -> Disk {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Disk { path: path.into(), wwn: text(wwn), serial: text(serial), content: DiskContent::Blank, ..Disk::default() }
    }

    #[test]
    fn places_are_counted_with_numbers_as_numbers() {
        let place = |path: &str| disk(path, None, None);
        assert_eq!(by_place(&place("pci-0000:00:1f.2-ata-2"), &place("pci-0000:00:1f.2-ata-10")), Ordering::Less);
        assert_eq!(by_place(&place("pci-0000:00:04.0"), &place("pci-0000:00:04.0")), Ordering::Equal);
        assert_eq!(pieces("a12b"), [("a".to_owned(), 12), ("b".to_owned(), u64::MAX)]);
    }

    #[test]
    fn one_disk_on_two_paths_says_the_same_on_both() {
        let (a, b) = (disk("a", Some("naa.5"), Some("S1")), disk("b", Some("naa.5"), Some("S1")));
        assert_eq!(same(&a, &b), Same::OneDisk);
        assert_eq!(same(&a, &disk("b", Some("naa.5"), Some("S2"))), Same::No);
        assert_eq!(same(&a, &disk("b", Some("naa.6"), Some("S1"))), Same::No);
        assert_eq!(same(&a, &disk("b", None, Some("S1"))), Same::No);
        assert_eq!(same(&a, &disk("b", Some("naa.5"), None)), Same::Unclear);
        assert_eq!(same(&a, &Disk { content: DiskContent::default(), ..b }), Same::Unclear);
    }
}
