//! Members of RAID sets, volume groups and pools: data that only makes sense together with other disks. Many of these
//! signatures lie at the end of the disk.

use super::{
    Finding, label,
    window::{Window, le32, le64},
};

const KIB: u64 = 1 << 10;

pub(super) fn find(window: Window<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        [md_0_90(window), md_1(window), lvm2(window), luks(window), zfs(window), drbd(window)]
            .into_iter()
            .flatten()
            .collect();
    found.extend(firmware_raid(window));
    found.extend(geom(window));
    found
}

const MD_MAGIC: u32 = 0xa92b_4efc;

/// Version 0.90: the last 64 KiB that begin at a multiple of 64 KiB (Linux, include/uapi/linux/raid/md_p.h).
fn md_0_90(window: Window<'_>) -> Option<Finding> {
    let at = (window.length() & !(64 * KIB - 1)).checked_sub(64 * KIB)?;
    let head = window.get(at, 8)?;
    let swapped = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) == MD_MAGIC;
    // Version 1.0 can lie at the same place; its major version is 1.
    let old = le32(&head, 0) == MD_MAGIC && le32(&head, 4) == 0;
    (old || swapped).then(|| Finding::new("md", "a member of a Linux RAID (0.90)", window.start() + at))
}

/// Version 1: near the end (1.0), at the beginning (1.1) or 4 KiB from it (1.2).
fn md_1(window: Window<'_>) -> Option<Finding> {
    let end = (window.length() / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
    for (at, version) in [(end, "1.0"), (Some(0), "1.1"), (Some(4 * KIB), "1.2")] {
        let Some(at) = at else { continue };
        let Some(block) = window.get(at, 256) else { continue };
        if le32(&block, 0) == MD_MAGIC && le32(&block, 4) == 1 && le64(&block, 144) == at / 512 {
            let what = format!("a member of a Linux RAID ({version})");
            return Some(Finding::new("md", what, window.start() + at).named(label(&block[32..64])));
        }
    }
    None
}

/// The label lies in one of the first four sectors (lvm2, lib/label/label.h).
fn lvm2(window: Window<'_>) -> Option<Finding> {
    let head = window.get(0, 2048)?;
    let sector = (0..4).find(|n| {
        let sector = &head[n * 512..(n + 1) * 512];
        sector.starts_with(b"LABELONE") && sector[24..].starts_with(b"LVM2 001")
    })?;
    Some(Finding::new("lvm2", "an LVM volume", window.start() + sector as u64 * 512))
}

/// LUKS 1 and 2, and the second header of LUKS 2 where the first is gone (LUKS2 On-Disk Format, section 2.1).
fn luks(window: Window<'_>) -> Option<Finding> {
    if let Some(head) = window.get(0, 72)
        && head.starts_with(b"LUKS\xba\xbe")
    {
        let version = u16::from_be_bytes([head[6], head[7]]);
        let name = if version == 2 { label(&head[24..72]) } else { None };
        return Some(Finding::new("luks", format!("an encrypted volume (LUKS {version})"), window.start()).named(name));
    }
    let second = (14..=22).map(|power| 1_u64 << power).find(|at| window.has(*at, b"SKUL\xba\xbe"))?;
    Some(Finding::new("luks", "an encrypted volume (LUKS 2) with a damaged header", window.start() + second))
}

/// Four labels of 256 KiB, two at each end; uberblocks fill the second half of each ("ZFS On-Disk Specification", 1.3).
fn zfs(window: Window<'_>) -> Option<Finding> {
    const LABEL: u64 = 256 * KIB;
    let aligned = window.length() / LABEL * LABEL;
    let labels = [Some(0), Some(LABEL), aligned.checked_sub(2 * LABEL), aligned.checked_sub(LABEL)];
    for at in labels.into_iter().flatten() {
        let Some(ring) = window.get(at + LABEL / 2, 128 << 10) else { continue };
        let magic = 0x00ba_b10c_u64;
        let slot = ring
            .chunks_exact(1024)
            .position(|block| block.starts_with(&magic.to_le_bytes()) || block.starts_with(&magic.to_be_bytes()));
        if let Some(slot) = slot {
            let name = window.get(at + 16 * KIB, 4096).and_then(|list| zfs_name(&list));
            let place = window.start() + at + LABEL / 2 + slot as u64 * KIB;
            return Some(Finding::new("zfs", "a member of a ZFS pool", place).named(name));
        }
    }
    None
}

/// The pool's name: an XDR pair whose name is `name` and whose value is a string (type 9).
fn zfs_name(list: &[u8]) -> Option<String> {
    // Length of the name (4), the name, type 9, one element, length of the value.
    let pair = b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01";
    let at = list.windows(pair.len()).position(|window| window == pair)? + pair.len();
    let length = list.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))?;
    label(list.get(at + 4..)?.get(..usize::try_from(length).ok()?)?)
}

/// Internal metadata of DRBD 8 and 9: the last 4 KiB (drbd_int.h, `struct meta_data_on_disk`).
fn drbd(window: Window<'_>) -> Option<Finding> {
    let at = (window.length() & !4095).checked_sub(4096)?;
    let block = window.get(at, 64)?;
    let magic = u32::from_be_bytes([block[60], block[61], block[62], block[63]]);
    matches!(magic, 0x8374_026b..=0x8374_026d)
        .then(|| Finding::new("drbd", "a replicated volume (DRBD)", window.start() + at))
}

/// RAID of mainboards and host adapters. All of it lies in the last sectors but for HighPoint's.
fn firmware_raid(window: Window<'_>) -> Option<Finding> {
    let found = |kind, what, back: u64| Some(Finding::new(kind, what, window.start() + window.length() - back));
    let at_end = |back: u64, length: usize| window.get_from_end(back, length);
    for back in [512, 4096, 257 * 512] {
        if at_end(back, 4).is_some_and(|b| b == [0xde, 0x11, 0xde, 0x11]) {
            return found("ddf", "a member of a RAID of a host adapter (DDF)", back);
        }
    }
    for back in [2 * 512, 2 * 4096] {
        if at_end(back, 24).is_some_and(|b| b == b"Intel Raid ISM Cfg Sig. ") {
            return found("imsm", "a member of an Intel RAID (IMSM, Rapid Storage)", back);
        }
        if at_end(back, 6).is_some_and(|b| b == b"NVIDIA") {
            return found("nvraid", "a member of an NVIDIA RAID", back);
        }
    }
    // Where Promise's tools put it depends on the model (libblkid, promise_raid.c).
    for sectors in [63, 255, 256, 16, 399, 591, 675, 735, 911, 974, 991, 951, 3087] {
        if at_end(sectors * 512, 24).is_some_and(|b| b == b"Promise Technology, Inc.") {
            return found("pdcraid", "a member of a Promise RAID", sectors * 512);
        }
    }
    let last = at_end(512, 512)?;
    if last.starts_with(b"$XIDE$") {
        return found("lsiraid", "a member of an LSI MegaRAID", 512);
    }
    // 0x37fc4d1e first; "DPTM" after 268 bytes (libblkid, adaptec_raid.c).
    if last.starts_with(&[0x37, 0xfc, 0x4d, 0x1e]) {
        return found("adraid", "a member of an Adaptec RAID", 512);
    }
    if le32(&last, 0x60) == 0x2f00_0000 {
        return found("silraid", "a member of a Silicon Image RAID", 512);
    }
    if last.starts_with(b"JM") && last.len() > 4 && last[4..16].iter().any(|byte| *byte != 0) {
        return found("jmraid", "a member of a JMicron RAID", 512);
    }
    let sum = last[..50].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if last.starts_with(&[0x55, 0xaa]) && last[2] <= 2 && sum == last[50] {
        return found("viaraid", "a member of a VIA RAID", 512);
    }
    let highpoint = [0x5a78_16f0_u32, 0x5a78_16f3, 0x5a78_16fd];
    if at_end(11 * 512, 4).is_some_and(|b| highpoint.contains(&le32(&b, 0))) {
        return found("hptraid", "a member of a HighPoint RAID", 11 * 512);
    }
    let front = window.get(9 * 512 + 32, 4)?;
    let at = window.start() + 9 * 512 + 32;
    highpoint.contains(&le32(&front, 0)).then(|| Finding::new("hptraid", "a member of a HighPoint RAID", at))
}

/// FreeBSD keeps the metadata of its disk classes in the last sector: `GEOM::MIRROR`, `GEOM::ELI` and others.
fn geom(window: Window<'_>) -> Option<Finding> {
    for back in [512, 4096] {
        if let Some(last) = window.get_from_end(back, 16)
            && last.starts_with(b"GEOM::")
        {
            let class = label(&last[6..])?;
            let at = window.start() + window.length() - back;
            return Some(Finding::new("geom", format!("a FreeBSD volume (GEOM {class})"), at));
        }
    }
    None
}
