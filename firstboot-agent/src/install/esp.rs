//! The EFI system partition: empty until `verify` has passed, then boot loader and UKI, then the boot entry.

use super::state::Mounted;
use crate::{
    disk::{
        layout::{self, Role},
        plan::{self, Identity},
        table::Target,
    },
    efi::{self, BootFile},
};
use anyhow::{Context as _, Result, bail};
use contracts::{bios, facts::MachineFacts, uki};
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// Makes an empty FAT file system.
///
/// # Errors
/// With what mkfs.vfat said.
pub fn make(node: &Path) -> Result<()> {
    forget(node)?;
    run("mkfs.vfat", &["-F", "32", "-n", "SHELFBOOT", &node.to_string_lossy()])
}

/// Takes away, for good, where a file system says that it is there. A power cut while a new one is made over an old one could
/// otherwise leave the old one's beginning before the new one's rest: that looks like somebody's, and nobody can open it.
///
/// # Errors
/// When the partition cannot be written.
pub fn forget(node: &Path) -> Result<()> {
    let mut file = File::options().write(true).open(node).with_context(|| format!("opening {}", node.display()))?;
    // FAT: the boot sector and its copy; ext4: the superblock.
    file.write_all(&[0; 64 << 10]).with_context(|| format!("erasing {}", node.display()))?;
    file.sync_all().with_context(|| format!("erasing {}", node.display()))
}

/// Puts boot loader and UKI on the partition and syncs.
///
/// # Errors
/// With the file that could not be written.
pub fn fill(node: &Path, version: &str, uki: &[u8], loader: &[u8]) -> Result<()> {
    put(
        node,
        &[
            (layout::LOADER_SETTINGS_PATH, layout::LOADER_SETTINGS),
            (&layout::boot_image_path(version), uki),
            (layout::LOADER_PATH, loader),
            (layout::FALLBACK_LOADER_PATH, loader),
        ],
    )
}

/// Puts what GRUB starts on the partition and syncs: the parts of the verified UKI.
///
/// # Errors
/// With the file that could not be written, or what is wrong with the UKI.
pub fn fill_for_bios(node: &Path, uki: &[u8]) -> Result<()> {
    let parts = uki::parts(uki).context("taking the boot image apart")?;
    let environment =
        bios::environment(parts.command_line).context("GRUB cannot hold the boot image's command line")?;
    put(
        node,
        &[(bios::LINUX_PATH, parts.linux), (bios::INITRD_PATH, parts.initrd), (bios::ENVIRONMENT_PATH, &environment)],
    )
}

fn put(node: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    let mounted = Mounted::new(node, "vfat")?;
    for (path, content) in files {
        let path = mounted.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(mounted.path()))?;
        let mut file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        file.write_all(content).with_context(|| format!("writing {}", path.display()))?;
        file.sync_all().with_context(|| format!("syncing {}", path.display()))?;
    }
    mounted.unmount()
}

/// Points the firmware at the boot loader on the disk just installed.
///
/// # Errors
/// When the firmware does not take the entry.
pub fn boot_next(target: &mut Target) -> Result<()> {
    if !efi::present() {
        bail!("a BIOS keeps its boot order to itself: in its setup, put the disk before the network");
    }
    with_loader(target, |file| efi::boot_from_disk(file).map(|_| ()))
}

/// Puts the firmware's entry for the boot loader right, where it is not; see [`efi::keep_first`].
///
/// # Errors
/// When the firmware does not take the entry.
pub fn keep_first(target: &mut Target) -> Result<bool> {
    with_loader(target, efi::keep_first)
}

fn with_loader<T>(target: &mut Target, work: impl FnOnce(BootFile<'_>) -> Result<T>) -> Result<T> {
    let (start, sectors, guid) = target.partition(Role::Esp)?;
    let path = format!("\\{}", layout::LOADER_PATH.replace('/', "\\"));
    work(BootFile { partition: Role::Esp.number(), start, sectors, guid, path: &path })
}

/// Points the firmware at the disk that holds a finished install.
///
/// # Errors
/// When there is none, or the firmware does not take the entry.
pub fn boot_installed(facts: &MachineFacts, me: &Identity) -> Result<()> {
    let Some(disk) = facts.disks.iter().find(|disk| !disk.removable && me.installed_on(disk)) else {
        let held = |disk| Some(format!("; {} holds {}", plan::describe(disk), me.foreign(disk)?));
        let others: String = facts.disks.iter().filter_map(held).collect();
        bail!(
            "the store says that this machine is installed, but no disk here holds its finished install{others}. Put \
             in the machine's own disk, or let IT re-open its entry"
        );
    };
    let node = Path::new("/dev").join(&disk.kernel_name);
    boot_next(&mut Target::device(&node, disk.bytes, disk.sector_bytes)?)
}

/// Runs one of the boot image's tools.
///
/// # Errors
/// With what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
