//! PID 1 in the initrd: no systemd, no udev, no shell.

mod first_start;
pub mod installed;
pub(crate) mod modules;
mod mounts;
pub mod start_mark;
mod switch_root;
mod trouble;

use crate::{
    console, efi,
    install::{self, medium::Origin},
    signal,
};
use contracts::{bios, manifest::TrustFloor};
use std::{convert::Infallible, fs, time::Duration};
use uuid::Uuid;

/// The boot image's TUF root of trust.
pub const TUF_ROOT: &str = "/etc/shelfboot/root.json";
const TRUST_FLOOR: &str = "/etc/shelfboot/trust.json";
const CMDLINE: &str = "/proc/cmdline";
/// Time for people to read the last lines before the machine restarts.
const BEFORE_RESTART: Duration = Duration::from_secs(10);

/// Runs the boot image. Never returns: it ends in the installed system or with a restart.
pub fn run() -> ! {
    let error = match try_run() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    console::line(&format!("cannot go on: {error:#}"));
    restart_after(BEFORE_RESTART)
}

/// Restarts through the firmware, and says when.
fn restart_after(wait: Duration) -> ! {
    console::line(&format!("restarting in {} s", wait.as_secs()));
    std::thread::sleep(wait);
    restart()
}

/// Restarts through the firmware.
pub fn restart() -> ! {
    signal::end();
    nix::unistd::sync();
    let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT);
    // The kernel refused: as PID 1 our end is a panic, and panic=30 restarts the machine.
    std::process::abort()
}

fn try_run() -> anyhow::Result<Infallible> {
    mounts::early()?;
    console::line(&format!("Shelfboot {} started", env!("CARGO_PKG_VERSION")));
    modules::load_for_this_machine()?;
    mounts::firmware_variables();
    if efi::present() {
        modules::load_quietly("efi_pstore");
    }
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let command_line = fs::read_to_string(CMDLINE)?;
    let root_hash = root_hash(&command_line);
    // On UEFI the variable alone counts: there the command line is signed, and holds no such word.
    let partition = if efi::present() { efi::loader_partition() } else { grub_partition(&command_line) };
    if let (Some(hash), Some(partition)) = (&root_hash, partition)
        && let Some(slot) = installed::find(partition, hash)?
    {
        match installed::start(&slot, hash, trust_floor()?.built_at) {
            Ok(never) => match never {},
            Err(trouble) => trouble::tell_and_restart(&trouble, &trust_floor()?),
        }
    }
    install::run(&trust_floor()?, &Origin::new(root_hash, &command_line))
}

fn trust_floor() -> anyhow::Result<TrustFloor> {
    Ok(contracts::read(&fs::read(TRUST_FLOOR)?)?)
}

/// The GUID of the partition from which GRUB took this kernel, on BIOS machines.
fn grub_partition(cmdline: &str) -> Option<Uuid> {
    // GRUB adds its word at the end; netboot's script has none.
    let word = cmdline.split_whitespace().rev().find_map(|word| word.strip_prefix(bios::LOADER_WORD))?;
    Uuid::parse_str(word).ok()
}

/// The verity root hash on the kernel's command line.
pub(crate) fn root_hash(cmdline: &str) -> Option<String> {
    let hash = cmdline.split_whitespace().find_map(|word| word.strip_prefix("roothash="))?;
    let valid = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    valid.then(|| hash.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_root_hash_must_be_64_hex_digits() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(super::root_hash(&format!("quiet roothash={hash} panic=30")), Some(hash));
        assert_eq!(super::root_hash("roothash=../../etc"), None);
        assert_eq!(super::root_hash("quiet"), None);
    }

    #[test]
    fn grub_says_which_partition_it_started_from_and_the_network_says_nothing() {
        let guid = uuid::Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);
        assert_eq!(
            super::grub_partition(&format!("BOOT_IMAGE=(hd0,gpt1)/x quiet shelfboot.loader={guid}")),
            Some(guid)
        );
        assert_eq!(super::grub_partition("quiet shelfboot.loader="), None);
        assert_eq!(super::grub_partition("quiet roothash=ab"), None);
    }
}
