//! A program that runs as long as the world does, with its output in a log file.

use anyhow::{Context as _, Result, bail};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Service {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Service {
    /// Starts it; its output goes to `LOGS/NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("opening {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("sharing a log file")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), log, child })
    }

    /// Fails when the program has ended, with the end of its log.
    ///
    /// # Errors
    /// When it is not running any more.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().context("asking for a program's status")? {
            bail!("{} ended with {status}; the end of {}:\n{}", self.name, self.log.display(), tail(&self.log, 15));
        }
        Ok(())
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the program.
    pub fn stop(&mut self) {
        // It may have ended already, and that is all right.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last lines of a text file, for error messages.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|l| format!("  {l}\n")).collect()
}
