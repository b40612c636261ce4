//! Drivers without udev: every device in sysfs names what it needs (`modalias`), kmod's modprobe knows which
//! module that is. Buses show new devices once their own driver is there, so this goes round until nothing is new.

use crate::console;
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What the agent itself needs, whatever the hardware is. `loop`-free on purpose.
const ALWAYS: [&str; 9] =
    ["dm_mod", "dm_verity", "erofs", "ext4", "isofs", "nls_ascii", "nls_cp437", "overlay", "vfat"];
/// Rounds without news that end the search: drivers probe devices asynchronously.
const QUIET_ROUNDS: u32 = 3;
/// Disks behind slow controllers appear late; without a disk and a network card there is nothing to do but wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// Loads the drivers for what this machine has.
///
/// # Errors
/// When modprobe cannot be started at all. Devices without a driver are not an error.
pub(super) fn load_for_this_machine() -> Result<()> {
    modprobe(&ALWAYS.map(str::to_owned))?;
    let mut known = BTreeSet::new();
    let mut quiet = 0;
    let end = Instant::now() + PATIENCE;
    while quiet < QUIET_ROUNDS || (!has_disk_and_network() && Instant::now() < end) {
        let mut found = BTreeSet::new();
        collect(Path::new("/sys/devices"), &mut found);
        let new: Vec<String> = found.difference(&known).cloned().collect();
        if new.is_empty() {
            quiet += 1;
            std::thread::sleep(Duration::from_millis(100));
        } else {
            quiet = 0;
            modprobe(&new)?;
            known.extend(new);
        }
    }
    if !has_disk_and_network() {
        console::line("no driver found a disk and a network card yet");
    }
    Ok(())
}

/// Loads a module that a machine may do without.
pub(super) fn load_quietly(module: &str) {
    let _ = modprobe(&[module.to_owned()]);
}

/// Loads drivers once more, for what has appeared since.
///
/// # Errors
/// When modprobe cannot be started at all.
pub(crate) fn load_for_new_devices() -> Result<()> {
    let mut found = BTreeSet::new();
    collect(Path::new("/sys/devices"), &mut found);
    modprobe(&found.into_iter().collect::<Vec<_>>())
}

/// Loads one driver that no device asks for.
///
/// # Errors
/// When modprobe cannot be started at all.
pub(crate) fn load(name: &str) -> Result<()> {
    modprobe(&[name.to_owned()])
}

fn has_disk_and_network() -> bool {
    let network = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.path().join("device").exists());
    network && !crate::facts::disk_names().is_empty()
}

/// Reads every `modalias` below a folder of sysfs.
fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), found),
            Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                if let Ok(alias) = fs::read_to_string(entry.path()) {
                    let alias = alias.trim();
                    if !alias.is_empty() {
                        found.insert(alias.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
}

fn modprobe(names: &[String]) -> Result<()> {
    Command::new("/usr/sbin/modprobe")
        .args(["--all", "--quiet", "--use-blacklist"])
        .args(names)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("starting modprobe")?;
    // Its status only says that some alias had no module, which is usual.
    Ok(())
}
