//! From the initrd into the real root, as switch_root(8) does it.

use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    unistd::{chdir, chroot, execv},
};
use std::{convert::Infallible, ffi::CString, fs, os::unix::fs::MetadataExt, path::Path};

/// Moves the kernel's file systems below `root`, frees the initrd's memory and becomes `init`.
pub(super) fn to(root: &Path, init: &str) -> Result<Infallible> {
    for name in ["dev", "proc", "sys", "run"] {
        let target = root.join(name);
        mount(Some(&Path::new("/").join(name)), &target, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .with_context(|| format!("moving /{name} into the root"))?;
    }
    chdir(root).context("entering the root")?;
    let initrd = fs::metadata("/").context("looking at the initrd")?.dev();
    // The initrd is memory; on a 1 GiB machine it matters. What cannot be removed stays, that is all.
    remove_below(Path::new("/"), initrd);
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("moving the root to /")?;
    chroot(".").context("changing the root")?;
    chdir("/").context("entering the new root")?;
    let init = CString::new(init).context("the init's path")?;
    execv(&init, &[&init]).context("starting systemd")
}

/// Removes everything that lies on the initrd's own file system, and nothing else.
fn remove_below(folder: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            remove_below(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}
