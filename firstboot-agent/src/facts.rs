//! What this machine is, read from sysfs and procfs.

use crate::{disk::probe, efi};
use anyhow::Result;
use contracts::{
    VERSION,
    facts::{Disk, Firmware, MachineFacts, Nic, Smbios},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Block devices that hold systems: real disks have a `device` link, loop and device-mapper devices do not.
const BLOCK: &str = "/sys/block";

/// Gathers the facts. `look_at_disks` also examines what is on them.
#[must_use]
pub fn gather(look_at_disks: bool) -> MachineFacts {
    MachineFacts {
        version: VERSION,
        firmware: if efi::present() { Firmware::Uefi } else { Firmware::Bios },
        secure_boot: efi::secure_boot(),
        smbios: smbios(),
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes(),
        disks: disks(look_at_disks),
        nics: nics(),
        ..MachineFacts::default()
    }
}

/// Prints the facts as JSON on standard output.
///
/// # Errors
/// Never in practice: facts can always be written as JSON.
#[expect(clippy::print_stdout, reason = "the command's product")]
pub fn print() -> Result<()> {
    println!("{}", serde_json::to_string_pretty(&gather(true))?);
    Ok(())
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path)?.parse().ok()
}

fn smbios() -> Smbios {
    let field = |name: &str| text(format!("/sys/class/dmi/id/{name}")).unwrap_or_default();
    Smbios {
        manufacturer: field("sys_vendor"),
        product: field("product_name"),
        serial: field("product_serial"),
        uuid: field("product_uuid").to_lowercase(),
        ..Smbios::default()
    }
}

fn memory_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The names of real disks.
#[must_use]
pub fn disk_names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(BLOCK)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // Optical drives hold no system.
        .filter(|name| Path::new(BLOCK).join(name).join("device").exists() && !name.starts_with("sr"))
        .collect();
    names.sort();
    names
}

/// The names of drives whose medium somebody can put in and take out: optical ones, sticks, card readers.
#[must_use]
pub fn removable_names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(BLOCK)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            let sys = Path::new(BLOCK).join(name);
            sys.join("device").exists() && (name.starts_with("sr") || is_removable(&sys))
        })
        .collect();
    names.sort();
    names
}

/// Bytes of a disk, and of its sectors.
#[must_use]
pub fn disk_size(name: &str) -> Option<(u64, u32)> {
    let sys = Path::new(BLOCK).join(name);
    // In units of 512 bytes, whatever the sectors are.
    let bytes = number(sys.join("size"))? * 512;
    let sector = number(sys.join("queue/logical_block_size")).and_then(|n| u32::try_from(n).ok()).unwrap_or(512);
    Some((bytes, sector))
}

fn disks(look: bool) -> Vec<Disk> {
    let mut disks: Vec<Disk> = disk_names().iter().filter_map(|name| disk(name, look)).collect();
    disks.sort_by(|a, b| (&a.path, &a.kernel_name).cmp(&(&b.path, &b.kernel_name)));
    disks
}

fn disk(name: &str, look: bool) -> Option<Disk> {
    let sys = Path::new(BLOCK).join(name);
    let (bytes, sector_bytes) = disk_size(name)?;
    // Empty card readers.
    if bytes == 0 {
        return None;
    }
    let node = PathBuf::from("/dev").join(name);
    let examined = look.then(|| probe::examine(&node, sector_bytes));
    let (content, signatures) = examined.map_or_else(Default::default, |found| (found.content, found.signatures));
    Some(Disk {
        kernel_name: name.to_owned(),
        bytes,
        sector_bytes,
        path: bus_path(&sys),
        wwn: text(sys.join("wwid")).or_else(|| text(sys.join("device/wwid"))),
        serial: text(sys.join("serial")).or_else(|| text(sys.join("device/serial"))),
        model: text(sys.join("device/model")),
        removable: is_removable(&sys),
        read_only: number(sys.join("ro")) == Some(1),
        content,
        signatures,
        ..Disk::default()
    })
}

fn is_removable(sys: &Path) -> bool {
    number(sys.join("removable")) == Some(1) || is_usb(sys)
}

/// USB sticks often call themselves fixed; the bus tells the truth.
fn is_usb(sys: &Path) -> bool {
    fs::canonicalize(sys)
        .is_ok_and(|path| path.components().any(|c| c.as_os_str().to_string_lossy().starts_with("usb")))
}

/// The device's place: the part of its sysfs path from the PCI address on.
fn bus_path(sys: &Path) -> String {
    let path = fs::canonicalize(sys).unwrap_or_else(|_| sys.to_owned());
    let address = path
        .components()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .rfind(|part| part.len() == 12 && part.matches(':').count() == 2 && part.contains('.'));
    address.map_or_else(|| path.to_string_lossy().into_owned(), |address| format!("pci-{address}"))
}

fn nics() -> Vec<Nic> {
    let mut nics: Vec<(String, Nic)> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        // Ethernet (type 1) with hardware behind it: no loopback, bridges or pods' interfaces.
        .filter(|sys| number(sys.join("type")) == Some(1) && sys.join("device").exists())
        .filter_map(|sys| {
            let driver = fs::read_link(sys.join("device/driver")).ok();
            let nic = Nic {
                kernel_name: sys.file_name()?.to_string_lossy().into_owned(),
                mac: text(sys.join("address"))?.to_lowercase(),
                driver: driver.and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned())).unwrap_or_default(),
                carrier: number(sys.join("carrier")) == Some(1),
                ..Nic::default()
            };
            Some((bus_path(&sys.join("device")), nic))
        })
        .collect();
    nics.sort_by(|a, b| (&a.0, &a.1.kernel_name).cmp(&(&b.0, &b.1.kernel_name)));
    nics.into_iter().map(|(_, nic)| nic).collect()
}
