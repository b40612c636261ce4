//! What a person before the machine sees: a disk that is refused, an install under way, a machine that waits for the region.
//! Three pictures to look at; the QR codes on them are read as a camera reads them.

use super::{blank_machine, until};
use crate::{
    journey::{DISK_GIB, Plan},
    report::Report,
    world::{World, addresses as at, firmware::NetworkBoot, foreign, machine::Machine, picture::Picture},
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::{claim, event::StepStatus, step::Step};
use std::time::{Duration, Instant};

/// How long a screen may take to show what has been said; it is looked at four times in a second, and emulation is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the case.
///
/// # Errors
/// When a screen does not show what it must.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let mut hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    let disks = foreign::make_all(&world.root, &plan.run.join("disks"), DISK_GIB)?;
    let blank = std::mem::replace(&mut hardware.disk, disks[0].image.clone());
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let refused = until::step(world, &mut machine, at::MACHINE_MAC, Step::Plan, StepStatus::Failed, report).await?;
    let mac = at::MACHINE_MAC.replace(':', "").to_uppercase();
    let number = refused.message.split(' ').next_back().unwrap_or_default();
    let words = format!("SB {number} PLAN {mac}");
    code(plan, &machine, "refused-disk", &words, report).await?;
    machine.pull_the_plug().await?;

    hardware.disk = blank;
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 2)?;
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Install, StepStatus::Progress, report).await?;
    let picture = Picture::take(&machine, &plan.run, "installing").await?;
    ensure!(picture.codes().is_empty(), "there is a QR code where nothing is wrong: {:?}", picture.codes());
    report.line(format!("screen: installing: {}", picture.png.display()));

    let waiting = until::step(world, &mut machine, at::MACHINE_MAC, Step::Enroll, StepStatus::Waiting, report).await?;
    let claim = waiting.message.split(' ').find_map(claim::normal).context("there is no claim code in its words")?;
    code(plan, &machine, "waiting-for-the-region", &format!("SB {claim} ENROLL {mac}"), report).await?;
    machine.pull_the_plug().await?;
    world.check()
}

/// A picture whose QR code begins with these words.
async fn code(plan: &Plan, machine: &Machine, name: &str, words: &str, report: &Report) -> Result<()> {
    let begin = Instant::now();
    loop {
        let picture = Picture::take(machine, &plan.run, name).await?;
        let codes = picture.codes();
        if let Some(code) = codes.iter().find(|code| code.starts_with(words)) {
            report.line(format!("screen: {name}: {}", picture.png.display()));
            report.line(format!("check: a camera reads the code on it: yes ({code})"));
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            bail!("the QR codes on {} are {codes:?}, none begins with {words:?}", picture.png.display());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
