//! GUID partition tables (UEFI specification 2.10, chapter 5), also damaged ones: every place is looked at where a
//! header may lie, for sectors of 512 and of 4096 bytes.

use super::{
    mbr::Mbr,
    window::{Window, le32, le64},
};
use uuid::{Uuid, uuid};

const MAGIC: &[u8] = b"EFI PART";
/// Entries that are read; the specification asks for 128, and nobody writes more than 256.
const MOST_ENTRIES: u32 = 256;

/// How much of a table is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Both copies, or the first and no word of the second.
    Whole,
    /// Only the copy at the end of the disk.
    BackupOnly,
    /// A header is there, and neither copy is what its checksum says.
    Damaged,
}

/// A table that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Where its header lies, in bytes.
    pub at: u64,
    /// Bytes of the sectors that it counts in.
    pub sector: u64,
    /// How much of it is whole.
    pub health: Health,
    /// It counts in other sectors than the disk has, as after a move between two enclosures.
    pub other_sectors: bool,
    /// Its partitions, in the order of the table.
    pub partitions: Vec<Entry>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// First byte.
    pub start: u64,
    /// Length in bytes; 0 where the entry makes no sense.
    pub bytes: u64,
    /// The type.
    pub type_guid: Uuid,
    /// Its own GUID.
    pub guid: Uuid,
    /// The name, safe to print.
    pub name: Option<String>,
}

impl Entry {
    /// What the type says, for people; the partition's name for types without one here.
    pub(super) fn kind(&self) -> String {
        let known = TYPES.iter().find(|(guid, _)| *guid == self.type_guid).map(|(_, words)| (*words).to_owned());
        known.or_else(|| self.name.clone()).unwrap_or_else(|| "a partition of an unknown type".into())
    }
}

impl Table {
    pub(super) fn what(&self, mbr: Option<&Mbr>) -> String {
        let hybrid = if mbr.is_some_and(Mbr::is_hybrid) { " beside another one (MBR)" } else { "" };
        let health = match self.health {
            Health::Whole => "",
            Health::BackupOnly => " whose beginning is damaged",
            Health::Damaged => " that is damaged",
        };
        let sectors = if self.other_sectors { format!(" for sectors of {} bytes", self.sector) } else { String::new() };
        format!("a partition table (GPT){sectors}{hybrid}{health}")
    }
}

/// Looks for a table: first the two headers for the disk's own sectors, then those for the other size.
#[must_use]
pub fn find(window: Window<'_>, sector_bytes: u32) -> Option<Table> {
    let own = if sector_bytes == 4096 { 4096 } else { 512 };
    let mut damaged = None;
    for sector in [own, own ^ 4096 ^ 512] {
        let primary = header(window, sector, sector);
        let last = (window.length() / sector).checked_sub(1).map(|lba| lba * sector);
        let backup = last.and_then(|at| header(window, at, sector));
        let table = match (primary, backup) {
            (Some(Header { at, whole: true, entries }), _) => (at, Health::Whole, entries),
            (_, Some(Header { at, whole: true, entries })) => (at, Health::BackupOnly, entries),
            (Some(broken), _) | (None, Some(broken)) => {
                damaged.get_or_insert((broken.at, sector, broken.entries));
                continue;
            }
            (None, None) => continue,
        };
        let (at, health, partitions) = table;
        return Some(Table { at: window.start() + at, sector, health, other_sectors: sector != own, partitions });
    }
    let (at, sector, partitions) = damaged?;
    let at = window.start() + at;
    Some(Table { at, sector, health: Health::Damaged, other_sectors: sector != own, partitions })
}

struct Header {
    at: u64,
    /// Its checksum and that of its entries are right.
    whole: bool,
    entries: Vec<Entry>,
}

fn header(window: Window<'_>, at: u64, sector: u64) -> Option<Header> {
    let block = window.get(at, 512)?;
    if !block.starts_with(MAGIC) {
        return None;
    }
    let broken = Header { at, whole: false, entries: Vec::new() };
    let size = usize::try_from(le32(&block, 12)).unwrap_or(usize::MAX);
    if !(92..=512).contains(&size) {
        return Some(broken);
    }
    let mut summed = block[..size].to_vec();
    summed[16..20].fill(0);
    if crc32fast::hash(&summed) != le32(&block, 16) {
        return Some(broken);
    }
    let (count, entry_bytes) = (le32(&block, 80), le32(&block, 84));
    if count > MOST_ENTRIES || !matches!(entry_bytes, 128 | 256 | 512) {
        return Some(broken);
    }
    let Some(list_at) = le64(&block, 72).checked_mul(sector) else { return Some(broken) };
    let Some(list) = window.get(list_at, (count * entry_bytes) as usize) else { return Some(broken) };
    let whole = crc32fast::hash(&list) == le32(&block, 88);
    let entries = list.chunks_exact(entry_bytes as usize).filter_map(|bytes| entry(bytes, sector)).collect();
    Some(Header { at, whole, entries })
}

fn entry(bytes: &[u8], sector: u64) -> Option<Entry> {
    let type_guid = Uuid::from_slice_le(bytes.get(..16)?).ok().filter(|guid| !guid.is_nil())?;
    let (first, last) = (le64(bytes, 32), le64(bytes, 40));
    let sectors = last.checked_sub(first).and_then(|n| n.checked_add(1)).unwrap_or(0);
    let (start, length) = match (first.checked_mul(sector), sectors.checked_mul(sector)) {
        (Some(start), Some(length)) => (start, length),
        _ => (0, 0),
    };
    let guid = Uuid::from_slice_le(bytes.get(16..32)?).ok()?;
    Some(Entry { start, bytes: length, type_guid, guid, name: super::label_utf16(bytes.get(56..128)?) })
}

/// The types that are met on machines in shops (UEFI specification; Discoverable Partitions Specification; the tables of
/// util-linux and gptfdisk).
const TYPES: [(Uuid, &str); 32] = [
    (uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"), "EFI system"),
    (uuid!("024dee41-33e7-11d3-9d69-0008c781f39f"), "MBR scheme"),
    (uuid!("21686148-6449-6e6f-744e-656564454649"), "BIOS boot"),
    (uuid!("e3c9e316-0b5c-4db8-817d-f92df00215ae"), "Microsoft reserved"),
    (uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"), "Windows data"),
    (uuid!("de94bba4-06d1-4d40-a16a-bfd50179d6ac"), "Windows recovery"),
    (uuid!("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"), "Windows dynamic disk"),
    (uuid!("af9b60a0-1431-4f62-bc68-3311714a69ad"), "Windows dynamic disk"),
    (uuid!("e75caf8f-f680-4cee-afa3-b001e56efc2d"), "Windows Storage Spaces"),
    (uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4"), "Linux data"),
    (uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"), "Linux root"),
    (uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"), "Linux root"),
    (uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"), "Linux root verity"),
    (uuid!("933ac7e1-2eb4-4f13-b844-0e14e2aef915"), "Linux home"),
    (uuid!("4d21b016-b534-45c2-a9fb-5c16e091fd2d"), "Linux /var"),
    (uuid!("3b8f8425-20e0-4f3b-907f-1a25a76f98e8"), "Linux /srv"),
    (uuid!("bc13c2ff-59e6-4262-a352-b275fd6f7172"), "Linux boot"),
    (uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"), "Linux swap"),
    (uuid!("a19d880f-05fc-4d3b-a006-743f0f84911e"), "Linux RAID"),
    (uuid!("e6d6d379-f507-44c2-a23c-238f2a3df928"), "Linux LVM"),
    (uuid!("ca7d7ccb-63ed-4c53-861c-1742536059cc"), "Linux LUKS"),
    (uuid!("4fbd7e29-9d25-41b8-afd0-062c0ceff05d"), "Ceph OSD"),
    (uuid!("cafecafe-9b03-4f30-b4c6-b4b80ceff106"), "Ceph block"),
    (uuid!("45b0969e-9b03-4f30-b4c6-b4b80ceff106"), "Ceph journal"),
    (uuid!("6a898cc3-1dd2-11b2-99a6-080020736631"), "ZFS"),
    (uuid!("516e7cba-6ecf-11d6-8ff8-00022d09712b"), "FreeBSD ZFS"),
    (uuid!("516e7cb6-6ecf-11d6-8ff8-00022d09712b"), "FreeBSD UFS"),
    (uuid!("aa31e02a-400f-11db-9590-000c2911d1b8"), "VMware VMFS"),
    (uuid!("9d275380-40ad-11db-bf97-000c2911d1b8"), "VMware ESXi"),
    (uuid!("7c3457ef-0000-11aa-aa11-00306543ecac"), "Apple APFS"),
    (uuid!("48465300-0000-11aa-aa11-00306543ecac"), "Apple HFS+"),
    (uuid!("53746f72-6167-11aa-aa11-00306543ecac"), "Apple CoreStorage or FileVault"),
];
