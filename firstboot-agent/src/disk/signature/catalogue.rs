//! Signatures that are one magic number at one place.

use super::{Finding, label, window::Window};

/// A magic number, where it lies, and what it means.
struct Magic {
    kind: &'static str,
    what: &'static str,
    at: u64,
    magic: &'static [u8],
    /// Where a name lies, and how long it can be.
    label: Option<(u64, usize)>,
}

const fn magic(kind: &'static str, what: &'static str, at: u64, magic: &'static [u8]) -> Magic {
    Magic { kind, what, at, magic, label: None }
}

const fn labelled(kind: &'static str, what: &'static str, at: u64, magic: &'static [u8], name: (u64, usize)) -> Magic {
    Magic { kind, what, at, magic, label: Some(name) }
}

const KIB: u64 = 1 << 10;

/// Longer magic numbers first where two could lie at one place.
const MAGICS: &[Magic] = &[
    // File systems.
    labelled("xfs", "an xfs file system", 0, b"XFSB", (108, 12)),
    labelled("btrfs", "a btrfs file system", 64 * KIB + 64, b"_BHRfS_M", (64 * KIB + 0x12b, 256)),
    magic("refs", "a ReFS file system", 0, b"\0\0\0ReFS\0"),
    magic("hpfs", "an HPFS file system", 16 * 512, &[0x49, 0xe8, 0x95, 0xf9]),
    labelled("erofs", "an erofs file system", KIB, &[0xe2, 0xe1, 0xf5, 0xe0], (KIB + 64, 16)),
    magic("squashfs", "a squashfs file system", 0, b"hsqs"),
    magic("cramfs", "a cramfs file system", 0, &[0x45, 0x3d, 0xcd, 0x28]),
    labelled("romfs", "a romfs file system", 0, b"-rom1fs-", (16, 64)),
    labelled("iso9660", "an ISO 9660 file system", 32 * KIB + 1, b"CD001", (32 * KIB + 40, 32)),
    magic("udf", "a UDF file system", 32 * KIB + 1, b"BEA01"),
    magic("apfs", "an Apple APFS container", 32, b"NXSB"),
    magic("jfs", "a jfs file system", 32 * KIB, b"JFS1"),
    labelled("reiserfs", "a reiserfs file system", 64 * KIB + 52, b"ReIsEr", (64 * KIB + 100, 16)),
    magic("reiserfs", "a reiserfs file system", 8 * KIB + 52, b"ReIsEr"),
    magic("reiser4", "a reiser4 file system", 64 * KIB, b"ReIsEr4"),
    magic("gfs2", "a GFS2 file system", 64 * KIB, &[0x01, 0x16, 0x19, 0x70]),
    magic("ocfs2", "an OCFS2 file system", 8 * KIB, b"OCFSV2"),
    magic("ocfs2", "an OCFS2 file system", 4 * KIB, b"OCFSV2"),
    magic("ocfs2", "an OCFS2 file system", 2 * KIB, b"OCFSV2"),
    magic("ocfs2", "an OCFS2 file system", KIB, b"OCFSV2"),
    magic("vmfs", "a VMware VMFS file system", 2048 * KIB, &[0x5e, 0xf1, 0xab, 0x2f]),
    magic("vmfs-volume", "a member of a VMware VMFS volume", 1024 * KIB, &[0x0d, 0xd0, 0x01, 0xc0]),
    magic("zonefs", "a zonefs file system", 0, b"SFOZ"),
    magic("ubi", "a UBI volume", 0, b"UBI#"),
    magic("befs", "a BeFS file system", 512 + 32, b"1SFB"),
    // Volumes, caches and encryption.
    labelled(
        "bcachefs",
        "a bcachefs file system",
        4 * KIB + 24,
        &[0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef],
        (4 * KIB + 72, 32),
    ),
    labelled(
        "bcache",
        "a bcache device",
        4 * KIB + 24,
        &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81],
        (4 * KIB + 72, 32),
    ),
    magic("bluestore", "a Ceph OSD (BlueStore)", 0, b"bluestore block device"),
    magic("stratis", "a member of a Stratis pool", 512 + 4, b"!Stra0tis\x86\xff\x02^\x41rh"),
    magic("stratis", "a member of a Stratis pool", 9 * 512 + 4, b"!Stra0tis\x86\xff\x02^\x41rh"),
    magic("vdo", "a VDO volume", 0, b"dmvdo001"),
    magic("integrity", "a dm-integrity volume", 0, b"integrt\0"),
    magic("verity", "a dm-verity hash tree", 0, b"verity\0\0"),
    magic("asm", "an Oracle ASM disk", 32, b"ORCLDISK"),
    magic("bitlocker", "a volume encrypted with BitLocker", 3, b"-FVE-FS-"),
    magic(
        "bitlocker",
        "a volume encrypted with BitLocker To Go",
        424,
        &[0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01],
    ),
    magic("pgp", "a disk encrypted with PGP or Symantec", 3, b"PGPGUARD"),
    magic("safeboot", "a disk encrypted with McAfee SafeBoot", 3, b"SafeBoot"),
    magic("softraid", "a member of an OpenBSD softraid", 8 * KIB, b"marcCRAM"),
    // Disk labels of other systems.
    magic("sun", "a partition table (Sun)", 508, &[0xda, 0xbe]),
    magic("sgi", "a partition table (SGI)", 0, &[0x0b, 0xe5, 0xa9, 0x41]),
    magic("apple", "a partition table (Apple)", 512, b"PM\0\0"),
    magic("bsd", "a partition table (BSD)", 512, &[0x57, 0x45, 0x56, 0x82]),
    magic("lvm1", "an LVM volume (version 1)", 0, b"HM\x01\0"),
    magic("lvm1", "an LVM volume (version 1)", 0, b"HM\x02\0"),
    magic("ldm", "a disk of a Windows dynamic volume", 6 * 512, b"PRIVHEAD"),
];

pub(super) fn find(window: Window<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for magic in MAGICS {
        if found.iter().any(|other| other.kind == magic.kind) || !window.has(magic.at, magic.magic) {
            continue;
        }
        let name = magic.label.and_then(|(at, length)| label(&window.get(at, length)?));
        found.push(Finding::new(magic.kind, magic.what, window.start() + magic.at).named(name));
    }
    found
}
