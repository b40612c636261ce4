//! Root of a user namespace, for who is not root: enough to own files as the image wants them, to mount and to chroot.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

/// Set in the program that was started anew, so that it does not try again.
const DONE: &str = "SHELFBOOT_IN_NAMESPACE";

/// Maps this user to root and its subordinate ids (subuid(5)) to the rest; the process stays the same one.
const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--map-auto", "--"];

/// True when this process has user id 0, be it of a user namespace.
#[must_use]
pub fn am_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of /proc/self is the effective user; this needs no library.
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// Makes what is made from now on readable for everybody, whatever mask the caller has: the modes of folders are part of an image.
/// Secrets get their modes explicitly.
pub fn share() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
}

/// Becomes root of a user namespace by starting this program anew in place of itself. Returns where that is not possible or not
/// needed; what needs the rights says so then.
pub fn enter() {
    if am_root() || std::env::var_os(DONE).is_some() {
        return;
    }
    let trial = Command::new("unshare").args(UNSHARE).arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let (true, Ok(this)) = (trial.is_ok_and(|status| status.success()), std::env::current_exe()) else { return };
    let _failed =
        Command::new("unshare").args(UNSHARE).arg(this).args(std::env::args_os().skip(1)).env(DONE, "1").exec();
}
