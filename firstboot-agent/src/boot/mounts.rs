//! The kernel's file systems, in an initrd that starts with none.

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use std::{fs, path::Path};

/// Mounts one file system; the folder is made if it is missing.
///
/// # Errors
/// When the kernel refuses, with both names.
pub(super) fn mount_at(what: &str, at: &Path, kind: &str, flags: MsFlags, options: Option<&str>) -> Result<()> {
    fs::create_dir_all(at).with_context(|| format!("making {}", at.display()))?;
    mount(Some(what), at, Some(kind), flags, options).with_context(|| format!("mounting {kind} at {}", at.display()))
}

/// `/proc`, `/sys`, `/dev`, `/run` and `/tmp`.
pub(super) fn early() -> Result<()> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_at("proc", Path::new("/proc"), "proc", plain, None)?;
    mount_at("sysfs", Path::new("/sys"), "sysfs", plain, None)?;
    // The kernel may have mounted it already (CONFIG_DEVTMPFS_MOUNT does not reach initramfs, but a stub might).
    if !Path::new("/dev/null").exists() {
        mount_at("devtmpfs", Path::new("/dev"), "devtmpfs", MsFlags::MS_NOSUID, Some("mode=0755"))?;
    }
    mount_at("tmpfs", Path::new("/run"), "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))?;
    fs::create_dir_all("/tmp").context("making /tmp")
}

/// efivarfs, on UEFI machines. Without it we only lose what we would have read and written there; whoever needs a
/// variable reports that it is missing.
pub(super) fn firmware_variables() {
    let at = Path::new("/sys/firmware/efi/efivars");
    if at.is_dir() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        if let Err(error) = mount(Some("efivarfs"), at, Some("efivarfs"), flags, None::<&str>) {
            crate::console::line(&format!("the firmware's variables cannot be read: {error}"));
        }
    }
}
