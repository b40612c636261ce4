//! Runs one of our programs as a user does, and writes down all that it said, for a snapshot. Included by the tests
//! of each program (`#[path]`), so that one transcript reads like another.

#![allow(dead_code, reason = "each program's tests use a part of it")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A program, in a folder of its own.
pub(crate) struct Place {
    program: &'static str,
    folder: tempfile::TempDir,
}

impl Place {
    /// `program` is the path that cargo names.
    pub(crate) fn new(program: &'static str) -> Self {
        Self::within(program, tempfile::tempdir().unwrap())
    }

    /// In a folder that others have filled.
    pub(crate) fn within(program: &'static str, folder: tempfile::TempDir) -> Self {
        Self { program, folder }
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What lies below the folder, for tests that nothing is left.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(self.folder.path(), self.folder.path(), &mut found);
        found.sort();
        found
    }

    /// The program, with an environment that is the same everywhere.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in ["RUST_LOG", "COLUMNS", "RUST_BACKTRACE", "SOURCE_DATE_EPOCH"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it and writes everything down.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.transcript(arguments, &self.command(arguments).output().unwrap())
    }

    /// Runs it in a mount namespace of its own, where `full` in its folder is a file system with room for a few blocks.
    /// None where that needs rights that this user does not have.
    pub(crate) fn run_on_full_disk(&self, kibibytes: u32, arguments: &[&str]) -> Option<String> {
        // One block more, and full: a size of nothing would mean no limit.
        let script = format!(
            "mkdir -p full && mount -t tmpfs -o size={}k tmpfs full || exit 99; head -c 4096 /dev/zero > full/other; \
             \"$@\"; code=$?; echo \"left: $(ls -A full | tr '\\n' ' ')\" >&2; exit $code",
            kibibytes + 4
        );
        let mut apart = Command::new("unshare");
        apart.args(["--mount", "--map-root-user", "--user", "sh", "-c", &script, "sh", self.program]);
        apart.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).env_remove("RUST_LOG");
        let output = apart.output().ok()?;
        let denied = output.status.code() == Some(99) || output.stderr.starts_with(b"unshare:");
        (!denied).then(|| self.transcript(arguments, &output))
    }

    /// Runs it with standard output on a device that is always full.
    pub(crate) fn run_into_full_output(&self, arguments: &[&str]) -> String {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = self.command(arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        self.transcript(arguments, &output)
    }

    /// Command line, exit code and both streams, without what differs from run to run.
    pub(crate) fn transcript(&self, arguments: &[&str], output: &Output) -> String {
        let name = Path::new(self.program).file_name().unwrap().to_str().unwrap();
        let code = output.status.code().map_or_else(|| format!("{}", output.status), |code| code.to_string());
        assert_ne!(code, "101", "a panic: {}", String::from_utf8_lossy(&output.stderr));
        let mut text = format!("$ {name} {}\nexit code: {code}\n", arguments.join(" "));
        for (title, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                text.push_str(&format!("---- {title}\n{}", String::from_utf8_lossy(bytes)));
            }
        }
        let folder = self.folder.path().to_str().unwrap();
        text.replace(folder, "FOLDER")
    }
}

fn list(folder: &Path, base: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            list(&path, base, found);
        } else {
            found.push(path.strip_prefix(base).unwrap().display().to_string());
        }
    }
}
