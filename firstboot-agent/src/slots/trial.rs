//! What the service of the installed system does about slots: at its start it puts right what a power cut left half done; a version
//! on trial it commits when the machine is healthy, and gives up when its time is over.

use super::{
    here::Here,
    keep,
    model::{Reason, Slots},
    settings::Settings,
    update::{install_record, with_boot_files},
    watch,
};
use crate::{
    boot::{self, installed::STATE},
    console,
    disk::table::Target,
    durable, efi,
    install::esp,
    report::Reporter,
    service::{join, region},
};
use anyhow::{Context, Result};
use contracts::{install::InstallRecord, step::Step};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The template's own check passes this often in a row before it counts without the region's word.
const CHECKS: u32 = 6;
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// A restart that systemd does not bring about in this time is made without it.
const RESTART_PATIENCE: Duration = Duration::from_secs(90);

/// The slots of the running system.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    here: Option<Here>,
    trial: bool,
    /// The store has answered in this start.
    store: bool,
    /// The network card behind which the store is.
    mac: Option<String>,
}

impl Watch {
    /// Looks at the slots, and watches over a version on trial from here on.
    #[must_use]
    pub fn begin(reporter: &Reporter) -> Self {
        let here = Here::find().map_err(|error| console::line(&format!("slots: {error:#}"))).ok();
        let slots = keep::read(Path::new(STATE)).unwrap_or_default();
        let trial = match (&here, &slots) {
            (Some(here), Some(slots)) => slots.is_trial(&here.root_hash),
            _ => false,
        };
        if let Some(here) = &here {
            if let Err(error) = put_right(here, slots.as_ref(), trial) {
                console::line(&format!("slots: {error:#}"));
            }
            if let Some(failed) = slots.as_ref().and_then(|slots| slots.failed.as_ref()).filter(|failed| !failed.told) {
                let (lost, reason) = (&failed.version.image_version, &failed.reason);
                let good = slots.as_ref().map_or("", |slots| slots.good.image_version.as_str());
                let words =
                    format!("{lost} did not work: {} ({}). The machine is back at {good}", reason.words, reason.code);
                reporter.failed(Step::Restart, "update-lost", words);
            }
        }
        let mac = install_record().and_then(|record| record.owner).map(|owner| owner.machine);
        let one_way = slots.as_ref().and_then(|slots| slots.trial.as_ref()).is_some_and(|trial| trial.one_way);
        let watch = Self(Arc::new(Mutex::new(State { here, trial, store: false, mac })));
        if trial && !one_way {
            let (copy, reporter) = (watch.clone(), reporter.clone());
            std::thread::spawn(move || copy.keep_time(Settings::here().deadline, &reporter));
            // This process watches from here on; what systemd kept for the case that it never came is not needed any more.
            systemctl(&["stop", watch::TIMER]);
        }
        watch
    }

    /// True while the running version is on trial.
    #[must_use]
    pub fn on_trial(&self) -> bool {
        self.lock().trial
    }

    /// The store has answered.
    pub fn store_answers(&self, mac: &str) {
        let mut state = self.lock();
        state.store = true;
        state.mac = Some(mac.to_owned());
    }

    /// The store knows what became of the last update.
    pub fn told(&self) {
        let folder = Path::new(STATE);
        if let Ok(Some(mut slots)) = keep::read(folder)
            && let Some(failed) = slots.failed.as_mut().filter(|failed| !failed.told)
        {
            failed.told = true;
            if let Err(error) = keep::write(folder, &slots) {
                console::line(&format!("slots: {error:#}"));
            }
        }
    }

    /// The machine is healthy: a version on trial counts from now on.
    ///
    /// # Errors
    /// When that cannot be kept; it stays on trial then.
    pub fn healthy(&self) -> Result<()> {
        let mut state = self.lock();
        if !state.trial {
            return Ok(());
        }
        let here = state.here.clone().context("the slot of the running system is not known")?;
        let folder = Path::new(STATE);
        let slots = keep::read(folder)?.context("what is known of the slots is gone")?;
        // The boot files first: the version is healthy, and whatever happens next it is to be started.
        with_boot_files(&here, |files| files.settle(&here.root_hash))?;
        let committed = slots.commit();
        keep::write(folder, &committed)?;
        state.trial = false;
        drop(state);
        let version = &committed.good.image_version;
        if let Some(record) = install_record() {
            let record = InstallRecord { image_version: version.clone(), ..record };
            durable::write(&folder.join(InstallRecord::FILE), &serde_json::to_vec_pretty(&record)?, 0o644)?;
        }
        console::line(&format!("version {version} is healthy, and counts from now on"));
        Ok(())
    }

    /// Waits until the template's own check has passed for a while, where nobody can ask the region. Then the version on trial
    /// counts: a line that is down is no fault of its.
    pub async fn own_health(&self, machine_config: &contracts::machine::JoinConfig) {
        let mut passed = 0;
        while self.on_trial() {
            tokio::time::sleep(CHECK_EVERY).await;
            let alone = self.lock().store && !region::answers() && join::has_joined(machine_config);
            passed = if alone && join::own_check(machine_config).await.is_ok() { passed + 1 } else { 0 };
            if passed >= CHECKS
                && let Err(error) = self.healthy()
            {
                console::line(&format!("slots: {error:#}"));
                passed = 0;
            }
        }
    }

    /// Counts the time of a version on trial, and ends it. While the cable is out the time stands still.
    fn keep_time(&self, deadline: Duration, reporter: &Reporter) {
        const TICK: Duration = Duration::from_secs(1);
        let mut passed = uptime();
        while self.on_trial() {
            std::thread::sleep(TICK);
            let mac = self.lock().mac.clone();
            if mac.is_none_or(|mac| !is_cable_out(Path::new("/sys/class/net"), &mac)) {
                passed += TICK;
            }
            if passed >= deadline && self.on_trial() {
                let trouble = reporter.trouble().unwrap_or_else(|| "it does not say why".into());
                let words = format!("it was not healthy {} s after its start: {trouble}", passed.as_secs());
                give_up(&Reason::new("unhealthy", &words));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Boot files follow what is kept, and the firmware starts them first.
fn put_right(here: &Here, slots: Option<&Slots>, trial: bool) -> Result<()> {
    if let Some(slots) = slots
        && !trial
        && slots.trial.is_none()
    {
        with_boot_files(here, |files| files.settle(&slots.good.root_hash))?;
    }
    if efi::present() && !trial {
        let (bytes, sector_bytes) = here.size()?;
        let mut target = Target::of_running_system(&here.disk, bytes, sector_bytes)?;
        if esp::keep_first(&mut target)? {
            console::line("the firmware's boot order did not begin with this disk; it does again");
        }
    }
    Ok(())
}

/// Gives the running version up, if it is on trial, and restarts the machine.
pub fn give_up(reason: &Reason) {
    console::line(&format!("giving up on this version: {}", reason.words));
    if let Err(error) = keep_reason(reason) {
        console::line(&format!("slots: {error:#}"));
    }
    systemctl(&["reboot", "--force"]);
    std::thread::sleep(RESTART_PATIENCE);
    boot::restart();
}

/// Keeps why this start is given up. Nothing happens where the running version is not on trial.
///
/// # Errors
/// When it cannot be kept; the start then counts as one that was cut off.
pub fn keep_reason(reason: &Reason) -> Result<()> {
    let command_line = fs::read_to_string("/proc/cmdline").context("reading the kernel's command line")?;
    let root_hash = boot::root_hash(&command_line).context("the kernel's command line names no root")?;
    let folder = Path::new(STATE);
    match keep::read(folder)? {
        Some(slots) if slots.is_trial(&root_hash) => keep::write(folder, &slots.give_up(reason.clone())),
        _ => Ok(()),
    }
}

/// Restarts into the version on trial.
pub fn restart() {
    systemctl(&["reboot"]);
}

fn systemctl(arguments: &[&str]) {
    let ended = Command::new("systemctl").args(arguments).stdin(Stdio::null()).output();
    match ended {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            console::line(&format!("systemctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => console::line(&format!("systemctl cannot be started: {error}")),
    }
}

/// The network card is there, and has no carrier. One that is not there, because the new version has no driver for it, is no cable.
fn is_cable_out(folder: &Path, mac: &str) -> bool {
    let Ok(cards) = fs::read_dir(folder) else { return false };
    let read = |card: &Path, name: &str| fs::read_to_string(card.join(name)).unwrap_or_default().trim().to_lowercase();
    let card = cards.flatten().map(|card| card.path()).find(|card| read(card, "address") == mac);
    card.is_some_and(|card| read(&card, "carrier") == "0")
}

fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_without_carrier_is_a_cable_and_one_that_is_missing_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let card = folder.path().join("eth0");
        fs::create_dir(&card).unwrap();
        fs::write(card.join("address"), "52:54:00:00:00:0A\n").unwrap();
        for (carrier, out) in [("0\n", true), ("1\n", false), ("", false)] {
            fs::write(card.join("carrier"), carrier).unwrap();
            assert_eq!(is_cable_out(folder.path(), "52:54:00:00:00:0a"), out, "{carrier:?}");
        }
        fs::write(card.join("carrier"), "0\n").unwrap();
        assert!(!is_cable_out(folder.path(), "52:54:00:00:00:0b"));
    }
}
