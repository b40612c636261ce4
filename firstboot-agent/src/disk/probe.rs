//! What is on a disk. Three look, and only when none of them finds anything is it blank:
//! - our own partition names tell an install of ours, finished or half;
//! - [`signature`] reads the bytes: it sees damaged tables, what is inside partitions, data without a name, and it
//!   stops at the first byte that cannot be read;
//! - libblkid, by its program, knows rare formats, and is older and used by more people than ours.
//!
//! Where the last two disagree, something is there.

use crate::{
    disk::{
        layout::{IN_PROGRESS, Role, divide},
        signature::{
            self, Scan,
            window::{Device, ReadAt as _},
        },
        table::{NOT_BOOTABLE, has_room_for_ours, partition_node},
    },
    install::state,
};
use contracts::{
    bios,
    facts::{DiskContent, Signature},
};
use gptman::GPT;
use std::{
    fs::File,
    io::{Seek as _, SeekFrom},
    path::Path,
    process::{Command, Stdio},
};
use uuid::Uuid;

/// What a look at a disk brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// What is on it.
    pub content: DiskContent,
    /// The signatures that were found.
    pub signatures: Vec<Signature>,
    /// The GUIDs of its partitions.
    pub partitions: Vec<Uuid>,
}

/// Looks at a disk without writing to it. Anything that cannot be told for certain counts as foreign.
#[must_use]
pub fn examine(device: &Path, sector_bytes: u32) -> Examined {
    let opened = File::open(device).and_then(|mut file| {
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok((file, bytes))
    });
    let (mut file, bytes) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let what = format!("something that cannot be read ({error})");
            return Examined { content: DiskContent::Foreign { what }, ..Examined::default() };
        }
    };
    let ours = GPT::find_from(&mut file).ok().and_then(|table| ours(&table));
    let disk = Device::new(file, bytes);
    let scan = signature::scan(&disk, sector_bytes);
    let signatures = scan.signatures();
    let content = match ours {
        Some(ours) => with_owner(ours, device),
        None if is_cut_off(&disk, &scan, sector_bytes) => DiskContent::HalfInstall { owner: None },
        // A failing disk would fail for blkid too, and take its time.
        None if scan.trouble.is_some() => foreign(&scan, None),
        None => decide(&scan, ask_blkid(device)),
    };
    Examined { content, signatures, partitions: scan.guids }
}

/// What is on a disk with sectors of 512 bytes; see [`examine`].
#[must_use]
pub fn content(device: &Path) -> DiskContent {
    examine(device, 512).content
}

/// The power went while our table was written for the first time: the boot code that only we write is there, the table was never
/// whole and names no partition that is not ours, and where our state would lie there is none.
fn is_cut_off(disk: &Device, scan: &Scan, sector_bytes: u32) -> bool {
    let [table] = scan.findings.as_slice() else { return false };
    let names = scan.partitions.iter().filter_map(|partition| partition.name.as_deref());
    let ours = names.filter(|name| Role::ALL.iter().any(|role| name.trim_end_matches(IN_PROGRESS) == role.name()));
    let begun = matches!(table.kind, "gpt" | "mbr") && scan.partition_count == ours.count() && scan.trouble.is_none();
    let mut code = [0; bios::BOOT_CODE_BYTES];
    let ours = begun && disk.fill(0, &mut code).is_ok() && code.starts_with(&NOT_BOOTABLE);
    let partitions = divide(disk.length(), sector_bytes).unwrap_or_default();
    let Some(state) = partitions.iter().find(|partition| partition.role == Role::State) else { return false };
    // The magic numbers of ext4, and of both headers of LUKS2.
    let at = state.first * u64::from(sector_bytes);
    let nothing = |inside: u64| {
        let mut magic = [0; 2];
        disk.fill(at + inside, &mut magic).is_ok() && magic == [0; 2]
    };
    ours && code[NOT_BOOTABLE.len()..].iter().all(|byte| *byte == 0)
        && [0, 1024 + 56, 16 << 10].into_iter().all(nothing)
}

fn with_owner(ours: DiskContent, device: &Path) -> DiskContent {
    let owner = state::owner(&partition_node(device, Role::State.number()));
    match ours {
        DiskContent::Installed { root_hashes, .. } => DiskContent::Installed { root_hashes, owner },
        DiskContent::HalfInstall { .. } => DiskContent::HalfInstall { owner },
        other => other,
    }
}

/// libblkid's word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Blkid {
    Nothing,
    Found(Export),
    Several,
    Failed(String),
}

/// What `blkid --output export` printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Export {
    kind: Option<String>,
    table: Option<String>,
    label: Option<String>,
}

/// libblkid's low-level probe: exit status 2 means that it found nothing, 8 that it found too much (blkid(8), "EXIT
/// STATUS").
fn ask_blkid(device: &Path) -> Blkid {
    let mut command = Command::new("blkid");
    command.args(["--probe", "--output", "export"]).arg(device).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    match command.stdin(Stdio::null()).output() {
        Ok(output) => match output.status.code() {
            Some(0) => Blkid::Found(Export::read(&String::from_utf8_lossy(&output.stdout))),
            Some(2) => Blkid::Nothing,
            Some(8) => Blkid::Several,
            _ => Blkid::Failed(format!("blkid: {}", output.status)),
        },
        Err(error) => Blkid::Failed(format!("starting blkid: {error}")),
    }
}

/// Blank only when both find nothing.
fn decide(scan: &Scan, blkid: Blkid) -> DiskContent {
    match (scan.is_blank(), blkid) {
        (true, Blkid::Nothing) => DiskContent::Blank,
        (true, Blkid::Found(export)) => DiskContent::Foreign { what: export.words() },
        (true, Blkid::Several) => DiskContent::Foreign { what: "several kinds of data at once".into() },
        (true, Blkid::Failed(why)) => {
            DiskContent::Foreign { what: format!("something that could not be examined ({why})") }
        }
        (false, Blkid::Found(export)) => foreign(scan, Some(&export)),
        (false, _) => foreign(scan, None),
    }
}

/// Words for what is there. Where libblkid knows more, its words.
fn foreign(scan: &Scan, export: Option<&Export>) -> DiskContent {
    let nameless = scan.findings.is_empty() && scan.trouble.is_none();
    if let Some(export) = export.filter(|export| nameless && (export.kind.is_some() || export.table.is_some())) {
        return DiskContent::Foreign { what: export.words() };
    }
    let mut scan = scan.clone();
    if let (Some(export), Some(found)) = (export, scan.findings.first_mut())
        && found.label.is_none()
        && export.kind.as_deref() == Some(found.kind)
    {
        found.label.clone_from(&export.label);
    }
    let what = scan.words().unwrap_or_else(|| "data of a kind that has no name here".into());
    DiskContent::Foreign { what }
}

impl Export {
    fn read(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            let safe: String = line.replace('\\', "").chars().filter(|c| !c.is_control()).take(40).collect();
            Some(safe.replace('"', "'"))
        };
        Self { kind: value("TYPE"), table: value("PTTYPE"), label: value("LABEL") }
    }

    fn words(&self) -> String {
        let label = self.label.as_ref().map_or(String::new(), |label| format!(" named \"{label}\""));
        match (&self.kind, &self.table) {
            (Some(kind), _) if kind.ends_with("_member") => {
                format!("a member of a set of disks ({}){label}", kind.trim_end_matches("_member").replace('_', " "))
            }
            (Some(kind), _) => format!("data of the kind {kind}{label}"),
            (None, Some(table)) => format!("a partition table ({table})"),
            (None, None) => "data of a kind that has no name here".into(),
        }
    }
}

/// Our table: all names in their places. Only the partition for BIOS may be missing, as on disks of older versions. `None` for anybody else's.
fn ours(table: &GPT) -> Option<DiskContent> {
    if !has_room_for_ours(table) {
        return None;
    }
    let name_of = |role: Role| table[role.number()].partition_name.as_str().to_owned();
    let mut root_hashes = Vec::new();
    for role in Role::ALL {
        let name = name_of(role);
        if role == Role::BiosBoot && name.is_empty() {
            continue;
        }
        let bare = name.trim_end_matches(IN_PROGRESS);
        if bare != role.name() {
            return None;
        }
    }
    for (root, verity) in [(Role::RootA, Role::VerityA), (Role::RootB, Role::VerityB)] {
        if !name_of(root).ends_with(IN_PROGRESS) {
            root_hashes.push(format!("{}{}", guid_hex(table, root), guid_hex(table, verity)));
        }
    }
    // Slot B stays marked until its first update; an install is complete when one slot is.
    Some(if root_hashes.is_empty() {
        DiskContent::HalfInstall { owner: None }
    } else {
        DiskContent::Installed { root_hashes, owner: None }
    })
}

fn guid_hex(table: &GPT, role: Role) -> String {
    uuid::Uuid::from_bytes_le(table[role.number()].unique_partition_guid).simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_cannot_be_read_is_not_blank() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::write(&disk, vec![0; 3 << 20]).unwrap();
        assert_eq!(content(&disk), DiskContent::Blank);
        for unreadable in [folder.path().join("missing"), folder.path().to_owned(), "/proc/self/mem".into()] {
            let found = content(&unreadable);
            assert!(matches!(&found, DiskContent::Foreign { .. }), "{}: {found:?}", unreadable.display());
        }
    }

    #[test]
    fn a_table_with_few_entries_is_somebody_elses() {
        use gptman::{GPTHeader, GPTPartitionEntry};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        file.set_len(4 << 20).unwrap();
        let mut header = GPTHeader::new_from(&mut file, 512, [1; 16]).unwrap();
        header.number_of_partition_entries = 4;
        let entries = vec![GPTPartitionEntry::empty(); 4];
        header.write_into(&mut file, 512, &entries).unwrap();
        let table = GPT::find_from(&mut file).unwrap();
        assert!(ours(&table).is_none());
        assert_eq!(content(&path), DiskContent::Foreign { what: "a partition table (GPT)".into() });
    }

    #[test]
    fn only_what_both_find_empty_is_blank() {
        let scan_of = |bytes: &[u8]| signature::scan(&bytes, 512);
        let (zeros, leftovers) = (scan_of(&[0; 1 << 16]), scan_of(&[&[7; 100][..], &[0; 1 << 16]].concat()));
        let found = || Blkid::Found(Export::read("DEVNAME=/dev/vda\nLABEL=Till\\ data\nTYPE=rarefs\n"));
        let words = |scan: &Scan, blkid| match decide(scan, blkid) {
            DiskContent::Foreign { what } => what,
            other => format!("{other:?}"),
        };
        assert_eq!(words(&zeros, Blkid::Nothing), "Blank");
        assert_eq!(words(&zeros, found()), "data of the kind rarefs named \"Till data\"");
        assert_eq!(words(&zeros, Blkid::Several), "several kinds of data at once");
        assert_eq!(words(&zeros, Blkid::Failed("x".into())), "something that could not be examined (x)");
        assert_eq!(words(&leftovers, Blkid::Nothing), "data of a kind that has no name here");
        assert_eq!(words(&leftovers, found()), "data of the kind rarefs named \"Till data\"");
    }

    #[test]
    fn what_blkid_says_becomes_words() {
        let words = |text: &str| Export::read(text).words();
        assert_eq!(words("DEVNAME=/dev/vda\nPTUUID=1\nPTTYPE=atari\n"), "a partition table (atari)");
        assert_eq!(words("TYPE=jmicron_raid_member\n"), "a member of a set of disks (jmicron raid)");
        assert_eq!(words("LABEL=a\u{1b}[2Jb\"c\nTYPE=x\n"), "data of the kind x named \"a[2Jb'c\"");
    }
}
