//! Somebody else on this host, without any rights.

use crate::process;
use anyhow::{Context as _, Result};
use std::{fs, path::Path, process::Command};

/// A user who is nobody on this host, with ids of its own to give away.
pub const OTHER_USER: u32 = 23_456;

/// A command `sh`, to which arguments are added, as somebody who may do nothing, but has subordinate ids: /etc/passwd, subuid and
/// subgid say so to this process alone.
///
/// # Errors
/// When files cannot be written.
pub fn as_user(user: u32, folder: &Path) -> Result<Command> {
    let etc = folder.join("etc");
    fs::create_dir_all(&etc).with_context(|| format!("making {}", etc.display()))?;
    let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let range = format!("{user}:1000000:65536\n");
    let files = [
        ("passwd", format!("{passwd}shelfboot-builder:x:{user}:{user}::/nonexistent:/bin/sh\n")),
        ("subuid", range.clone()),
        ("subgid", range),
    ];
    for (name, text) in files {
        let file = etc.join(name);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        open_to_all(&file)?;
    }
    let script = "for name in passwd subuid subgid; do mount --bind \"$1/$name\" /etc/$name || exit 125; done; user=$2; shift 2; \
                  exec setpriv --reuid \"$user\" --regid \"$user\" --clear-groups -- sh \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&etc).arg(user.to_string());
    Ok(command)
}

/// Gives a folder with all that is in it to somebody. Once, before they work there: later it holds files of their subordinate ids.
///
/// # Errors
/// When chown fails.
pub fn give(folder: &Path, user: u32) -> Result<()> {
    process::output(Command::new("chown").arg("-R").arg(format!("{user}:{user}")).arg(folder))?;
    open_to_all(folder.parent().unwrap_or(folder))
}

/// Lets everybody read a folder or file.
///
/// # Errors
/// When chmod fails.
pub fn open_to_all(path: &Path) -> Result<()> {
    process::output(Command::new("chmod").arg("a+rX").arg(path)).map(drop)
}

/// Copies a file or folder with all that belongs to it.
///
/// # Errors
/// When cp fails.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    process::output(Command::new("cp").args(["-a", "--"]).arg(from).arg(to)).map(drop)
}
