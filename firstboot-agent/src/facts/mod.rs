//! What this machine is, read from sysfs and procfs, from the firmware's tables and variables, and from the disks.

mod clock;
mod cpu;
pub mod disks;
pub mod endorsement;
pub mod keys;
pub mod nics;
pub mod smbios;
mod tpm;

pub use disks::{disk_names, disk_size, removable_names};

use crate::{efi, net::lldp};
use anyhow::Result;
use contracts::{
    VERSION,
    facts::{Firmware, MachineFacts, Uefi},
};
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// Files of sysfs and procfs are small.
const LIMIT: u64 = 1 << 20;

/// Where the kernel tells of the machine: `/`, or a folder that looks like it in tests.
#[derive(Debug, Clone)]
pub struct System(PathBuf);

impl System {
    /// The machine that this program runs on.
    #[must_use]
    pub fn this() -> Self {
        Self("/".into())
    }

    fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.0.join(below)
    }

    fn bytes(&self, below: impl AsRef<Path>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(below)).ok()?.take(LIMIT).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn text(&self, below: impl AsRef<Path>) -> Option<String> {
        let text = String::from_utf8_lossy(&self.bytes(below)?).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Text that ends up in front of people.
    fn tidy(&self, below: impl AsRef<Path>) -> Option<String> {
        let text = tidy(&self.text(below)?);
        (!text.is_empty()).then_some(text)
    }

    fn number(&self, below: impl AsRef<Path>) -> Option<u64> {
        self.text(below)?.parse().ok()
    }

    /// Names in a folder, sorted.
    fn names(&self, below: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(below)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// Hardware's words on one line: no control characters, single spaces, at most 100 characters.
fn tidy(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c == '\0').filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// Gathers the facts. `look_at_disks` also examines what is on them, and asks the TPM who made it.
#[must_use]
pub fn gather(look_at_disks: bool) -> MachineFacts {
    gather_from(&System::this(), look_at_disks)
}

/// The same from any folder that looks like the root of a machine.
fn gather_from(system: &System, look: bool) -> MachineFacts {
    let entry_point = system.bytes("sys/firmware/dmi/tables/smbios_entry_point").unwrap_or_default();
    let table = system.bytes("sys/firmware/dmi/tables/DMI").unwrap_or_default();
    let mut tables = smbios::read(&entry_point, &table);
    let id = |name: &str| system.tidy(format!("sys/class/dmi/id/{name}")).unwrap_or_default();
    if tables == smbios::Tables::default() {
        // The tables are for root only; of these files at least some are for everybody.
        tables.smbios.manufacturer = id("sys_vendor");
        tables.smbios.product = id("product_name");
        tables.smbios.serial = id("product_serial");
        tables.smbios.uuid = id("product_uuid").to_lowercase();
    }
    let uefi = system.path("sys/firmware/efi").is_dir();
    let mut nics = nics::read(system);
    if look {
        nics::add_permanent_addresses(&mut nics);
    }
    MachineFacts {
        version: VERSION,
        firmware: if uefi { Firmware::Uefi } else { Firmware::Bios },
        secure_boot: efi::secure_boot(),
        smbios: tables.smbios,
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes(&system.text("proc/meminfo").unwrap_or_default()),
        disks: disks::read(system, look),
        nics,
        cpu: cpu::read(&system.text("proc/cpuinfo").unwrap_or_default()),
        memory: tables.memory,
        uefi: uefi.then(uefi_keys),
        tpm: tpm::read(system, look),
        clock: Some(clock::read(system)),
    }
}

fn uefi_keys() -> Uefi {
    let lists = [("PK", efi::GLOBAL), ("KEK", efi::GLOBAL), ("db", efi::IMAGE_SECURITY)];
    let certificates = lists.into_iter().filter_map(|(name, vendor)| Some((name, efi::read(name, vendor)?)));
    Uefi {
        setup_mode: efi::setup_mode(),
        certificates: certificates.flat_map(|(name, value)| keys::certificates(name, &value)).collect(),
    }
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Prints the facts as JSON on standard output. Listens for switches as long as `listen` says.
///
/// # Errors
/// Never in practice: facts can always be written as JSON.
#[expect(clippy::print_stdout, reason = "the command's product")]
pub fn print(listen: Duration) -> Result<()> {
    let mut facts = gather(true);
    if !listen.is_zero() {
        let names: Vec<String> = facts.nics.iter().map(|nic| nic.kernel_name.clone()).collect();
        lldp::add(&mut facts.nics, &lldp::listen(&names, listen));
    }
    println!("{}", serde_json::to_string_pretty(&facts)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_words_are_one_line() {
        assert_eq!(tidy("  Samsung\t SSD\u{1b}[31m  \0\0"), "Samsung SSD[31m");
        assert_eq!(tidy(&"x".repeat(1000)).len(), 100);
    }

    #[test]
    fn memory_is_counted_in_bytes() {
        assert_eq!(memory_bytes("MemTotal:       16303428 kB\nMemFree: 1 kB\n"), 16_303_428 * 1024);
        assert_eq!(memory_bytes(""), 0);
    }

    #[test]
    fn a_machine_that_tells_nothing_is_still_one() {
        let folder = tempfile::tempdir().unwrap();
        let facts = gather_from(&System(folder.path().to_owned()), true);
        assert_eq!((facts.firmware, facts.disks.len(), facts.tpm, facts.cpu), (Firmware::Bios, 0, None, None));
    }
}
