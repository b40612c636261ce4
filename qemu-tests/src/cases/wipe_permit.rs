//! Somebody's data, and permission to install over it: given for one disk, for the number that the machine shows, once.

use super::{blank_machine, until};
use crate::{
    journey::{DISK_GIB, Plan},
    report::Report,
    world::{World, addresses as at, firmware::NetworkBoot, foreign, machine::Machine},
};
use anyhow::{Context as _, Result, ensure};
use contracts::{event::StepStatus, fleet::normal_number, step::Step};

/// Well-formed, and shown by nobody.
const WRONG: &str = "0000-0000";

/// Runs the case.
///
/// # Errors
/// When a permit counts that must not, or one does not that must.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let disks = foreign::make_all(&world.root, &plan.run.join("disks"), DISK_GIB)?;
    // The system disk is the till's; the other one is of the same size, and nobody permits anything about it.
    let (till, other) = (&disks[0], &disks[5]);
    let before = foreign::checksum(&other.image)?;
    let mut hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    hardware.disk = till.image.clone();
    hardware.more_disks = vec![other.image.clone()];
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let refused = until::step(world, &mut machine, at::MACHINE_MAC, Step::Plan, StepStatus::Failed, report).await?;
    ensure!(refused.code.as_deref() == Some("foreign-data"), "the code is {:?}", refused.code);
    let shown = refused.message.split(' ').next_back().and_then(normal_number);
    let number = shown.with_context(|| format!("there is no number in its words: {}", refused.message))?;
    report.line(format!("check: both disks are refused, and the machine shows a number: yes ({number})"));

    let serial = format!("DISK-{}", hardware.name);
    let said = world.registrar.permit_wipe(&world.root, at::STORE, at::MACHINE_MAC, &serial, WRONG)?;
    report.line(format!("registrar: {}", said.trim()));
    until::serial(&mut machine, "was given for another number").await?;
    report.line("check: a permit for another number does not count: yes");

    let said = world.registrar.permit_wipe(&world.root, at::STORE, at::MACHINE_MAC, &serial, &number)?;
    report.line(format!("registrar: {}", said.trim()));
    let divided = until::done_at_last(world, &mut machine, Step::Partition, report).await?;
    ensure!(divided.message.contains("is used up"), "the use of the permit is not on record: {}", divided.message);
    until::done_at_last(world, &mut machine, Step::Verify, report).await?;
    machine.pull_the_plug().await?;
    ensure!(before == foreign::checksum(&other.image)?, "the other disk was written to");
    report.line("check: the permitted disk is installed, the other one is untouched: yes");
    world.check()
}
