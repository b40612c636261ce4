//! An installed machine is ordered to the shelf: it wipes its own disk and no other, and installs nothing. It is looked at for the
//! shelf, and the region has the record. Admitted anew, it installs again.

use super::{blank_machine, until};
use crate::{
    journey::{DISK_GIB, Plan},
    report::Report,
    world::{
        World, addresses as at,
        firmware::NetworkBoot,
        foreign,
        machine::{First, Machine, blank_disk},
    },
};
use anyhow::{Context as _, Result, ensure};
use contracts::{event::StepStatus, status::StepLine, step::Step};
use std::time::{Duration, Instant};

/// How long the region may take to hear of something: its store asks every 25 seconds.
const HEARD_WITHIN: Duration = Duration::from_secs(120);

/// Runs the case.
///
/// # Errors
/// When something is left of the machine, another disk was touched, or the region does not know.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let other = foreign::make_all(&world.root, &plan.run.join("disks"), DISK_GIB + 8)?.swap_remove(0);
    let other_before = foreign::checksum(&other.image)?;
    let untouched = plan.run.join("untouched.raw");
    blank_disk(&untouched, DISK_GIB)?;
    let blank = foreign::checksum(&untouched)?;
    let mut hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    hardware.more_disks = vec![other.image.clone()];

    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Ready, StepStatus::Done, report).await?;
    machine.pull_the_plug().await?;
    ensure!(foreign::checksum(&hardware.disk)? != blank, "nothing was installed");
    report.line(format!("check: the machine is a member; beside its disk is one with {}: yes", other.words));

    let region = world.region.root(&world.root).clone();
    let known = generations(world);
    let said = world.registrar.retire(&region, at::NODE)?;
    said.lines().for_each(|line| report.line(format!("registrar: {line}")));
    heard(|| Ok((generations(world) > known).then_some(()))).await.context("the store has not got the order")?;
    // Its own firmware goes to the disk first; one like this asks the network.
    hardware.first = Some(First::Network);
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 2)?;
    let line = waits_with(world, &mut machine, "retired", report).await?;
    let page = until::page_says(&mut machine, "ready for the shelf").await?;
    ensure!(page.contains("Switch it off and put it on the shelf."), "the page does not say what to do: {page}");
    let console = until::serial(&mut machine, "is ready for the shelf: switch it off").await?;
    ensure!(console.contains("(code retired)"), "the console does not name the code: {console}");
    machine.pull_the_plug().await?;
    ensure!(foreign::checksum(&hardware.disk)? == blank, "something is left on the machine's own disk");
    ensure!(foreign::checksum(&other.image)? == other_before, "the other disk was written to");
    report.line(format!("check: its own disk is blank, the other one untouched: yes ({})", line.message));
    let done = heard(|| {
        let all = world.registrar.retired(&world.root)?;
        Ok(all.as_array().is_some_and(|all| all.iter().any(|one| one["done"].is_string())).then_some(all))
    })
    .await
    .context("the region does not know that it is done")?;
    report.line(format!("check: the region has it on record: yes ({})", done[0]["said"]));

    let said = world.registrar.open_staging(&world.root, at::STORE, &plan.image.template)?;
    report.line(format!("registrar: {}", said.trim()));
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 3)?;
    waits_with(world, &mut machine, "staged", report).await?;
    let record = heard(|| world.registrar.staged(&world.root, at::MACHINE_MAC)).await?;
    ensure!(record.passes && record.template == plan.image.template, "the verdict is {record:?}");
    ensure!(record.serial == format!("SHELF-{}", hardware.name), "the serial number is {:?}", record.serial);
    let serials: Vec<_> = record.disks.iter().filter_map(|disk| disk.serial.as_deref()).collect();
    ensure!(serials.contains(&format!("DISK-{}", hardware.name).as_str()), "the disks are {serials:?}");
    ensure!(record.nics.iter().any(|nic| nic.mac == at::MACHINE_MAC), "the card is not in it: {:?}", record.nics);
    for finding in &record.findings {
        report.line(format!("staging: {:<12} {:?}: {}", finding.about, finding.result, finding.words));
    }
    ensure!(foreign::checksum(&hardware.disk)? == blank, "the staging boot wrote to a disk");
    ensure!(foreign::checksum(&other.image)? == other_before, "the staging boot wrote to the other disk");
    report.line("check: it was looked at, nothing was written, and the region has its record: yes");

    let said = world.registrar.reopen(&world.root, at::NODE)?;
    report.line(format!("registrar: {}", said.trim()));
    until::line(world, &mut machine, at::MACHINE_MAC, "verify done", report, |line| {
        line.step == Step::Verify && line.status == StepStatus::Done
    })
    .await?;
    machine.pull_the_plug().await?;
    ensure!(foreign::checksum(&other.image)? == other_before, "the other disk was written to");
    report.line("check: admitted anew, it installs again: yes");
    world.check()
}

/// How often the store has got something new from its region.
fn generations(world: &World) -> usize {
    world.store.netboot_log().matches("assignments of generation").count()
}

/// Waits until the machine waits with this code. Nothing is to be divided or installed until then.
async fn waits_with(world: &mut World, machine: &mut Machine, code: &str, report: &Report) -> Result<StepLine> {
    let what = format!("a wait with the code {code}");
    let fits = |line: &StepLine| line.status == StepStatus::Waiting && line.code.as_deref() == Some(code);
    let line = until::line(world, machine, at::MACHINE_MAC, &what, report, fits).await?;
    ensure!(machine.serial.first("[install]").is_none(), "it installed something");
    Ok(line)
}

/// Asks until there is an answer.
async fn heard<T>(mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(begin.elapsed() < HEARD_WITHIN, "the region has not heard of it in {} s", HEARD_WITHIN.as_secs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
