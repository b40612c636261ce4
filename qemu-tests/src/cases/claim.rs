//! A template for which the store's word is not enough: the machine waits, with a code on console and page that somebody
//! reads out, until the region is told that code.

use super::{blank_machine, until};
use crate::{
    journey::Plan,
    report::Report,
    world::{World, addresses as at, firmware::NetworkBoot, machine::Machine},
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::{claim, event::StepStatus, step::Step};

/// Well-formed, and nobody's.
const WRONG: &str = "0000-0000-0000";

/// Runs the case.
///
/// # Errors
/// When the machine gets in without its code, or not with it.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;

    let waiting = until::step(world, &mut machine, at::MACHINE_MAC, Step::Enroll, StepStatus::Waiting, report).await?;
    ensure!(waiting.code.as_deref() == Some("claim"), "it waits for something else: {waiting:?}");
    let code = waiting.message.split(' ').find_map(claim::normal).context("there is no claim code in its words")?;
    until::serial(&mut machine, &code).await.context("the console does not show the code")?;
    until::page_says(&mut machine, &code).await.context("the store's page does not show the code")?;
    report.line(format!("check: the machine waits and shows its claim code on console and page: yes ({code})"));

    if let Ok(said) = world.registrar.approve(&world.root, WRONG) {
        bail!("a wrong code was taken: {said}");
    }
    report.line("check: a wrong code is refused: yes");
    let said = world.registrar.approve(&world.root, &code)?;
    report.line(format!("registrar: {}", said.trim()));
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Ready, StepStatus::Done, report).await?;
    report.line("check: told the code, the region admits the machine, and it arrives: yes");
    machine.pull_the_plug().await?;
    world.check()
}
