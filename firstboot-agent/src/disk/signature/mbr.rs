//! The partition table of the first sector (MBR): real, protective, hybrid, or none behind a boot signature.

use super::window::{Window, le32};

/// The type of the entry that stands for a GPT (UEFI specification 2.10, section 5.2.3).
const PROTECTIVE: u8 = 0xee;

/// What the first sector says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mbr {
    pub(super) partitions: Vec<Entry>,
    protective: bool,
}

/// One primary partition. What an extended one holds is not looked at: it is not blank anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: u8,
    pub(super) first: u32,
    pub(super) sectors: u32,
}

impl Mbr {
    /// A GPT is there, and more partitions for firmware that does not know it.
    pub(super) fn is_hybrid(&self) -> bool {
        self.protective && !self.partitions.is_empty()
    }

    pub(super) fn what(&self) -> String {
        match (self.protective, self.partitions.is_empty()) {
            (true, true) => "a partition table (MBR) that stands for a GPT which is gone",
            (true, false) => "a partition table (MBR) beside a GPT which is gone",
            (false, true) => "boot code (MBR) without partitions",
            (false, false) => "a partition table (MBR)",
        }
        .into()
    }
}

/// Reads the first sector; `None` when it has no boot signature, or something else than a table before that.
pub(super) fn read(window: Window<'_>) -> Option<Mbr> {
    let sector = window.get(0, 512)?;
    if sector[510..] != [0x55, 0xaa] {
        return None;
    }
    let entries: Vec<&[u8]> = sector[446..510].chunks_exact(16).collect();
    // Active or not; anything else is code or text, and the sector is no table.
    if entries.iter().any(|entry| !matches!(entry[0], 0 | 0x80)) {
        return Some(Mbr { partitions: Vec::new(), protective: false });
    }
    let used = entries.iter().filter(|entry| entry[4] != 0);
    let partitions = used.clone().filter(|entry| entry[4] != PROTECTIVE);
    let partitions =
        partitions.map(|e| Entry { kind: e[4], first: le32(e, 8), sectors: le32(e, 12) }).filter(|e| e.sectors > 0);
    Some(Mbr { partitions: partitions.collect(), protective: used.clone().any(|entry| entry[4] == PROTECTIVE) })
}

/// What a type says, for people.
pub(super) const fn kind(kind: u8) -> &'static str {
    match kind {
        0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e => "FAT",
        0x05 | 0x0f | 0x85 => "extended",
        0x07 => "Windows data",
        0x27 => "Windows recovery",
        0x42 => "Windows dynamic disk",
        0x82 => "Linux swap",
        0x83 => "Linux data",
        0x8e => "Linux LVM",
        0xa5 | 0xa6 | 0xa9 => "BSD",
        0xaf => "Apple HFS+",
        0xbf => "Solaris or ZFS",
        0xef => "EFI system",
        0xfb => "VMware VMFS",
        0xfc => "VMware swap",
        0xfd => "Linux RAID",
        _ => "a partition of another type",
    }
}
