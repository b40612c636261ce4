//! File systems whose signature is more than one magic number at one place.

use super::{
    Finding, label, label_utf16,
    window::{Window, le16, le32},
};

const KIB: u64 = 1 << 10;

pub(super) fn find(window: Window<'_>) -> Vec<Finding> {
    [
        ext(window),
        ntfs(window),
        exfat(window),
        fat(window),
        swap(window),
        f2fs(window),
        hfs(window),
        ufs(window),
        nilfs2(window),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// These begin with a boot sector, whose last two bytes are those of an MBR.
pub(super) fn has_boot_sector(kind: &str) -> bool {
    matches!(kind, "ntfs" | "exfat" | "fat" | "bitlocker" | "hpfs")
}

/// ext2, ext3, ext4: the superblock lies 1 KiB from the beginning; features tell which (Linux, fs/ext4/ext4.h).
fn ext(window: Window<'_>) -> Option<Finding> {
    const HAS_JOURNAL: u32 = 4;
    const JOURNAL_DEVICE: u32 = 8;
    /// What ext3 knows: filetype, needs_recovery, journal_dev, meta_bg.
    const INCOMPATIBLE_3: u32 = 0x1e;
    /// sparse_super, large_file, btree_dir.
    const READ_ONLY_3: u32 = 0x7;
    let block = window.get(KIB, 136)?;
    if block[56..58] != [0x53, 0xef] {
        return None;
    }
    let (compatible, incompatible, read_only) = (le32(&block, 92), le32(&block, 96), le32(&block, 100));
    let kind = if incompatible & JOURNAL_DEVICE != 0 {
        "jbd"
    } else if incompatible & !INCOMPATIBLE_3 != 0 || read_only & !READ_ONLY_3 != 0 {
        "ext4"
    } else if compatible & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    let what = if kind == "jbd" { "an ext4 journal".to_owned() } else { format!("an {kind} file system") };
    Some(Finding::new(kind, what, window.start() + KIB + 56).named(label(&block[120..136])))
}

/// NTFS, also when only its copy of the boot sector is left: in the last sector.
fn ntfs(window: Window<'_>) -> Option<Finding> {
    if window.has(3, b"NTFS    ") {
        return Some(Finding::new("ntfs", "an ntfs file system", window.start() + 3));
    }
    let back = [512_u64, 4096]
        .into_iter()
        .find(|back| window.get_from_end(*back, 11).is_some_and(|last| last[0] == 0xeb && last[3..] == *b"NTFS    "))?;
    let at = window.start() + window.length() - back + 3;
    Some(Finding::new("ntfs", "an ntfs file system with a damaged boot sector", at))
}

/// exFAT; its copy of the boot region begins at sector 12 (exFAT specification, section 2).
fn exfat(window: Window<'_>) -> Option<Finding> {
    let at = [0_u64, 12 * 512, 12 * 4096].into_iter().find(|at| window.has(at + 3, b"EXFAT   "))?;
    let damaged = if at == 0 { "" } else { " with a damaged boot sector" };
    Some(Finding::new("exfat", format!("an exFAT file system{damaged}"), window.start() + at + 3))
}

/// FAT: 12, 16 or 32 bits. The words in the boot sector are only a hint, so its numbers have to make sense too
/// (Microsoft, "FAT32 File System Specification"). FAT32 keeps a copy in sector 6.
fn fat(window: Window<'_>) -> Option<Finding> {
    for at in [0_u64, 6 * 512, 6 * 4096] {
        let Some(sector) = window.get(at, 512) else { continue };
        if sector[3..11] == *b"NTFS    " || sector[3..11] == *b"EXFAT   " || sector[3..11] == *b"-FVE-FS-" {
            return None;
        }
        let sector_bytes = le16(&sector, 11);
        let sane = matches!(sector[0], 0xeb | 0xe9)
            && matches!(sector_bytes, 512 | 1024 | 2048 | 4096)
            && sector[13].is_power_of_two()
            && le16(&sector, 14) > 0
            && matches!(sector[16], 1 | 2)
            && (sector[21] == 0xf0 || sector[21] >= 0xf8)
            && sector[510..] == [0x55, 0xaa];
        if !sane {
            continue;
        }
        // FAT32 has no length of a FAT in the old place.
        let name = if le16(&sector, 22) == 0 { &sector[71..82] } else { &sector[43..54] };
        let name = label(name).filter(|name| name != "NO NAME");
        let damaged = if at == 0 { "" } else { " with a damaged boot sector" };
        return Some(Finding::new("fat", format!("a FAT file system{damaged}"), window.start() + at).named(name));
    }
    None
}

/// Linux swap, also with a hibernated system in it: the last ten bytes of the first page, whatever a page's size is.
fn swap(window: Window<'_>) -> Option<Finding> {
    for page in [4, 8, 16, 32, 64] {
        let Some(magic) = window.get(page * KIB - 10, 10) else { break };
        let at = window.start() + page * KIB - 10;
        if magic == *b"SWAPSPACE2" || magic == *b"SWAP-SPACE" {
            let name = window.get(1052, 16).and_then(|name| label(&name));
            return Some(Finding::new("swap", "swap space", at).named(name));
        }
        if [&b"S1SUSPEND\0"[..], b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001"].contains(&&magic[..]) {
            return Some(Finding::new("swsuspend", "a hibernated Linux system", at));
        }
    }
    None
}

/// F2FS; its second superblock lies 4 KiB behind the first.
fn f2fs(window: Window<'_>) -> Option<Finding> {
    let at = [KIB, 5 * KIB].into_iter().find(|at| window.has(*at, &[0x10, 0x20, 0xf5, 0xf2]))?;
    let name = window.get(at + 0x7c, 128).and_then(|name| label_utf16(&name));
    Some(Finding::new("f2fs", "an f2fs file system", window.start() + at).named(name))
}

/// HFS and HFS+ (Apple, Technical Note TN1150): two letters, so the fields behind them have to make sense.
fn hfs(window: Window<'_>) -> Option<Finding> {
    let block = window.get(KIB, 64)?;
    let at = window.start() + KIB;
    match &block[..2] {
        b"H+" | b"HX" if matches!(u16::from_be_bytes([block[2], block[3]]), 4 | 5) => {
            Some(Finding::new("hfsplus", "an Apple HFS+ file system", at))
        }
        b"BD" => {
            let unit = u32::from_be_bytes([block[20], block[21], block[22], block[23]]);
            let length = usize::from(block[36]).min(27);
            (unit > 0 && unit % 512 == 0)
                .then(|| Finding::new("hfs", "an Apple HFS file system", at).named(label(&block[37..37 + length])))
        }
        _ => None,
    }
}

/// UFS of the BSDs and Solaris: four places, two byte orders (libblkid, ufs.c).
fn ufs(window: Window<'_>) -> Option<Finding> {
    const MAGICS: [u32; 6] = [0x1954_0119, 0x0001_1954, 0x0019_5612, 0x0009_5014, 0x0061_2195, 0x0523_1994];
    let at = [0, 8, 64, 256].into_iter().map(|kib| kib * KIB + 1372).find(|at| {
        window.get(*at, 4).is_some_and(|b| {
            let bytes = [b[0], b[1], b[2], b[3]];
            MAGICS.contains(&u32::from_le_bytes(bytes)) || MAGICS.contains(&u32::from_be_bytes(bytes))
        })
    })?;
    Some(Finding::new("ufs", "a UFS file system", window.start() + at))
}

/// NILFS2: a superblock 1 KiB from the beginning, another one 4 KiB from the end.
fn nilfs2(window: Window<'_>) -> Option<Finding> {
    let end = (window.length() / 4096 * 4096).checked_sub(4096);
    let at = [Some(KIB), end]
        .into_iter()
        .flatten()
        .find(|at| window.get(*at, 16).is_some_and(|b| b[6..8] == [0x34, 0x34] && le32(&b, 0) == 2))?;
    Some(Finding::new("nilfs2", "a nilfs2 file system", window.start() + at + 6))
}
