//! What lies on a disk, told from its bytes alone: partition tables, file systems, members of RAID sets and volume
//! groups, encryption. A pure function of the bytes; it reads at most [`BUDGET`] of them, whatever they say.
//!
//! It goes further than libblkid where that matters for data: damaged tables with a whole copy, what is inside
//! partitions, and bytes that nobody has a name for. Offsets and magic numbers are those of libblkid (util-linux),
//! the Linux kernel's headers, and the specifications named where they are used.

mod catalogue;
mod filesystems;
pub mod gpt;
mod mbr;
mod members;
pub mod pieces;
pub mod window;

use contracts::facts::Signature;
use uuid::Uuid;
use window::{Ledger, ReadAt, Trouble, Window};

/// The most that is read of one disk, in bytes.
pub const BUDGET: u64 = 16 << 20;

/// Where leftovers without a name are looked for: the first MiB, in which every header of a system lies.
const HEAD: u64 = 1 << 20;

/// Partitions that are looked into, and named.
const MOST_PARTITIONS: usize = 16;

/// One thing that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A stable word for programs, for example `ext4`, `lvm2`, `md`.
    pub kind: &'static str,
    /// What it is, for people, with its article.
    pub what: String,
    /// Its name, where it carries one; already safe to print.
    pub label: Option<String>,
    /// Where its signature lies, in bytes from the beginning of the disk.
    pub at: u64,
}

impl Finding {
    fn new(kind: &'static str, what: impl Into<String>, at: u64) -> Self {
        Self { kind, what: what.into(), label: None, at }
    }

    fn named(self, label: Option<String>) -> Self {
        Self { label, ..self }
    }

    fn words(&self) -> String {
        let label = self.label.as_ref().map_or(String::new(), |label| format!(" named \"{label}\""));
        format!("{}{label}", self.what)
    }
}

/// One partition of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What its type says, for people, for example `Windows data`.
    pub kind: String,
    /// Its name in a GPT.
    pub name: Option<String>,
    /// What is in it.
    pub content: Vec<Finding>,
}

/// Bytes in the first MiB that no signature explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// They look random, as encrypted data does.
    Random,
    /// Anything else that is not one byte over and over.
    Data,
}

/// What a look at a disk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Signatures of the whole disk; a partition table first.
    pub findings: Vec<Finding>,
    /// The table's partitions, the first 16 of them.
    pub partitions: Vec<Partition>,
    /// Partitions in the table, also those that were not looked into.
    pub partition_count: usize,
    /// The GUIDs of all partitions of a GPT.
    pub guids: Vec<Uuid>,
    /// Something is there, and nothing has a name.
    pub leftover: Option<Leftover>,
    /// Reading failed: the disk is not known.
    pub trouble: Option<Trouble>,
    /// Bytes that were read.
    pub bytes_read: u64,
}

impl Scan {
    /// True only when everything that was looked for could be read, and nothing is there.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.findings.is_empty() && self.leftover.is_none() && self.trouble.is_none()
    }

    /// What is there, for people; `None` when nothing is.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        for finding in &self.findings {
            let inside = if finding.kind == "gpt" || finding.kind == "mbr" { self.inside() } else { String::new() };
            let comma = if !inside.is_empty() && finding.what.ends_with("damaged") { "," } else { "" };
            let words = format!("{}{comma}{inside}", finding.words());
            if !parts.contains(&words) {
                parts.push(words);
            }
        }
        match self.leftover {
            Some(Leftover::Random) => {
                parts.push("data without a header that looks encrypted (such as VeraCrypt or plain dm-crypt)".into());
            }
            Some(Leftover::Data) => parts.push("data of a kind that has no name here".into()),
            None => {}
        }
        if let Some(Trouble { at, why }) = &self.trouble {
            parts.push(format!("something that cannot be read ({why}, at byte {at})"));
        }
        (!parts.is_empty()).then(|| parts.join(", and "))
    }

    fn inside(&self) -> String {
        let named: Vec<String> = self
            .partitions
            .iter()
            .take(4)
            .map(|partition| match partition.content.first() {
                Some(found) => format!("{} ({})", partition.kind, found.words()),
                None => partition.kind.clone(),
            })
            .collect();
        match (self.partition_count, named.is_empty()) {
            (0, _) | (_, true) => String::new(),
            (1, _) => format!(" with one partition: {}", named[0]),
            (count, _) => {
                let more = if count > named.len() { ", …" } else { "" };
                format!(" with {count} partitions: {}{more}", named.join(", "))
            }
        }
    }

    /// The same for programs: the whole disk's signatures, then those in partitions.
    #[must_use]
    pub fn signatures(&self) -> Vec<Signature> {
        let inside = self.partitions.iter().flat_map(|partition| &partition.content);
        let all = self.findings.iter().chain(inside).take(MOST_PARTITIONS * 2);
        all.map(|found| Signature { kind: found.kind.into(), at: found.at, label: found.label.clone() }).collect()
    }
}

/// Looks at a disk. `sector_bytes` is its logical sector; a table that was made with the other size is found too.
#[must_use]
pub fn scan(source: &dyn ReadAt, sector_bytes: u32) -> Scan {
    let ledger = Ledger::default();
    let disk = Window::whole(source, &ledger);
    let content = content(disk);
    let mut scan = Scan::default();
    let boot_sector_of_a_file_system = content.iter().any(|found| filesystems::has_boot_sector(found.kind));

    if let Some(table) = gpt::find(disk, sector_bytes) {
        scan.findings.push(Finding::new("gpt", table.what(mbr::read(disk).as_ref()), table.at));
        scan.partition_count = table.partitions.len();
        scan.guids = table.partitions.iter().map(|entry| entry.guid).collect();
        for entry in table.partitions.iter().take(MOST_PARTITIONS) {
            let window = disk.part(entry.start, entry.bytes);
            let content = window.map(self::content).unwrap_or_default();
            scan.partitions.push(Partition { kind: entry.kind(), name: entry.name.clone(), content });
        }
    } else if let Some(table) = mbr::read(disk).filter(|_| !boot_sector_of_a_file_system) {
        scan.findings.push(Finding::new("mbr", table.what(), 510));
        scan.partition_count = table.partitions.len();
        for entry in &table.partitions {
            let sector = u64::from(sector_bytes);
            let window = disk.part(u64::from(entry.first) * sector, u64::from(entry.sectors) * sector);
            let content = window.map(self::content).unwrap_or_default();
            scan.partitions.push(Partition { kind: mbr::kind(entry.kind).into(), name: None, content });
        }
    }
    scan.findings.extend(content);
    if let Some(head) = disk.get(0, usize::try_from(disk.length().min(HEAD)).unwrap_or(0))
        && scan.findings.is_empty()
    {
        scan.leftover = leftover(&head);
    }
    // The last bytes too: a disk that cannot be read at its end is not known.
    let _ = disk.get_from_end(disk.length().min(HEAD), usize::try_from(disk.length().min(HEAD)).unwrap_or(0));
    scan.trouble = ledger.trouble();
    scan.bytes_read = ledger.spent();
    scan
}

/// Signatures of what fills a window: everything but partition tables.
fn content(window: Window<'_>) -> Vec<Finding> {
    let mut found = members::find(window);
    found.extend(filesystems::find(window));
    found.extend(catalogue::find(window));
    found
}

fn leftover(head: &[u8]) -> Option<Leftover> {
    let first = *head.first()?;
    // New and erased disks hold one byte over and over: 0x00, or 0xff on some flash.
    if head.iter().all(|byte| *byte == first) {
        return None;
    }
    let mut counts = [0_u32; 256];
    for byte in head.iter().take(4096) {
        counts[usize::from(*byte)] += 1;
    }
    // 4096 random bytes hold every value about 16 times.
    let values = counts.iter().filter(|count| **count > 0).count();
    let most = counts.iter().max().copied().unwrap_or_default();
    let random = head.len() >= 4096 && values >= 250 && most <= 48;
    Some(if random { Leftover::Random } else { Leftover::Data })
}

/// A label as people may see it: one line, no control characters, at most 40 characters. `None` when nothing is left.
fn label(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().take_while(|c| *c != '\0').filter(|c| !c.is_control()).take(40).collect();
    let text = text.trim().replace('"', "'");
    (!text.is_empty()).then_some(text)
}

/// The same for UTF-16, little-endian.
fn label_utf16(bytes: &[u8]) -> Option<String> {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    label(String::from_utf16_lossy(&units).as_bytes())
}

#[cfg(test)]
mod tests;
