//! A TPM for a machine: swtpm, which keeps in a folder what a real one keeps in itself. Another folder is another TPM.

use super::root::Root;
use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where QEMU finds it.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// Starts it. It ends with the machine.
///
/// # Errors
/// When it does not listen.
pub(super) fn start(root: &Root, folder: &Path) -> Result<tokio::process::Child> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let socket = socket(folder);
    if socket.exists() {
        fs::remove_file(&socket).with_context(|| format!("removing {}", socket.display()))?;
    }
    let log = File::options().create(true).append(true).open(folder.join("swtpm.log")).context("making swtpm's log")?;
    let mut command = root.command("swtpm");
    command.args(["socket", "--tpm2", "--terminate", "--tpmstate"]).arg(format!("dir={}", folder.display()));
    command.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
    command.stdin(Stdio::null()).stdout(log.try_clone().context("swtpm's log")?).stderr(log);
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().context("starting swtpm")?;
    let begin = Instant::now();
    while !socket.exists() {
        if let Some(status) = child.try_wait().context("asking for swtpm's status")? {
            bail!("swtpm ended with {status}; see {}", folder.join("swtpm.log").display());
        }
        anyhow::ensure!(begin.elapsed() < PATIENCE, "swtpm does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}
