//! Disks as the kernel shows them below `/sys/block`: identity, kind, place, health and who uses them.

use super::System;
use crate::{
    disk::{fitness, probe},
    efi,
};
use contracts::facts::{Disk, DiskContent, DiskHealth, Transport};
use std::path::Path;

/// The names of real disks: those with a device behind them. Loop and device-mapper devices have none. Optical drives and
/// floppies hold no system; boot areas of eMMC are parts of one; the paths of a multipath NVMe disk are hidden.
#[must_use]
pub fn disk_names() -> Vec<String> {
    names(&System::this())
}

fn names(system: &System) -> Vec<String> {
    let mut names = system.names("sys/block");
    names.retain(|name| {
        system.path(format!("sys/block/{name}/device")).exists()
            && !["sr", "fd", "mtd"].iter().any(|kind| name.starts_with(kind))
            && !is_part_of_emmc(name)
            && system.number(format!("sys/block/{name}/hidden")) != Some(1)
    });
    names
}

/// `mmcblk0boot0`, `mmcblk0rpmb`, `mmcblk0gp0`: hardware partitions (Linux, drivers/mmc/core/block.c).
fn is_part_of_emmc(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("mmcblk") else { return false };
    !rest.trim_start_matches(|c: char| c.is_ascii_digit()).is_empty()
}

/// The names of drives whose medium somebody can put in and take out: optical ones, sticks, card readers.
#[must_use]
pub fn removable_names() -> Vec<String> {
    let system = System::this();
    let mut names = system.names("sys/block");
    names.retain(|name| {
        system.path(format!("sys/block/{name}/device")).exists()
            && (name.starts_with("sr") || is_removable(&system, name, transport(&system, name)))
    });
    names
}

/// Bytes of a disk, and of its sectors.
#[must_use]
pub fn disk_size(name: &str) -> Option<(u64, u32)> {
    size(&System::this(), name)
}

fn size(system: &System, name: &str) -> Option<(u64, u32)> {
    // In units of 512 bytes, whatever the sectors are.
    let bytes = system.number(format!("sys/block/{name}/size"))?.checked_mul(512)?;
    let sector = system.number(format!("sys/block/{name}/queue/logical_block_size"));
    Some((bytes, sector.and_then(|n| u32::try_from(n).ok()).unwrap_or(512)))
}

/// All disks in the order of their places.
pub(super) fn read(system: &System, look: bool) -> Vec<Disk> {
    let mut disks: Vec<Disk> = names(system).iter().filter_map(|name| disk(system, name, look)).collect();
    disks.sort_by(fitness::by_place);
    disks
}

fn disk(system: &System, name: &str, look: bool) -> Option<Disk> {
    let (bytes, sector_bytes) = size(system, name)?;
    // Empty card readers.
    if bytes == 0 {
        return None;
    }
    let at = |file: &str| format!("sys/block/{name}/{file}");
    let first = |files: &[&str]| files.iter().find_map(|file| system.tidy(at(file)));
    let transport = transport(system, name);
    let node = system.path("dev").join(name);
    let examined = if look { probe::examine(&node, sector_bytes) } else { probe::Examined::default() };
    let ours = matches!(examined.content, DiskContent::Installed { .. } | DiskContent::HalfInstall { .. });
    // What this machine's own disk starts is not a medium, but the system.
    let boot_medium = !ours && efi::loader_partition().is_some_and(|guid| examined.partitions.contains(&guid));
    // One NVMe controller can have several disks.
    let namespace = system.number(at("nsid")).filter(|n| *n != 1).map_or(String::new(), |n| format!("-nvme-{n}"));
    Some(Disk {
        kernel_name: name.to_owned(),
        bytes,
        sector_bytes,
        path: format!("{}{namespace}", bus_path(system, &format!("sys/block/{name}"))),
        wwn: first(&["wwid", "device/wwid"]),
        serial: first(&["serial", "device/serial"]).or_else(|| page_80(&system.bytes(at("device/vpd_pg80"))?)),
        model: first(&["device/model", "device/name"]),
        removable: is_removable(system, name, transport),
        read_only: system.number(at("ro")) == Some(1),
        content: examined.content,
        physical_sector_bytes: system
            .number(at("queue/physical_block_size"))
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n != sector_bytes),
        // virtio-blk says that it turns, whatever is behind it.
        rotational: system.number(at("queue/rotational")).filter(|_| transport != Transport::Virtio).map(|n| n == 1),
        transport,
        // SATA disks are all of the vendor "ATA"; PCI says numbers.
        vendor: first(&["device/vendor"]).filter(|vendor| vendor != "ATA" && !vendor.starts_with("0x")),
        revision: first(&["device/rev", "device/firmware_rev", "device/fwrev"]),
        boot_medium,
        used_by: used_by(system, name),
        zoned: system.text(at("queue/zoned")).is_some_and(|zoned| zoned == "host-managed"),
        health: health(system, name),
        signatures: examined.signatures,
    })
}

fn is_removable(system: &System, name: &str, transport: Transport) -> bool {
    // USB sticks often call themselves fixed; the bus tells the truth.
    system.number(format!("sys/block/{name}/removable")) == Some(1)
        || matches!(transport, Transport::Usb | Transport::Sd)
}

/// The parts of a device's true place in sysfs.
fn place(system: &System, below: &str) -> Vec<String> {
    let path = system.path(below).canonicalize().unwrap_or_else(|_| system.path(below));
    let root = system.path("").canonicalize().unwrap_or_default();
    let inside = path.strip_prefix(&root).unwrap_or(&path);
    inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
}

/// How a disk is attached, as the devices say that lie on the way to it.
fn transport(system: &System, name: &str) -> Transport {
    let way = place(system, &format!("sys/block/{name}"));
    let has = |start: &str| way.iter().any(|part| part.starts_with(start));
    // A number follows, so that `session1` is one and `sessions` is not.
    let counted = |start: &str| {
        way.iter()
            .any(|part| part.strip_prefix(start).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
    };
    if counted("usb") {
        Transport::Usb
    } else if name.starts_with("nvme") {
        match system.text(format!("sys/block/{name}/device/transport")).as_deref() {
            None | Some("pcie") => Transport::Nvme,
            Some(_) => Transport::Network,
        }
    } else if name.starts_with("mmcblk") {
        match system.text(format!("sys/block/{name}/device/type")).as_deref() {
            Some("MMC") => Transport::Emmc,
            _ => Transport::Sd,
        }
    } else if counted("session") || counted("rport-") {
        Transport::Network
    } else if counted("ata") {
        Transport::Sata
    } else if has("end_device-") {
        Transport::Sas
    } else if name.starts_with("vd") {
        Transport::Virtio
    } else if name.starts_with("xvd") {
        Transport::Xen
    } else if way.iter().any(|part| part.contains("ufshc")) {
        Transport::Ufs
    } else if name.starts_with("sd") {
        Transport::Scsi
    } else {
        Transport::Unknown
    }
}

/// A device's place that does not change between starts: its PCI address, and behind a controller with several ports the
/// port or the SCSI address.
pub(super) fn bus_path(system: &System, below: &str) -> String {
    let way = place(system, below);
    let is_pci = |part: &&String| part.len() == 12 && part.matches(':').count() == 2 && part.contains('.');
    let Some(address) = way.iter().rfind(is_pci) else { return way.join("/") };
    let mut path = format!("pci-{address}");
    let port = |start: &str| {
        way.iter()
            .find(|part| part.strip_prefix(start).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
    };
    if let Some(port) = port("ata") {
        // Counted over all controllers of the machine, in the order in which their drivers found them.
        path.push_str(&format!("-{}", ata_port(system, &way, port).unwrap_or_else(|| port.clone())));
    }
    // Host, channel, target and unit; the host's number changes.
    if let Some(address) = way.iter().rfind(|part| part.split(':').count() == 4 && !part.contains('.')) {
        let unit: Vec<&str> = address.split(':').skip(1).collect();
        if unit != ["0", "0", "0"] {
            path.push_str(&format!("-scsi-{}", unit.join(":")));
        }
    }
    path
}

/// `ata-2` for the second port of its controller.
fn ata_port(system: &System, way: &[String], port: &str) -> Option<String> {
    let depth = way.iter().position(|part| part == port)?;
    let folder = format!("{}/{port}/ata_port/{port}/port_no", way[..depth].join("/"));
    Some(format!("ata-{}", system.number(folder)?))
}

/// The unit serial number of SCSI and SATA disks: SPC-4, 7.8.18. Four bytes of header; the last two are the length.
fn page_80(page: &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let text = super::tidy(&String::from_utf8_lossy(page.get(4..)?.get(..length)?));
    (page[1] == 0x80 && !text.is_empty()).then_some(text)
}

/// Who uses a disk or a partition of it: device mapper or a RAID (`holders`), a mount, swap.
fn used_by(system: &System, name: &str) -> Option<String> {
    let disk = format!("sys/block/{name}");
    let parts = system.names(&disk).into_iter().filter(|part| part.starts_with(name));
    let folders: Vec<String> =
        std::iter::once(disk.clone()).chain(parts.map(|part| format!("{disk}/{part}"))).collect();
    if let Some(holder) = folders.iter().flat_map(|folder| system.names(format!("{folder}/holders"))).next() {
        return Some(holder);
    }
    let numbers: Vec<String> = folders.iter().filter_map(|folder| system.text(format!("{folder}/dev"))).collect();
    let mounts = system.text("proc/self/mountinfo").unwrap_or_default();
    // proc(5): id, parent, major:minor, root, mount point.
    let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut mount = mount.filter(|fields| fields.len() > 4 && numbers.iter().any(|number| number == fields[2]));
    if let Some(fields) = mount.next() {
        return Some(format!("mounted at {}", super::tidy(fields[4])));
    }
    let swaps = system.text("proc/swaps").unwrap_or_default();
    let nodes = folders
        .iter()
        .filter_map(|folder| Path::new(folder).file_name())
        .map(|node| format!("/dev/{}", node.to_string_lossy()));
    let is_swap = |node: &String| swaps.lines().any(|line| line.split_whitespace().next() == Some(node));
    nodes.into_iter().any(|node| is_swap(&node)).then(|| "swap".into())
}

/// What the kernel tells without asking the disk: the state of SCSI and NVMe devices, and the wear of eMMC. SMART values of
/// SATA and NVMe disks are not among it.
fn health(system: &System, name: &str) -> Option<DiskHealth> {
    let at = |file: &str| format!("sys/block/{name}/device/{file}");
    let state = system.text(at("state"));
    let offline =
        state.filter(|state| !matches!(state.as_str(), "running" | "live" | "created" | "connecting" | "new"));
    let mut health =
        DiskHealth { wear_percent: None, failing: offline.map(|state| format!("is {}", super::tidy(&state))) };
    // Tenths of the life of two kinds of memory, 0x0b when it is over; 3 when the spare blocks are nearly gone (JEDEC
    // JESD84-B51, 7.4.27 to 7.4.29).
    if name.starts_with("mmcblk") {
        let hex = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let life = system.text(at("life_time")).unwrap_or_default();
        let tenths = life.split_whitespace().filter_map(hex).max().filter(|tenths| (1..=11).contains(tenths));
        health.wear_percent = tenths.map(|tenths| tenths * 10);
        if tenths == Some(11) || system.text(at("pre_eol_info")).and_then(|info| hex(&info)) == Some(3) {
            health.failing = Some("says that it is worn out".into());
        }
    }
    (health != DiskHealth::default()).then_some(health)
}

#[cfg(test)]
mod tests;
