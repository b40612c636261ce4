//! The member asks itself from time to time whether the store has another version for it, and takes it.

use super::{Machine, find_store};
use crate::{
    console,
    disk::table::Target,
    efi,
    failure::{Coded, Failure},
    install::esp,
    net::client::Netboot,
    report::Reporter,
    slots::{
        choice::{self, Choice, Known},
        here::Here,
        keep,
        settings::Settings,
        trial::{self, Watch},
        update::{self, Offer, Updated},
    },
};
use anyhow::{Context, Result};
use contracts::{
    assignment::{Assignment, ImageRef},
    install::InstallRecord,
    step::Step,
};
use std::{path::Path, time::Duration};
use time::OffsetDateTime;
use uuid::Uuid;

/// How long the last words may take to reach the store before the restart.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);
/// How often it is asked whether the window for restarts is open.
const WINDOW_EVERY: Duration = Duration::from_secs(60);

/// Asks for ever, because there may always be something newer; with jitter, so that machines do not ask together. It ends with a
/// restart.
pub async fn watch(machine: &mut Machine, reporter: &Reporter, slots: &Watch) {
    let Some(every) = Settings::here().update_every else {
        console::line("this template does not ask for updates by itself");
        return;
    };
    loop {
        if slots.on_trial() {
            // A version that is not good yet does not bring the next one.
            tokio::time::sleep(every).await;
            continue;
        }
        match look(machine, reporter).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(failure) => console::line(&format!("no update this time: {failure} (code {})", failure.code)),
        }
        tokio::time::sleep(every.mul_f64(0.8 + rand::random::<f64>() * 0.4)).await;
    }
}

/// Looks once. True when the machine is restarting.
async fn look(machine: &mut Machine, reporter: &Reporter) -> Result<bool, Failure> {
    let (netboot, assignment) = find_store(machine).await?;
    let Some(image) = image_of(&assignment, machine) else { return Ok(false) };
    let offer = Offer::ask(&netboot, &image).await.code("update")?;
    if waits_for_its_start() {
        return when_the_window_opens(&offer, &newest_on_disk(), reporter).await;
    }
    let failed = keep::read(Path::new(super::STATE)).ok().flatten().and_then(|slots| slots.failed);
    let known = Known {
        running: &machine.config.image_version,
        failed: failed.as_ref().map(|failed| failed.version.image_version.as_str()),
        channel: &offer.channel,
        rollout: offer.rollout.as_ref(),
        store: assignment.store.as_deref(),
        now: OffsetDateTime::now_utc(),
    };
    let Choice::Take(version) = choice::choose(&known) else { return Ok(false) };
    reporter.begin_attempt(Uuid::new_v4());
    let words = format!("fetching {version} beside {}", machine.config.image_version);
    let fetched = reporter.step(Step::Install, &words, async {
        let updated = fetch(machine, &offer, version, reporter).await?;
        let words = updated.words();
        Ok((updated, words))
    });
    let updated = fetched.await?;
    reporter.done(Step::Verify, format!("{} is exactly what was signed, and is to be tried", updated.to));
    when_the_window_opens(&offer, &updated.to, reporter).await
}

async fn fetch(machine: &Machine, offer: &Offer, version: &str, reporter: &Reporter) -> Result<Updated, Failure> {
    let tell = |step: Step, fraction: f64, words: &str| reporter.progress(step, fraction, None, words);
    update::put_on_trial(&machine.config, offer, version, &tell).await.code("update")
}

/// The image that the store assigns to this machine, if it is of the template that is installed.
fn image_of(assignment: &Assignment, machine: &Machine) -> Option<ImageRef> {
    assignment.image.clone().filter(|image| image.template == machine.config.template)
}

/// A version is on the disk, and has not been tried.
fn waits_for_its_start() -> bool {
    keep::read(Path::new(super::STATE)).ok().flatten().is_some_and(|slots| slots.trial.is_some_and(|trial| trial.armed))
}

fn newest_on_disk() -> String {
    let slots = keep::read(Path::new(super::STATE)).ok().flatten();
    slots.and_then(|slots| slots.trial).map(|trial| trial.to.image_version).unwrap_or_default()
}

async fn when_the_window_opens(offer: &Offer, version: &str, reporter: &Reporter) -> Result<bool, Failure> {
    let mut told = false;
    while !choice::may_restart(offer.rollout.as_ref(), version, OffsetDateTime::now_utc()) {
        if !told {
            console::line(&format!("{version} is on the disk; it is tried when the rollout's window opens"));
            told = true;
        }
        tokio::time::sleep(WINDOW_EVERY).await;
    }
    // What happens next is one story with what happened until now, over the restart.
    keep_attempt(reporter.attempt());
    reporter.started(Step::Restart, format!("starting {version} on trial"));
    reporter.flush(FLUSH_LIMIT).await;
    start_on_trial().code("boot-entry")?;
    Ok(true)
}

/// Restarts into the version on trial, through the firmware.
///
/// # Errors
/// When this is no installed system, or the firmware does not take its entry.
pub fn start_on_trial() -> Result<()> {
    if efi::present() {
        let here = Here::find()?;
        let (bytes, sector_bytes) = here.size()?;
        let mut target = Target::of_running_system(&here.disk, bytes, sector_bytes)?;
        esp::boot_next(&mut target).context("telling the firmware to start from the disk")?;
    }
    trial::restart();
    Ok(())
}

fn keep_attempt(attempt: Uuid) {
    if let Some(record) = super::install_record() {
        super::keep_install_record(&InstallRecord { attempt: Some(attempt), ..record });
    }
}

/// `firstboot-agent update`: one update, as its caller wants it. `None` when there is nothing to do.
///
/// # Errors
/// With what did not work; the version that runs is not touched.
pub async fn once(machine: &mut Machine, version: Option<&str>) -> Result<Option<Updated>> {
    let (netboot, assignment) = store(machine).await?;
    let image = image_of(&assignment, machine).unwrap_or_else(|| ImageRef {
        template: machine.config.template.clone(),
        channel: "stable".into(),
        version: None,
    });
    let offer = Offer::ask(&netboot, &image).await?;
    let known = Known {
        running: &machine.config.image_version,
        failed: None,
        channel: &offer.channel,
        rollout: offer.rollout.as_ref(),
        store: assignment.store.as_deref(),
        now: OffsetDateTime::now_utc(),
    };
    let version = match (version, choice::choose(&known)) {
        (Some(version), _) | (None, Choice::Take(version)) => version,
        (None, Choice::Stay(why)) => {
            console::line(why);
            return Ok(None);
        }
    };
    let tell = |step: Step, fraction: f64, words: &str| {
        console::line(&format!("[{step}] {:.0} % {words}", fraction * 100.0));
    };
    Ok(Some(update::put_on_trial(&machine.config, &offer, version, &tell).await?))
}

async fn store(machine: &mut Machine) -> Result<(Netboot, Assignment)> {
    find_store(machine).await.map_err(|failure| failure.error)
}
