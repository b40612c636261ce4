//! Waiting for a step of a machine, with progress, and with the end of its serial line when it does not come.

use crate::{
    journey::follow::Follower,
    report::Report,
    world::{World, addresses as at, machine::Machine},
};
use anyhow::{Context as _, Result, bail};
use contracts::{
    event::StepStatus,
    status::{MachineStatus, StepLine},
    step::Step,
};
use std::time::{Duration, Instant};

/// How long anything may take, in software emulation on a busy host.
const PATIENCE: Duration = Duration::from_secs(8 * 60);

/// Waits until `step` has ended or waits as wanted since the machine was switched on.
///
/// # Errors
/// When it ends otherwise, or does not end in time.
pub async fn step(
    world: &mut World,
    machine: &mut Machine,
    mac: &str,
    step: Step,
    wanted: StepStatus,
    report: &Report,
) -> Result<StepLine> {
    let mut follower = Follower::new(report.clone(), machine.started, machine.started_at);
    let begin = Instant::now();
    loop {
        world.check()?;
        machine.check()?;
        if let Some(status) = world.store.machine(mac).await? {
            follower.tell(&status, Instant::now());
            if let Some(line) = line(&status, machine, step, wanted) {
                return Ok(line);
            }
            let ends_otherwise = wanted != StepStatus::Failed
                && status.steps.iter().any(|l| l.updated >= machine.started_at && l.status == StepStatus::Failed);
            if ends_otherwise {
                bail!("a step failed where {step} should have come to {wanted:?}: {:?}", status.steps.last());
            }
        }
        if begin.elapsed() > PATIENCE {
            bail!("the step {step} did not come to {wanted:?}; the serial line ends in\n{}", machine.serial.tail(20));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the machine says that `step` failed, in these words.
///
/// # Errors
/// When it does not in time.
pub async fn failure(
    world: &mut World,
    machine: &mut Machine,
    step: Step,
    words: &str,
    report: &Report,
) -> Result<String> {
    let mut follower = Follower::new(report.clone(), machine.started, machine.started_at);
    let begin = Instant::now();
    loop {
        world.check()?;
        machine.check()?;
        if let Some(status) = world.store.machine(at::MACHINE_MAC).await? {
            follower.tell(&status, Instant::now());
            let said = line(&status, machine, step, StepStatus::Failed).map(|line| line.message);
            if let Some(message) = said.filter(|message| message.contains(words)) {
                return Ok(message);
            }
        }
        if begin.elapsed() > PATIENCE {
            bail!("no failure with {words:?}; the serial line ends in\n{}", machine.serial.tail(20));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn line(status: &MachineStatus, machine: &Machine, step: Step, wanted: StepStatus) -> Option<StepLine> {
    let fits = |l: &&StepLine| l.updated >= machine.started_at && l.step == step && l.status == wanted;
    status.steps.iter().find(fits).cloned()
}

/// Waits until the serial line says this; returns the line.
///
/// # Errors
/// When it does not in time.
pub async fn serial(machine: &mut Machine, text: &str) -> Result<String> {
    let begin = Instant::now();
    loop {
        if let Some((_, line)) = machine.serial.first(text) {
            return Ok(line);
        }
        machine.check()?;
        if begin.elapsed() > PATIENCE {
            bail!("{text:?} did not come; the serial line ends in\n{}", machine.serial.tail(20));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What people see on the store's page.
///
/// # Errors
/// When netboot does not answer.
pub async fn page() -> Result<String> {
    let url = format!("http://{}/", crate::world::addresses::NETBOOT);
    let answer = reqwest::get(url).await.context("asking for the store's page")?;
    // Quotation marks and apostrophes are written as entities.
    Ok(answer.text().await.context("reading the store's page")?.replace("&quot;", "\"").replace("&#34;", "\""))
}
