//! What image-builder and the agent agree on about starting from disk on a BIOS machine.
//!
//! The boot code is finished when the image is built: the first sector (GRUB's boot.img) names the sector where
//! the core image begins, and the core image's own first sector names where it goes on. So nothing is patched on
//! site; the agent puts both where these numbers say.

use crate::grubenv::{self, Environment};

/// First sector of the BIOS boot partition, where the core image begins. Behind the partition table (33 sectors
/// after the first) and at a whole number of 4 KiB blocks.
pub const CORE_LBA: u64 = 40;

/// The most sectors that the core image may have: the first MiB ends there, and the EFI system partition begins.
pub const CORE_SECTORS: u64 = 2048 - CORE_LBA;

/// A BIOS counts in sectors of 512 bytes; there is no BIOS start from disks with larger ones.
pub const SECTOR_BYTES: u32 = 512;

/// How much of the first sector is code; the disk's signature and the partition table follow.
pub const BOOT_CODE_BYTES: usize = 440;

/// The word on the kernel's command line with which GRUB says from which partition it took kernel and initrd,
/// by the partition's GUID. On UEFI the variable `LoaderDevicePartUUID` says the same.
pub const LOADER_WORD: &str = "shelfboot.loader=";

/// Where the agent puts the kernel on the EFI system partition, and where GRUB looks for it.
pub const LINUX_PATH: &str = "shelfboot/linux";
/// The initrd, likewise.
pub const INITRD_PATH: &str = "shelfboot/initrd";
/// The environment block with the command line, likewise.
pub const ENVIRONMENT_PATH: &str = "shelfboot/grubenv";
/// The variable in the environment block that holds the command line.
pub const COMMAND_LINE_VARIABLE: &str = "cmdline";

/// The folders on the EFI system partition that hold the files of one version each: kernel, initrd and command line under the
/// names above. The first one is where an install puts them.
pub const VERSION_FOLDERS: [&str; 2] = ["shelfboot", "shelfboot/b"];
/// The environment block that says which of the folders count. It is there from the first update on.
pub const SLOTS_PATH: &str = "shelfboot/slots";
/// In it: the folder of the version that counts.
pub const GOOD_VARIABLE: &str = "good";
/// The folder of the version on trial; empty when there is none.
pub const TRIAL_VARIABLE: &str = "trial";
/// How many starts the version on trial has left. GRUB counts it down; it knows no number above [`MOST_TRIES`].
pub const TRIES_VARIABLE: &str = "tries";
/// See [`TRIES_VARIABLE`].
pub const MOST_TRIES: u32 = 3;

/// True for a command line that the scripts of GRUB and iPXE take for text and nothing else.
#[must_use]
pub fn is_plain(command_line: &str) -> bool {
    command_line.bytes().all(|b| b.is_ascii_alphanumeric() || b" =,.:/@_+-".contains(&b))
}

/// GRUB's environment block that holds the kernel's command line.
///
/// `None` when the command line has something in it that GRUB would take for more than text, or does not fit.
#[must_use]
pub fn environment(command_line: &str) -> Option<Vec<u8>> {
    grubenv::write(&Environment::from([(COMMAND_LINE_VARIABLE.to_owned(), command_line.to_owned())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_block_has_the_fixed_size_and_nothing_but_text() {
        let block = environment("roothash=ab console=ttyS0,115200").unwrap();
        assert_eq!(block.len(), 1024);
        assert!(block.starts_with(b"# GRUB Environment Block\ncmdline=roothash=ab console=ttyS0,115200\n##"));
        for bad in ["a\nb", "$(x)", "a\\", "a\"b", &"x".repeat(1024)] {
            assert_eq!(environment(bad), None, "{bad:?}");
        }
    }
}
