//! Samples made by the real tools (`tests/samples/make.sh`) with libblkid as the oracle where it is there, and what no
//! tool makes.

use super::*;
use proptest::prelude::*;
use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

/// Unpacks a sample to a file with holes.
fn unpack(name: &str) -> (File, u64, tempfile::TempPath) {
    let packed = File::open(samples().join(format!("{name}.img.zst"))).unwrap();
    let mut decoder = zstd::Decoder::new(packed).unwrap();
    decoder.window_log_max(27).unwrap();
    let mut disk = tempfile::NamedTempFile::new().unwrap();
    let (mut piece, zeros, mut bytes) = (vec![0; 1 << 16], vec![0; 1 << 16], 0);
    loop {
        let mut filled = 0;
        while filled < piece.len() {
            match decoder.read(&mut piece[filled..]).unwrap() {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            break;
        }
        if piece[..filled] != zeros[..filled] {
            disk.as_file_mut().seek(SeekFrom::Start(bytes)).unwrap();
            disk.write_all(&piece[..filled]).unwrap();
        }
        bytes += filled as u64;
    }
    disk.as_file().set_len(bytes).unwrap();
    let path = disk.into_temp_path();
    (File::open(&path).unwrap(), bytes, path)
}

fn look(name: &str) -> (Scan, tempfile::TempPath) {
    let (file, bytes, path) = unpack(name);
    let sector = if name.ends_with("4k") { 4096 } else { 512 };
    (scan(&window::Device::new(file, bytes), sector), path)
}

/// libblkid's `TYPE`, else its `PTTYPE`; `None` where the program is not there.
fn blkid(disk: &Path) -> Option<String> {
    let mut command = Command::new("blkid");
    command.args(["--probe", "--output", "export"]).arg(disk).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let text = String::from_utf8(command.output().ok()?.stdout).unwrap();
    let value = |key: &str| text.lines().find_map(|line| Some(line.strip_prefix(key)?.to_owned()));
    Some(value("TYPE=").or_else(|| value("PTTYPE=")).unwrap_or_default())
}

/// Name of the sample, what libblkid calls it (empty where version 2.38 finds nothing), and our words.
const SAMPLES: &[(&str, &str, &str)] = &[
    ("apfs", "apfs", "an Apple APFS container"),
    ("bcache", "bcache", "a bcache device"),
    ("bcache-cache", "bcache", "a bcache device"),
    ("btrfs", "btrfs", "a btrfs file system named \"photos\""),
    ("ddf", "ddf_raid_member", "a member of a RAID of a host adapter (DDF)"),
    ("imsm", "isw_raid_member", "a member of an Intel RAID (IMSM, Rapid Storage)"),
    ("md-0.90", "linux_raid_member", "a member of a Linux RAID (0.90)"),
    ("md-1.0", "linux_raid_member", "a member of a Linux RAID (1.0) named \"shop:till\""),
    ("md-1.1", "linux_raid_member", "a member of a Linux RAID (1.1) named \"shop:till\""),
    ("md-1.2", "linux_raid_member", "a member of a Linux RAID (1.2) named \"shop:till\""),
    ("drbd-8", "drbd", "a replicated volume (DRBD)"),
    ("drbd-9", "drbd", "a replicated volume (DRBD)"),
    ("erofs", "erofs", "an erofs file system"),
    ("exfat", "exfat", "an exFAT file system"),
    ("ext2", "ext2", "an ext2 file system named \"photos\""),
    ("ext3", "ext3", "an ext3 file system named \"photos\""),
    ("ext4", "ext4", "an ext4 file system named \"photos\""),
    ("f2fs", "f2fs", "an f2fs file system named \"photos\""),
    ("fat12", "vfat", "a FAT file system named \"TILL\""),
    ("fat16", "vfat", "a FAT file system named \"TILL\""),
    ("fat32", "vfat", "a FAT file system named \"TILL\""),
    ("fat32-4k", "vfat", "a FAT file system named \"TILL\""),
    ("fat32-without-its-first-sector", "", "a FAT file system with a damaged boot sector named \"TILL\""),
    ("gfs2", "gfs2", "a GFS2 file system"),
    (
        "gpt",
        "gpt",
        "a partition table (GPT) with 3 partitions: EFI system, Microsoft reserved, Windows data (an exFAT file system)",
    ),
    ("gpt-4k", "PMBR", "a partition table (GPT) with 2 partitions: Linux data, EFI system"),
    (
        "gpt-backup-only",
        "",
        "a partition table (GPT) whose beginning is damaged, with 3 partitions: EFI system, Microsoft reserved, Windows data (an exFAT file system)",
    ),
    (
        "gpt-damaged-primary",
        "gpt",
        "a partition table (GPT) whose beginning is damaged, with 3 partitions: EFI system, Microsoft reserved, Windows data (an exFAT file system)",
    ),
    ("gpt-damaged-twice", "PMBR", "a partition table (GPT) that is damaged"),
    (
        "gpt-hybrid",
        "gpt",
        "a partition table (GPT) beside another one (MBR) with 3 partitions: EFI system, Microsoft reserved, Windows data (an exFAT file system)",
    ),
    ("hfs", "hfs", "an Apple HFS file system named \"Photos\""),
    ("iso9660", "iso9660", "an ISO 9660 file system named \"TILL\""),
    ("jfs", "jfs", "a jfs file system"),
    ("luks1", "crypto_LUKS", "an encrypted volume (LUKS 1)"),
    ("luks2", "crypto_LUKS", "an encrypted volume (LUKS 2) named \"till\""),
    ("luks2-without-its-first-header", "crypto_LUKS", "an encrypted volume (LUKS 2) with a damaged header"),
    ("lvm2", "LVM2_member", "an LVM volume"),
    (
        "mbr",
        "dos",
        "a partition table (MBR) with 3 partitions: Windows data, Linux data (an ext4 file system named \"root\"), extended",
    ),
    ("nilfs2", "nilfs2", "a nilfs2 file system"),
    ("ntfs", "ntfs", "an ntfs file system"),
    ("ntfs-without-its-first-sectors", "", "an ntfs file system with a damaged boot sector"),
    ("ocfs2", "ocfs2", "an OCFS2 file system"),
    ("protective-mbr-alone", "PMBR", "a partition table (MBR) that stands for a GPT which is gone"),
    ("reiserfs", "reiserfs", "a reiserfs file system named \"photos\""),
    ("romfs", "", "a romfs file system named \"till\""),
    ("sgi", "sgi", "a partition table (SGI)"),
    ("squashfs", "squashfs", "a squashfs file system"),
    ("sun", "sun", "a partition table (Sun)"),
    ("swap", "swap", "swap space named \"till\""),
    ("swap-64k", "swap", "swap space named \"till\""),
    ("udf", "udf", "a UDF file system"),
    ("xfs", "xfs", "an xfs file system named \"photos\""),
    ("zfs", "zfs_member", "a member of a ZFS pool named \"till\""),
];

#[test]
fn what_the_tools_make_is_recognised_and_libblkid_agrees() {
    for (name, kind, words) in SAMPLES {
        let (found, path) = look(name);
        assert_eq!(found.words().as_deref(), Some(*words), "{name}: {found:#?}");
        assert!(!found.is_blank() && found.trouble.is_none() && found.bytes_read < BUDGET / 2, "{name}: {found:#?}");
        // Where it finds nothing, a later version may.
        if let Some(said) = blkid(&path).filter(|_| !kind.is_empty()) {
            assert_eq!(said, *kind, "{name}");
        }
    }
}

#[test]
fn every_sample_is_in_the_table() {
    let names = std::fs::read_dir(samples()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".img.zst")?.to_owned())).collect();
    let mut listed: Vec<&str> = SAMPLES.iter().map(|(name, ..)| *name).collect();
    names.sort();
    listed.sort_unstable();
    assert_eq!(names, listed);
}

/// A disk of zeros with some bytes in it.
fn disk(bytes: usize, pieces: &[(usize, &[u8])]) -> Vec<u8> {
    let mut disk = vec![0; bytes];
    for (at, piece) in pieces {
        disk[*at..*at + piece.len()].copy_from_slice(piece);
    }
    disk
}

/// These have no tool here that runs without its kernel driver, its hardware or its licence: the magic numbers as their
/// specifications and libblkid have them.
#[test]
fn what_has_no_tool_here_is_recognised_by_its_magic_number() {
    const M: usize = 1 << 20;
    let bluestore = b"bluestore block device\n0f5b2f0e-52b1-4b3e-a4f8-6a1e8e5b7a11\n";
    let samples: [(&str, usize, &[u8]); 16] = [
        ("a volume encrypted with BitLocker", 3, b"-FVE-FS-"),
        ("a ReFS file system", 3, b"ReFS\0"),
        ("a member of a VMware VMFS volume", M, &[0x0d, 0xd0, 0x01, 0xc0]),
        ("a VMware VMFS file system", 2 * M, &[0x5e, 0xf1, 0xab, 0x2f]),
        ("a Ceph OSD (BlueStore)", 0, bluestore),
        ("a VDO volume", 0, b"dmvdo001"),
        ("a disk encrypted with PGP or Symantec", 3, b"PGPGUARD"),
        ("a disk encrypted with McAfee SafeBoot", 3, b"SafeBoot"),
        ("an Oracle ASM disk", 32, b"ORCLDISKVOL1"),
        ("a member of a RAID of a host adapter (DDF)", 4 * M - 512, &[0xde, 0x11, 0xde, 0x11]),
        ("a member of an Intel RAID (IMSM, Rapid Storage)", 4 * M - 1024, b"Intel Raid ISM Cfg Sig. 1.3.00"),
        ("a member of an NVIDIA RAID", 4 * M - 1024, b"NVIDIA"),
        ("a member of a Promise RAID", 4 * M - 63 * 512, b"Promise Technology, Inc."),
        ("a member of an LSI MegaRAID", 4 * M - 512, b"$XIDE$"),
        ("a member of an Adaptec RAID", 4 * M - 512, &[0x37, 0xfc, 0x4d, 0x1e]),
        ("a FreeBSD volume (GEOM ELI)", 4 * M - 512, b"GEOM::ELI"),
    ];
    for (words, at, magic) in samples {
        let found = scan(&&disk(4 * M, &[(at, magic)])[..], 512);
        assert_eq!(found.words().as_deref(), Some(words), "{found:?}");
        assert_eq!(found.signatures().len(), 1, "{words}");
    }
}

#[test]
fn one_byte_over_and_over_is_blank_and_anything_else_is_not() {
    let at = |bytes: &[u8]| scan(&bytes, 512);
    for byte in [0, 0xff, 0x5a] {
        assert!(at(&vec![byte; 3 << 20]).is_blank());
    }
    assert!(at(&[]).is_blank(), "an empty card reader has no bytes at all");
    let words = |disk: &[u8]| at(disk).words();
    assert_eq!(words(&disk(3 << 20, &[(777_777, &[1])])).as_deref(), Some("data of a kind that has no name here"));
    // Behind the first MiB only signatures count: who erased a disk did not read it to its end.
    assert_eq!(words(&disk(3 << 20, &[(1_777_777, &[1])])), None);
    let mut random = vec![0; 2 << 20];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut random);
    (random[510], random[1080], random[1024]) = (0, 0, 0);
    let words = words(&random).unwrap();
    assert!(words.contains("looks encrypted"), "{words}");
}

/// A device on which one place cannot be read.
struct Failing {
    bad: u64,
    tries: std::cell::Cell<u32>,
}

impl ReadAt for Failing {
    fn length(&self) -> u64 {
        8 << 20
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        buffer.fill(0);
        if (at..at + buffer.len() as u64).contains(&self.bad) {
            self.tries.set(self.tries.get() + 1);
            return Err(std::io::Error::other("the sector is bad"));
        }
        Ok(())
    }
}

#[test]
fn a_disk_with_a_bad_sector_is_not_blank_and_not_tried_twice() {
    for bad in [0, 1080, 700_000, (8 << 20) - 1, (8 << 20) - 700_000] {
        let device = Failing { bad, tries: 0.into() };
        let found = scan(&device, 512);
        assert!(!found.is_blank(), "{bad}");
        assert_eq!(device.tries.get(), 1, "{bad}");
        assert!(found.words().unwrap().starts_with("something that cannot be read (the sector is bad, at byte"));
    }
}

#[test]
fn names_are_safe_to_print() {
    assert_eq!(label(b"\x1b[2J\x1b[31mTill\"1\"\r\n"), Some("[2J[31mTill'1'".into()));
    assert_eq!(label(b"   \0rest"), None);
    assert_eq!(label(&[b'x'; 300]).unwrap().len(), 40);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..6000),
        zeros in 0_usize..(1 << 17),
        four_k in any::<bool>(),
    ) {
        let disk = [&bytes[..], &vec![0; zeros], &bytes[..]].concat();
        let found = scan(&&disk[..], if four_k { 4096 } else { 512 });
        prop_assert!(found.bytes_read <= BUDGET && found.trouble.is_none());
        prop_assert_eq!(found.is_blank(), found.words().is_none());
        prop_assert_eq!(found.clone(), scan(&&disk[..], if four_k { 4096 } else { 512 }));
    }

    /// Whatever becomes of one table or superblock: the disk does not turn blank by it, and nothing else is read but bytes.
    #[test]
    fn a_damaged_sample_is_never_blank(
        which in prop_oneof![Just("gpt"), Just("luks2"), Just("lvm2"), Just("ext4"), Just("mbr")],
        damage in proptest::collection::vec((0_usize..20_000, any::<u8>()), 1..40),
    ) {
        let (file, bytes, _path) = unpack(which);
        let mut disk = vec![0; usize::try_from(bytes).unwrap()];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut disk, 0).unwrap();
        for (at, byte) in damage {
            disk[at] = byte;
        }
        let found = scan(&&disk[..], 512);
        prop_assert!(!found.is_blank() && found.bytes_read <= BUDGET);
    }
}

/// The fuzzer's samples as an ordinary test; what it found is kept there.
#[test]
fn the_fuzzers_corpus_is_recognised() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/disk");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let disk = pieces::Pieces::read(&bytes);
        let found = scan(&disk, disk.sector_bytes());
        assert!(found.bytes_read <= BUDGET && found.trouble.is_none(), "{}", path.display());
        names.extend(found.findings.first().map(|found| found.kind));
    }
    for kind in ["gpt", "mbr", "ext4", "luks", "lvm2", "md", "zfs", "imsm", "fat"] {
        assert!(names.contains(&kind), "no sample of {kind}: {names:?}");
    }
}
