//! Disks that belong to somebody else, each made by the tool that makes such disks in the field. Two have no tool
//! here: mdadm refuses to write a superblock where the kernel has no md driver, and ZFS is not part of Debian main;
//! their on-disk labels are written out as their specifications say.

use super::root::Root;
use crate::process;
use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// One foreign disk.
#[derive(Debug, Clone)]
pub struct ForeignDisk {
    /// Its name in file names, and its serial number.
    pub name: &'static str,
    /// Words that a refusal must hold.
    pub words: &'static str,
    /// The disk, a raw image.
    pub image: PathBuf,
}

/// A store that nobody here has heard of.
pub const OTHER_STORE: &str = "store-0007";

const GIB: u64 = 1 << 30;
const KIB: u64 = 1 << 10;

/// Makes one disk of every kind, each of this size.
///
/// # Errors
/// When a tool fails.
pub fn make_all(root: &Root, folder: &Path, gib: u64) -> Result<Vec<ForeignDisk>> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let kinds: [(&str, &str, Make); 8] = [
        ("ntfs", "ntfs file system named \"Till data\"", Make::Shell("mkfs.ntfs -F -Q -q -L 'Till data' \"$1\"")),
        ("ext4", "ext4 file system named \"photos\"", Make::Shell("mkfs.ext4 -q -F -L photos \"$1\"")),
        ("luks", "LUKS", Make::Shell(LUKS)),
        ("lvm", "LVM", Make::Shell(LVM)),
        ("windows", "partition table (GPT)", Make::Shell(WINDOWS)),
        ("raid", "Linux RAID", Make::Write(raid_superblock)),
        ("zfs", "ZFS", Make::Write(zfs_labels)),
        ("other-store", OTHER_STORE, Make::Shell(OTHER_STORE_DISK)),
    ];
    let mut disks = Vec::new();
    for (name, words, make) in kinds {
        let image = folder.join(format!("{name}.raw"));
        super::machine::blank_disk(&image, gib)?;
        match make {
            Make::Shell(script) => {
                let mut command = root.command("sh");
                command.args(["-ec", script, "sh"]).arg(&image).arg(OTHER_STORE);
                process::output(&mut command).map(|_| ())
            }
            Make::Write(write) => {
                let file = File::options().write(true).open(&image).with_context(|| format!("opening {name}"))?;
                write(&file, gib * GIB)
            }
        }
        .with_context(|| format!("making the foreign disk {name}"))?;
        let found = process::output(root.command("blkid").args(["--probe", "--output", "export"]).arg(&image));
        ensure!(found.is_ok(), "the foreign disk {name} does not look like one: {found:?}");
        disks.push(ForeignDisk { name, words, image });
    }
    Ok(disks)
}

enum Make {
    Shell(&'static str),
    Write(fn(&File, u64) -> Result<()>),
}

/// A cheap key derivation: the disk is never opened.
const LUKS: &str = "printf secret | cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 \
    --pbkdf-force-iterations 1000 \"$1\" -";

/// pvcreate wants a block device. The loop device goes away with the shell, whatever happens.
const LVM: &str = "device=$(losetup --find --show \"$1\"); trap 'losetup --detach \"$device\"' EXIT; \
    pvcreate --yes --config \"devices{use_devicesfile=0 filter=[\\\"a|^$device\\$|\\\",\\\"r|.*|\\\"]} \
    activation{udev_sync=0 udev_rules=0} global{event_activation=0} backup{backup=0 archive=0}\" \"$device\" 2>&1";

/// Microsoft reserved and basic data partitions, the latter with NTFS in it.
const WINDOWS: &str = "printf 'label: gpt\\n,16M,E3C9E316-0B5C-4DB8-817D-F92DF00215AE\\n\
    ,4G,EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\\n' | sfdisk --quiet \"$1\"; \
    truncate --size=4G \"$1.part\"; mkfs.ntfs -F -Q -q -L Windows \"$1.part\"; \
    dd if=\"$1.part\" of=\"$1\" bs=1M seek=17 conv=notrunc,sparse status=none; rm \"$1.part\"";

/// A finished install of Shelfboot in another store: the table, and the state partition with its record.
const OTHER_STORE_DISK: &str = "printf 'label: gpt\\n\
    start=2048,size=1G,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B,name=shelfboot-esp\\n\
    size=8G,type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709,name=shelfboot-root-a\\n\
    size=256M,type=2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5,name=shelfboot-verity-a\\n\
    size=8G,type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709,name=shelfboot-root-b!\\n\
    size=256M,type=2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5,name=shelfboot-verity-b\\n\
    size=40G,type=0FC63DAF-8483-4772-8E79-3D69D8477DE4,name=shelfboot-state\\n' | sfdisk --quiet \"$1\"; \
    mkdir -p \"$1.state/shelfboot\"; \
    printf '{\"version\":1,\"template\":\"k8s-worker\",\"image_version\":\"1\",\"attempt\":null,\
\"roles\":{\"targets\":1,\"snapshot\":1,\"timestamp\":1},\
\"owner\":{\"store\":\"%s\",\"machine\":\"52:54:00:00:00:07\"}}' \"$2\" > \"$1.state/shelfboot/install.json\"; \
    mkfs.ext4 -q -F -L shelfboot-state -d \"$1.state\" -E offset=18791530496,lazy_itable_init=1 \"$1\" 40G; \
    rm -r \"$1.state\"";

/// Linux md, version 1.2: 4 KiB from the beginning (kernel `include/uapi/linux/raid/md_p.h`).
fn raid_superblock(disk: &File, bytes: u64) -> Result<()> {
    let mut block = [0_u8; 512];
    let mut put = |at: usize, value: &[u8]| block[at..at + value.len()].copy_from_slice(value);
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1_u32.to_le_bytes());
    put(16, b"shelfboot-test-1");
    put(32, b"till:0");
    // A mirror of two disks.
    put(72, &1_u32.to_le_bytes());
    put(80, &(bytes / 512 - 2048).to_le_bytes());
    put(92, &2_u32.to_le_bytes());
    put(128, &2048_u64.to_le_bytes());
    put(136, &(bytes / 512 - 2048).to_le_bytes());
    put(144, &8_u64.to_le_bytes());
    put(168, b"shelfboot-test-2");
    put(220, &2_u32.to_le_bytes());
    put(258, &1_u16.to_le_bytes());
    let words = block[..260].chunks_exact(4).map(|w| u64::from(u32::from_le_bytes([w[0], w[1], w[2], w[3]])));
    let sum: u64 = words.sum();
    let folded = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).context("the checksum")?;
    block[216..220].copy_from_slice(&folded.to_le_bytes());
    disk.write_all_at(&block, 4 * KIB).context("writing the superblock")
}

/// ZFS: four labels of 256 KiB, two at each end. Each holds the pool's configuration, an XDR list of names and values,
/// and in its second half a ring of uberblocks ("ZFS On-Disk Specification", chapter 1).
fn zfs_labels(disk: &File, bytes: u64) -> Result<()> {
    // Encoding XDR, little endian; then version and flags of the list.
    let mut list = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (name, value) in [("version", 5000), ("state", 0), ("txg", 4), ("pool_guid", 0x5e1f), ("guid", 0xb007_u64)] {
        let name_padded = name.len().next_multiple_of(4);
        let size = u32::try_from(12 + name_padded + 16).context("a size")?;
        // Encoded size, decoded size, length of the name; after the name type 8 (uint64) and one element.
        list.extend([size, 0, u32::try_from(name.len()).context("a length")?].iter().flat_map(|n| n.to_be_bytes()));
        list.extend(name.bytes().chain(std::iter::repeat_n(0, name_padded - name.len())));
        list.extend([8_u32, 1].iter().flat_map(|n| n.to_be_bytes()));
        list.extend(value.to_be_bytes());
    }
    for label in [0, 256 * KIB, bytes - 512 * KIB, bytes - 256 * KIB] {
        disk.write_all_at(&list, label + 16 * KIB).context("writing a label")?;
        for slot in 0..8 {
            let fields = [0x00ba_b10c, 5000, slot + 1, 0x5e1f_b007, 1_700_000_000_u64];
            let block: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
            disk.write_all_at(&block, label + 128 * KIB + slot * KIB).context("writing an uberblock")?;
        }
    }
    Ok(())
}

/// A checksum over everything on a disk that is not zero: where it is, and what it is. A single write shows.
///
/// # Errors
/// When the disk cannot be read.
pub fn checksum(image: &Path) -> Result<String> {
    const PIECE: u64 = 64 * KIB;
    let mut file = File::open(image).with_context(|| format!("opening {}", image.display()))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    let mut at = 0;
    // Only the parts that take space are read; which of their blocks are zero is not for the file system to say.
    while let Some(data) = next_data(&file, at)? {
        at = data / PIECE * PIECE;
        file.seek(SeekFrom::Start(at)).context("seeking")?;
        let length = file.read(&mut buffer).context("reading a disk")?;
        let piece = &buffer[..length];
        if piece.iter().any(|byte| *byte != 0) {
            hasher.update(at.to_be_bytes());
            hasher.update(piece);
        }
        at += PIECE;
    }
    Ok(hex::encode(hasher.finalize()))
}

fn next_data(file: &File, from: u64) -> Result<Option<u64>> {
    use nix::{errno::Errno, unistd};
    let from = i64::try_from(from).context("a disk without an end")?;
    match unistd::lseek(file, from, unistd::Whence::SeekData) {
        Ok(at) => Ok(Some(u64::try_from(at).context("a negative place")?)),
        // Nothing but a hole up to the end (lseek(2)).
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error).context("looking for data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn one_changed_byte_changes_the_checksum_and_holes_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        crate::world::machine::blank_disk(&path, 64).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let blank = checksum(&path).unwrap();
        file.write_all_at(&[0; 100_000], 5 * GIB).unwrap();
        assert_eq!(checksum(&path).unwrap(), blank);
        file.write_all_at(&[1], 5 * GIB + 70_001).unwrap();
        let one = checksum(&path).unwrap();
        assert_ne!(one, blank);
        file.write_all_at(&[0, 1], 5 * GIB + 70_001).unwrap();
        assert_ne!(checksum(&path).unwrap(), one);
    }

    #[test]
    fn written_labels_are_known_to_libblkid() {
        let folder = tempfile::tempdir().unwrap();
        type Write = fn(&File, u64) -> Result<()>;
        let labels: [(&str, Write); 2] = [("linux_raid_member", raid_superblock), ("zfs_member", zfs_labels)];
        for (kind, write) in labels {
            let path = folder.path().join(kind);
            crate::world::machine::blank_disk(&path, 64).unwrap();
            write(&File::options().write(true).open(&path).unwrap(), 64 * GIB).unwrap();
            let mut command = Command::new("blkid");
            command.args(["--probe", "--match-tag", "TYPE", "--output", "value"]).arg(&path);
            command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            assert_eq!(process::output(&mut command).unwrap().trim(), kind);
        }
    }
}
