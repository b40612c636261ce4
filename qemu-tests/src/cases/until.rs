//! Waiting for what a machine does, with progress, and with the end of its serial line when it does not come.

use crate::{
    journey::follow::Follower,
    report::Report,
    world::{World, addresses as at, machine::Machine},
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::{event::StepStatus, logs::LogBundle, status::StepLine, step::Step};
use std::time::{Duration, Instant};

/// How long anything may take, in software emulation on a busy host.
const PATIENCE: Duration = Duration::from_secs(8 * 60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until `step` of a machine has come to `wanted` since it was switched on.
///
/// # Errors
/// When a step fails instead, or nothing comes in time.
pub async fn step(
    world: &mut World,
    machine: &mut Machine,
    mac: &str,
    step: Step,
    wanted: StepStatus,
    report: &Report,
) -> Result<StepLine> {
    let what = format!("{step} {wanted:?}");
    lines(world, machine, mac, &what, report, |lines| {
        let found = lines.iter().find(|l| l.step == step && l.status == wanted);
        match lines.iter().find(|l| l.status == StepStatus::Failed) {
            Some(failed) if found.is_none() => bail!("a step failed where {what} was to come: {failed:?}"),
            _ => Ok(found.cloned()),
        }
    })
    .await
}

/// Waits until a machine has said something that fits since it was switched on.
///
/// # Errors
/// When nothing comes in time.
pub async fn line(
    world: &mut World,
    machine: &mut Machine,
    mac: &str,
    what: &str,
    report: &Report,
    fits: impl Fn(&StepLine) -> bool,
) -> Result<StepLine> {
    lines(world, machine, mac, what, report, |lines| Ok(lines.iter().find(|line| fits(line)).cloned())).await
}

/// Waits until a machine has done `step`, whatever failed on the way.
///
/// # Errors
/// When it has not in time.
pub async fn done_at_last(world: &mut World, machine: &mut Machine, step: Step, report: &Report) -> Result<StepLine> {
    let mac = machine.mac.clone();
    lines(world, machine, &mac, &format!("{step} done"), report, |lines| {
        Ok(lines.iter().find(|l| l.step == step && l.status == StepStatus::Done).cloned())
    })
    .await
}

/// Waits until a machine says that `step` failed, in these words.
///
/// # Errors
/// When it does not in time.
pub async fn failure(
    world: &mut World,
    machine: &mut Machine,
    step: Step,
    words: &str,
    report: &Report,
) -> Result<StepLine> {
    let mac = machine.mac.clone();
    lines(world, machine, &mac, &format!("{step} failed with {words:?}"), report, |lines| {
        let fits = |l: &&StepLine| l.step == step && l.status == StepStatus::Failed && l.message.contains(words);
        Ok(lines.iter().find(fits).cloned())
    })
    .await
}

/// Looks at the steps that moved since the machine was switched on, until there is what is looked for.
async fn lines<T>(
    world: &mut World,
    machine: &mut Machine,
    mac: &str,
    what: &str,
    report: &Report,
    mut look: impl FnMut(&[StepLine]) -> Result<Option<T>>,
) -> Result<T> {
    let mut follower = Follower::new(report.clone(), machine.started, machine.started_at);
    let begin = Instant::now();
    loop {
        world.check()?;
        machine.check()?;
        if let Some(mut status) = world.store.machine(mac).await? {
            follower.tell(&status, Instant::now());
            status.steps.retain(|line| line.updated >= machine.started_at);
            if let Some(found) = look(&status.steps)? {
                return Ok(found);
            }
        }
        in_time(begin, machine, what)?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
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
        in_time(begin, machine, &format!("{text:?} on the serial line"))?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the serial line has said this so many times.
///
/// # Errors
/// When it has not in time.
pub async fn serial_times(world: &mut World, machine: &mut Machine, text: &str, times: usize) -> Result<()> {
    let begin = Instant::now();
    while machine.serial.count(text) < times {
        world.check()?;
        machine.check()?;
        in_time(begin, machine, &format!("{text:?} for the {times}. time on the serial line"))?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Waits until the store's page says this.
///
/// # Errors
/// When it does not in time.
pub async fn page_says(machine: &mut Machine, text: &str) -> Result<String> {
    let begin = Instant::now();
    loop {
        let page = page().await?;
        if page.contains(text) {
            return Ok(page);
        }
        machine.check()?;
        in_time(begin, machine, &format!("{text:?} on the store's page"))?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the store keeps a log of a machine that ends with this code, and looks whether it is one: the agent's words and the
/// kernel's, and nothing that must not be kept.
///
/// # Errors
/// When none comes in a minute, or it is not whole.
pub async fn log(world: &mut World, mac: &str, code: &str) -> Result<LogBundle> {
    let begin = Instant::now();
    loop {
        world.check()?;
        let kept = world.store.log_of(&world.root, mac)?;
        if let Some(bundle) = kept.filter(|bundle| bundle.end.code.as_deref() == Some(code)) {
            let said = bundle.lines.contains(&format!("(code {code})"));
            ensure!(said, "the log does not have the agent's words: {}", bundle.lines);
            ensure!(bundle.kernel.contains("] "), "the log has no kernel messages: {:?}", bundle.kernel);
            return Ok(bundle);
        }
        ensure!(begin.elapsed() < Duration::from_secs(60), "no log of {mac} that ends with {code} came in a minute");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn in_time(begin: Instant, machine: &Machine, what: &str) -> Result<()> {
    if begin.elapsed() > PATIENCE {
        bail!("{what} did not come; the serial line ends in\n{}", machine.serial.tail(20));
    }
    Ok(())
}

/// What people see on the store's page.
///
/// # Errors
/// When netboot does not answer.
pub async fn page() -> Result<String> {
    let url = format!("http://{}/", at::NETBOOT);
    let answer = reqwest::get(url).await.context("asking for the store's page")?;
    // Quotation marks and apostrophes are written as entities.
    Ok(answer.text().await.context("reading the store's page")?.replace("&quot;", "\"").replace("&#34;", "\""))
}
