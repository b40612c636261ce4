//! Disks that hold somebody's data: each is named and refused, none is touched, neither when nothing else is there
//! nor when a blank disk is installed beside them.

use super::{blank_machine, until};
use crate::{
    journey::{DISK_GIB, Plan},
    report::Report,
    signals::{Recorder, light, sound},
    world::{
        World, addresses as at,
        firmware::NetworkBoot,
        foreign::{self, ForeignDisk},
        machine::Machine,
    },
};
use anyhow::{Result, bail, ensure};
use contracts::{event::StepStatus, step::Step};
use std::time::{Duration, Instant};

/// Another size than the blank disk's: equal sizes are never guessed at.
const FOREIGN_GIB: u64 = DISK_GIB + 8;
/// From the refusal to the end of the beeps: three seconds, and emulation is slow. The next ones come a minute after the first.
const PATIENCE_TO_HEAR: Duration = Duration::from_secs(30);

/// Runs the case.
///
/// # Errors
/// When a disk was touched, or a refusal does not say why.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let disks = foreign::make_all(&world.root, &plan.run.join("disks"), FOREIGN_GIB)?;
    let before = checksums(&disks)?;
    let names: Vec<&str> = disks.iter().map(|d| d.name).collect();
    report.line(format!("foreign disks: {}", names.join(", ")));

    let mut hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    let blank = std::mem::replace(&mut hardware.disk, disks[0].image.clone());
    hardware.more_disks = disks[1..].iter().map(|d| d.image.clone()).collect();
    let recorder = Recorder::new(&plan.run);
    hardware.odd.signals = Some(recorder.clone());
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let line = until::step(world, &mut machine, at::MACHINE_MAC, Step::Plan, StepStatus::Failed, report).await?;
    ensure!(line.code.as_deref() == Some("foreign-data"), "the code is {:?}", line.code);
    let console = until::serial(&mut machine, "[plan] FAILED").await?;
    let page = until::page().await?;
    let log = until::log(world, at::MACHINE_MAC, "foreign-data").await?;
    beeps_for_help(&mut machine, &recorder, report).await?;
    machine.pull_the_plug().await?;
    for disk in &disks {
        for (place, text) in [
            ("the status", &line.message),
            ("the console", &console),
            ("the page", &page),
            ("the log", &log.end.message),
        ] {
            ensure!(text.contains(disk.words), "{place} does not say {:?} of {}: {text}", disk.words, disk.name);
        }
    }
    untouched(&disks, &before)?;
    report.line("check: every foreign disk is named on console and page, refused and untouched: yes");
    let (lines, kernel) = (log.lines.lines().count(), log.kernel.lines().count());
    report.line(format!("check: `netboot logs` has it: yes ({lines} lines of the agent, {kernel} of the kernel)"));

    hardware.odd.signals = None;
    hardware.more_disks.push(blank);
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 2)?;
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Verify, StepStatus::Done, report).await?;
    machine.pull_the_plug().await?;
    untouched(&disks, &before)?;
    report.line("check: a blank disk beside them is installed, the others are untouched: yes");
    world.check()
}

/// Somebody must act: whoever hears the machine or sees its keyboard knows that without a screen (docs/signals.md).
async fn beeps_for_help(machine: &mut Machine, recorder: &Recorder, report: &Report) -> Result<()> {
    let ms = Duration::from_millis;
    let begin = Instant::now();
    loop {
        machine.check()?;
        let (beeps, end) = recorder.beeps()?;
        let groups = sound::groups(&beeps, end);
        let bursts = light::bursts(&recorder.flashes()?);
        if let [started, help] = groups.as_slice()
            && bursts.last() == Some(&3)
        {
            ensure!(sound::is(started, 1, ms(120), ms(0), 1000.0), "it began with {started:?}");
            ensure!(sound::is(help, 3, ms(700), ms(300), 1000.0), "it calls for help with {help:?}");
            report.line("check: one short beep when it begins, three long ones when it needs somebody: yes");
            report.line("check: the keyboard's scroll lock flashes three times, and again: yes");
            return Ok(());
        }
        if groups.len() > 2 || begin.elapsed() > PATIENCE_TO_HEAR {
            bail!("the beeps are {beeps:?}, the bursts of the scroll lock {bursts:?}");
        }
        tokio::time::sleep(ms(500)).await;
    }
}

fn checksums(disks: &[ForeignDisk]) -> Result<Vec<String>> {
    disks.iter().map(|disk| foreign::checksum(&disk.image)).collect()
}

fn untouched(disks: &[ForeignDisk], before: &[String]) -> Result<()> {
    for ((disk, before), after) in disks.iter().zip(before).zip(checksums(disks)?) {
        ensure!(*before == after, "the disk {} was written to", disk.name);
    }
    Ok(())
}
