//! A version that never comes up: its services wait for ever for one that does not end, and the agent never begins. After three
//! starts the machine is back at the version before, with nobody touching it, and says why.

use super::{blank_machine, member::start, until};
use crate::{
    journey::Plan,
    materials::site::Variant,
    process,
    report::Report,
    world::{World, addresses as at, firmware::NetworkBoot, machine::Machine},
};
use anyhow::{Context as _, Result, ensure};
use contracts::{event::StepStatus, status::StepLine, step::Step};
use std::process::Command;

/// What the agent says in the initrd of a version on trial.
pub(super) const ON_TRIAL: &str = "on trial; ";
/// What it says when the version before is back.
const BACK: &str = "back at version ";
/// The starts that a version has.
const TRIES: usize = 3;

/// Runs the case.
///
/// # Errors
/// When the machine does not come back, or does not say why.
pub async fn run(plan: &Plan, boot: NetworkBoot, world: &mut World, report: &Report) -> Result<()> {
    let hardware = blank_machine(plan, world, boot, report).await?;
    let mut first = start(plan, world, &hardware, 1, None, report).await?.machine;
    publish(plan, Variant::Hanging, report)?;
    let line = loses(world, &mut first, Variant::Hanging, report).await?;
    ensure!(line.message.contains("did not come up"), "it does not say that nothing came up: {}", line.message);
    first.pull_the_plug().await?;
    world.check()
}

/// A bad version is tried three times and given up; the machine is ready again, and the store knows.
pub(super) async fn loses(
    world: &mut World,
    machine: &mut Machine,
    variant: Variant,
    report: &Report,
) -> Result<StepLine> {
    let since = time::OffsetDateTime::now_utc();
    let trial = format!("version {} {ON_TRIAL}", variant.name());
    for time in 1..=TRIES {
        until::serial_times(world, machine, &trial, time).await?;
        report.line(format!("machine: start {time} of {} on trial", variant.name()));
    }
    until::serial_times(world, machine, BACK, 1).await?;
    ensure!(
        machine.serial.count(&trial) == TRIES,
        "{} was started {} times",
        variant.name(),
        machine.serial.count(&trial)
    );
    let lost = until::line(world, machine, at::MACHINE_MAC, "the word that the update lost", report, |line| {
        line.step == Step::Restart && line.code.as_deref() == Some("update-lost") && line.updated >= since
    });
    let lost = lost.await?;
    ensure!(lost.message.contains(variant.name()), "it does not say which version lost: {}", lost.message);
    report.line(format!(
        "check: {} loses after {TRIES} starts, and the store knows why: yes ({})",
        variant.name(),
        lost.message
    ));
    let ready = until::line(world, machine, at::MACHINE_MAC, "ready again", report, |line| {
        line.step == Step::Ready && line.status == StepStatus::Done && line.updated >= lost.updated
    });
    ready.await?;
    report.line("check: the machine is a ready member with the version before: yes");
    Ok(lost)
}

/// Lets the channel name another version, as IT does.
pub(super) fn publish(plan: &Plan, variant: Variant, report: &Report) -> Result<()> {
    let mut command = Command::new(&plan.image_builder);
    command.args(["repo", "channel", "set"]).arg(&plan.image.repository).arg("--keys").arg(&plan.image.keys);
    process::output(command.args([plan.image.template.as_str(), "stable", variant.name()]))
        .context("letting the channel name another version")?;
    report.line(format!("image-builder repo channel set {} stable {}", plan.image.template, variant.name()));
    Ok(())
}
