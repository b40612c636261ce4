//! Where programs run whose mounts, processes and interfaces must vanish with us, however we end.
//!
//! `unshare --kill-child` makes the kernel kill the whole process tree of a PID namespace when its first process
//! ends, and `setpriv --pdeathsig` makes that one end with us, SIGKILL included. Mounts and network namespaces
//! go with the last process in them.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
};

/// How far a program is set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// Own mounts and processes; the host's network.
    Build,
    /// Own mounts, processes and network.
    World,
}

/// A command that runs `program` apart from the host. Without root it becomes root of its own user namespace,
/// with the subordinate ids of /etc/subuid.
#[must_use]
pub fn command(apart: Apart, program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    command.args(arguments(apart, am_root()));
    command.arg(program);
    command
}

/// A command that runs on the host as it is, and is asked to end when this program ends, however that is.
#[must_use]
pub fn tied(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// This very program, for a child to start, even when a newer build has replaced its file: `cargo test` does that to
/// a running `xtask`, and its path then names nothing.
#[derive(Debug)]
pub struct ThisProgram(File);

impl ThisProgram {
    /// Opens it.
    ///
    /// # Errors
    /// When the kernel does not give it.
    pub fn open() -> io::Result<Self> {
        let file = File::open("/proc/self/exe")?;
        // The child executes what it has inherited.
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(Self(file))
    }

    /// The path that a child starts it by, while this lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string())
    }
}

fn arguments(apart: Apart, root: bool) -> Vec<&'static str> {
    let mut arguments = vec!["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if apart == Apart::World {
        arguments.push("--net");
    }
    if !root {
        arguments.extend(["--user", "--map-root-user", "--map-auto"]);
    }
    arguments.push("--");
    arguments
}

/// True when this process has user id 0 (in its user namespace).
#[must_use]
pub fn am_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of /proc/self is the effective user; this needs no library.
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_whose_file_is_gone_still_starts() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        std::fs::copy("/bin/sleep", &copy).unwrap();
        let mut sleeping = Command::new(&copy).arg("60").spawn().unwrap();
        std::fs::remove_file(&copy).unwrap();
        let file = File::open(format!("/proc/{}/exe", sleeping.id())).unwrap();
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let again = Command::new(ThisProgram(file).path()).arg("0").status();
        sleeping.kill().unwrap();
        sleeping.wait().unwrap();
        assert!(again.unwrap().success());
    }

    #[test]
    fn only_the_world_gets_its_own_network() {
        assert!(!arguments(Apart::Build, true).contains(&"--net"));
        assert!(arguments(Apart::World, true).contains(&"--net"));
        assert!(arguments(Apart::World, false).contains(&"--map-auto"));
    }
}
