//! Runs programs so that nothing of them outlives us: no process, no mount.

use crate::report::Reporter;
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
};

/// How many lines of output an error shows.
const TAIL: usize = 25;

/// A shell script; $1 is the tree, then pairs of folders up to "--", then the program.
const ENTER: &str = "root=$1; shift; while [ \"$1\" != -- ]; do mount --bind \"$1\" \"$root/$2\" || exit 125; shift 2; done; \
                     shift; mount -t proc proc \"$root/proc\" || exit 125; exec chroot \"$root\" \"$@\"";

/// What comes before it for [`Sandbox::alone`]. Device nodes are bound, not made: a user namespace may not make them.
const ALONE: &str = "hostname localhost || exit 125; for node in full null random tty urandom zero; do \
                     : >> \"$1/dev/$node\" && mount --bind /dev/$node \"$1/dev/$node\" || exit 125; done; ";

/// A program that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended badly.
    #[error("{program} failed ({status}); its last lines were:\n{tail}")]
    Failed {
        /// Which.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said last.
        tail: String,
    },
}

/// A private world for programs: own mount and process namespaces, folders bound in, a tree as root folder.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    root: Option<PathBuf>,
    binds: Vec<(PathBuf, String)>,
    environment: Vec<(String, String)>,
    alone: bool,
}

impl Sandbox {
    /// Programs of the host.
    #[must_use]
    pub fn host() -> Self {
        Self::default()
    }

    /// Programs of a tree, seen by them as `/`.
    #[must_use]
    pub fn of_tree(root: &Path) -> Self {
        Self { root: Some(root.to_owned()), ..Self::default() }
    }

    /// Shows a folder of the host at a folder that the tree has.
    #[must_use]
    pub fn bind(mut self, host: &Path, inside: &str) -> Self {
        self.binds.push((host.to_owned(), inside.to_owned()));
        self
    }

    /// Gives the programs of a tree what maintainer scripts expect, and nothing of this host: the harmless device nodes, no
    /// network, a host name that is the same everywhere.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The whole command line: a shell in fresh namespaces mounts, then becomes the program.
    fn command(&self, program: &str, arguments: &[OsString]) -> Command {
        let mut command = Command::new("setpriv");
        // The kernel kills unshare when we die, and unshare's death kills everything in its process namespace;
        // the mounts go with the last process.
        command.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private"]);
        command.args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        if self.alone {
            command.args(["--net", "--uts", "--ipc"]);
        }
        command.arg("--");
        if let Some(root) = &self.root {
            let script = if self.alone { format!("{ALONE}{ENTER}") } else { ENTER.to_owned() };
            command.args(["sh", "-c", &script, "sh"]).arg(root);
            for (host, inside) in &self.binds {
                command.arg(host).arg(inside.trim_start_matches('/'));
            }
            command.arg("--");
        }
        command.arg(program).args(arguments);
        command.env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LC_ALL", "C.UTF-8").env("HOME", "/").env("TZ", "UTC").env("DEBIAN_FRONTEND", "noninteractive");
        for name in ["http_proxy", "https_proxy", "no_proxy"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Ctrl-C on the terminal reaches us alone; we end the program, in order.
        command.process_group(0).kill_on_drop(true);
        command
    }

    /// Runs a program to its end, passing on its lines.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        reporter: &mut dyn Reporter,
        program: &str,
        arguments: &[A],
    ) -> Result<(), CommandError> {
        let pass = |_, line: &str| {
            if !line.is_empty() {
                reporter.line(line);
            }
        };
        self.each_line(program, arguments, pass).await
    }

    /// Runs a program to its end and returns what it wrote to standard output; the rest is passed on.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn output<A: AsRef<OsStr>>(
        &self,
        reporter: &mut dyn Reporter,
        program: &str,
        arguments: &[A],
    ) -> Result<String, CommandError> {
        let mut output = String::new();
        let each = |stream, line: &str| match stream {
            Stream::Output => {
                output.push_str(line);
                output.push('\n');
            }
            Stream::Errors => reporter.line(line),
        };
        self.each_line(program, arguments, each).await?;
        Ok(output)
    }

    async fn each_line<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: &[A],
        mut each: impl FnMut(Stream, &str),
    ) -> Result<(), CommandError> {
        let arguments: Vec<OsString> = arguments.iter().map(|a| a.as_ref().to_owned()).collect();
        let mut command = self.command(program, &arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = command.spawn();
        let mut child = started.map_err(|source| CommandError::Start { program: program.to_owned(), source })?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            unreachable!("both streams were asked for");
        };
        let mut tail = VecDeque::new();
        pass_on(stdout, stderr, |stream, line| {
            if !line.is_empty() {
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line.to_owned());
            }
            each(stream, line);
        })
        .await;
        let status = child.wait().await;
        let status = status.map_err(|source| CommandError::Start { program: program.to_owned(), source })?;
        if status.success() {
            return Ok(());
        }
        let tail = tail.iter().map(|line| format!("  {line}\n")).collect();
        Err(CommandError::Failed { program: program.to_owned(), status, tail })
    }
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Errors,
}

/// Reads standard output and standard error line by line until both end.
async fn pass_on(one: impl AsyncRead + Unpin, two: impl AsyncRead + Unpin, mut each: impl FnMut(Stream, &str)) {
    let (mut one, mut two) = (BufReader::new(one).split(b'\n'), BufReader::new(two).split(b'\n'));
    let (mut one_open, mut two_open) = (true, true);
    while one_open || two_open {
        let (stream, line) = tokio::select! {
            line = one.next_segment(), if one_open => (Stream::Output, line.inspect(|line| one_open = line.is_some())),
            line = two.next_segment(), if two_open => (Stream::Errors, line.inspect(|line| two_open = line.is_some())),
        };
        match line {
            Ok(Some(line)) => {
                // Programs draw progress with carriage returns: the last state of the line counts.
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end().rsplit('\r').next().unwrap_or_default().trim_end();
                each(stream, text);
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_streams_are_read_to_their_end() {
        let mut lines = Vec::new();
        pass_on(&b"a\n10%\r20%\r\nlast"[..], &b"b\n"[..], |stream, line| {
            lines.push((stream == Stream::Errors, line.to_owned()))
        })
        .await;
        lines.sort();
        let expected = [(false, "20%"), (false, "a"), (false, "last"), (true, "b")];
        assert_eq!(lines, expected.map(|(errors, line)| (errors, line.to_owned())));
    }
}
