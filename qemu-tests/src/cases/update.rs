//! Updates: a version with one package more moves few bytes, and wins although cable and plug are pulled; the version that counts
//! stays over pulled plugs; a broken version loses, and says why.

use super::{
    blank_machine,
    member::start,
    slots::{ON_TRIAL, loses, publish},
    until,
};
use crate::{
    journey::Plan,
    materials::site::{DEADLINE, Variant},
    report::Report,
    world::{
        World, addresses as at,
        firmware::NetworkBoot,
        machine::{Hardware, Machine},
        network,
    },
};
use anyhow::{Context as _, Result, ensure};
use contracts::{event::StepStatus, step::Step};
use std::{
    fs,
    time::{Duration, Instant},
};

/// Of the image's bytes, an update with a one-package change moves at most so many percent.
const MOST_PERCENT: f64 = 15.0;
/// What the agent says when a version counts.
const COUNTS: &str = "is healthy, and counts from now on";
const STARTS: &str = "starting the installed system";

/// Runs the case.
///
/// # Errors
/// When too much is moved, a good version loses, or a bad one wins.
pub async fn run(plan: &Plan, world: &mut World, report: &Report, result: &Report) -> Result<()> {
    let hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    let mut machine = start(plan, world, &hardware, 1, None, report).await?.machine;
    fetched(plan, world, &mut machine, report, result).await?;
    let machine = pulled_plugs_on_trial(plan, world, &hardware, machine, report).await?;
    let mut machine = pulled_cable_on_trial(world, machine, report).await?;
    machine = pulled_plugs_of_the_good_version(plan, world, &hardware, machine, report).await?;

    publish(plan, Variant::Broken, report)?;
    let lost = loses(world, &mut machine, Variant::Broken, report).await?;
    ensure!(lost.message.contains("kubelet"), "the reason is not the real one: {}", lost.message);
    machine.pull_the_plug().await?;
    world.check()
}

/// The new version gets onto the disk, over a cable that is pulled on the way. The bytes are counted at the machine's cable.
async fn fetched(
    plan: &Plan,
    world: &mut World,
    machine: &mut Machine,
    report: &Report,
    result: &Report,
) -> Result<()> {
    let manifest = plan.image.versions.get(Variant::Next.name()).context("there is no next version")?;
    let image = manifest.archive.bytes + fs::metadata(&plan.image.uki).context("measuring the boot image")?.len();
    let before = moved(network::MACHINE_TAP)?;
    publish(plan, Variant::Next, report)?;
    until::serial_times(world, machine, "[install] ...", 2).await?;
    machine.cable(false).await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    machine.cable(true).await?;
    report.line("machine: the cable was out for 20 s while the version was fetched");
    until::serial_times(world, machine, &format!("starting {} on trial", Variant::Next.name()), 1).await?;
    let moved = moved(network::MACHINE_TAP)? - before;
    let percent = moved as f64 * 100.0 / image as f64;
    let words = format!(
        "update with one package more: {:.1} MB over the machine's cable, of an image of {:.1} MB: {percent:.1} % (at most {MOST_PERCENT} %)",
        moved as f64 / 1e6,
        image as f64 / 1e6
    );
    result.line(&words);
    let line = machine.serial.first("were fetched (").map(|(_, line)| line).unwrap_or_default();
    result.line(format!("the agent says: {line}"));
    ensure!(percent <= MOST_PERCENT, "{words}");
    report.line(format!("check: at most {MOST_PERCENT} % of the image's bytes are moved: yes"));
    Ok(())
}

/// What the host has sent to the machine. `/sys` is that of another network, so `/proc` is asked (proc_pid_net(5): the ninth
/// number of a line of `dev`).
fn moved(tap: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/net/dev").context("reading the interfaces' counters")?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix(tap)?.strip_prefix(':'));
    let line = line.with_context(|| format!("there is no interface {tap}"))?;
    line.split_whitespace().nth(8).context("the line is short")?.parse().context("a number of bytes")
}

/// Three quick power cuts on trial: the version is still tried.
async fn pulled_plugs_on_trial(
    plan: &Plan,
    world: &mut World,
    hardware: &Hardware,
    mut machine: Machine,
    report: &Report,
) -> Result<Machine> {
    let trial = format!("version {} {ON_TRIAL}", Variant::Next.name());
    for boot in 2..=4 {
        until::serial(&mut machine, &trial).await?;
        machine.pull_the_plug().await?;
        machine = Machine::switch_on(&world.root, hardware, &plan.run, boot)?;
    }
    let line = until::serial(&mut machine, &trial).await?;
    ensure!(line.contains("2 more starts are left"), "the power cuts cost tries: {line}");
    report.line(format!("check: three power cuts on trial cost no try: yes ({line})"));
    Ok(machine)
}

/// The cable is out for longer than the version has to become healthy; put in again, it does.
async fn pulled_cable_on_trial(world: &mut World, mut machine: Machine, report: &Report) -> Result<Machine> {
    let starts = machine.serial.count(STARTS);
    machine.cable(false).await?;
    let out = Duration::from_secs(DEADLINE + 30);
    let begin = Instant::now();
    while begin.elapsed() < out {
        world.check()?;
        machine.check()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ensure!(machine.serial.count("giving up on this version") == 0, "the pulled cable was held against the version");
    ensure!(machine.serial.count(COUNTS) == 0, "a version that has not reached its store counts");
    machine.cable(true).await?;
    until::serial(&mut machine, COUNTS).await?;
    ensure!(machine.serial.count(STARTS) == starts, "the machine was restarted");
    report.line(format!(
        "check: with the cable out for {} s the version stays on trial; with the cable it counts: yes",
        out.as_secs()
    ));
    Ok(machine)
}

/// Three quick power cuts of the version that counts, and it is the one that is started.
async fn pulled_plugs_of_the_good_version(
    plan: &Plan,
    world: &mut World,
    hardware: &Hardware,
    mut machine: Machine,
    report: &Report,
) -> Result<Machine> {
    for boot in 5..=7 {
        machine.pull_the_plug().await?;
        machine = Machine::switch_on(&world.root, hardware, &plan.run, boot)?;
        until::serial(&mut machine, STARTS).await?;
    }
    machine.pull_the_plug().await?;
    let since = time::OffsetDateTime::now_utc();
    machine = Machine::switch_on(&world.root, hardware, &plan.run, 8)?;
    until::serial(&mut machine, &format!("version {}", Variant::Next.name())).await?;
    let ready = until::line(world, &mut machine, at::MACHINE_MAC, "ready again", report, |line| {
        line.step == Step::Ready && line.status == StepStatus::Done && line.updated >= since
    });
    ready.await?;
    report.line("check: after three more power cuts the good version is the one that is started, and is ready: yes");
    Ok(machine)
}
