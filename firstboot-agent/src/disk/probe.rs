//! What is on a disk. libblkid decides what is blank: it knows the signatures of every file system, RAID member
//! and partition table that Linux does. Our own table is told by its partition names.

use crate::{
    disk::{
        layout::{IN_PROGRESS, Role},
        table::{has_room_for_ours, partition_node},
    },
    install::state,
};
use contracts::facts::DiskContent;
use gptman::GPT;
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    process::{Command, Stdio},
};

/// Looks at a disk without writing to it. Anything that cannot be told for certain counts as foreign.
#[must_use]
pub fn content(device: &Path) -> DiskContent {
    if let Some(ours) =
        File::open(device).ok().and_then(|mut file| GPT::find_from(&mut file).ok()).and_then(|t| ours(&t))
    {
        let owner = state::owner(&partition_node(device, Role::State.number()));
        return match ours {
            DiskContent::Installed { root_hashes, .. } => DiskContent::Installed { root_hashes, owner },
            DiskContent::HalfInstall { .. } => DiskContent::HalfInstall { owner },
            other => other,
        };
    }
    // libblkid's low-level probe: exit status 2 means that it found nothing (blkid(8), "EXIT STATUS").
    let output = Command::new("blkid")
        .args(["--probe", "--output", "export"])
        .arg(device)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output();
    match output {
        // The same status says that the disk could not be read.
        Ok(output) if output.status.code() == Some(2) => match read_ends(device) {
            Ok(()) => DiskContent::Blank,
            Err(error) => DiskContent::Foreign { what: format!("something that cannot be read ({error})") },
        },
        Ok(output) if output.status.success() => {
            DiskContent::Foreign { what: name(&String::from_utf8_lossy(&output.stdout)) }
        }
        Ok(output) if output.status.code() == Some(8) => {
            DiskContent::Foreign { what: "several kinds of data at once".into() }
        }
        Ok(output) => {
            DiskContent::Foreign { what: format!("something that could not be read (blkid: {})", output.status) }
        }
        Err(error) => DiskContent::Foreign { what: format!("something that could not be examined ({error})") },
    }
}

/// Reads where signatures are: the first and the last MiB. A disk with a bad sector there is not blank, it is unknown.
fn read_ends(device: &Path) -> io::Result<()> {
    const END: u64 = 1 << 20;
    let mut file = File::open(device)?;
    let bytes = file.seek(SeekFrom::End(0))?;
    for start in [0, bytes.saturating_sub(END)] {
        file.seek(SeekFrom::Start(start))?;
        let read = io::copy(&mut file.by_ref().take(END), &mut io::sink())?;
        if read < END.min(bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
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

/// Words for what `blkid --output export` printed.
fn name(export: &str) -> String {
    let value = |key: &str| {
        export.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(|v| v.replace('\\', ""))
    };
    let label = value("LABEL").map_or(String::new(), |label| format!(" named \"{label}\""));
    match (value("TYPE"), value("PTTYPE")) {
        (Some(kind), _) => match kind.as_str() {
            "crypto_LUKS" => "an encrypted volume (LUKS)".into(),
            "LVM2_member" => "an LVM volume".into(),
            "linux_raid_member" => "a member of a Linux RAID".into(),
            "zfs_member" => "a member of a ZFS pool".into(),
            "ceph_bluestore" => "a Ceph OSD".into(),
            kind => format!("a {kind} file system{label}"),
        },
        (None, Some(table)) => match table.as_str() {
            "gpt" => "a partition table (GPT)".into(),
            "dos" => "a partition table (MBR)".into(),
            table => format!("a partition table ({table})"),
        },
        (None, None) => "data of a kind that has no name here".into(),
    }
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
    }

    #[test]
    fn what_blkid_says_becomes_words() {
        assert_eq!(name("DEVNAME=/dev/vda\nLABEL=Till\\ data\nTYPE=ntfs\n"), "a ntfs file system named \"Till data\"");
        assert_eq!(name("DEVNAME=/dev/vda\nPTUUID=1\nPTTYPE=dos\n"), "a partition table (MBR)");
        assert_eq!(name("TYPE=crypto_LUKS\n"), "an encrypted volume (LUKS)");
    }
}
