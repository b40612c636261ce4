//! A power cut at any moment of an install: hundreds of disks as they may look then are judged, and some are started and go on.

use super::{blank_machine, until};
use crate::{
    journey::{DISK_GIB, Plan},
    power_cut::{
        cut::{self, Cut, Unflushed},
        disk::Replay,
        judge::{self, Looked, Phase, Seen, State},
        log::{self, Kind, Log},
    },
    process,
    report::Report,
    world::{
        World, addresses as at,
        firmware::{self, NetworkBoot},
        foreign,
        machine::{Hardware, Machine, blank_disk},
    },
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::{event::StepStatus, facts::DiskContent, layout::Role, manifest::ImageManifest, step::Step};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

/// How many power cuts are judged.
const JUDGED: usize = 300;
/// How many are started and go on to `verify`.
const STARTED: usize = 12;
/// How many of them go on to `Ready`.
const READY: usize = 4;
/// Runs that are under way while a flush begins are in no record: so many bytes of the image, at most.
const UNDER_WAY: u64 = 24 << 20;
/// Bytes of the journal at the end of the verity partition.
const JOURNAL: u64 = 1 << 20;

/// What was found.
#[derive(Debug, Serialize)]
struct Findings {
    seed: u64,
    seconds: f64,
    /// Entries of the log, and flushes among them.
    entries: usize,
    flushes: usize,
    states: Vec<Seen>,
    started: Vec<Started>,
}

/// One that was started.
#[derive(Debug, Serialize)]
struct Started {
    cut: Cut,
    phase: Phase,
    /// How far it got.
    reached: Step,
    /// Bytes of the image that netboot handed out, and the most that it should have been.
    fetched: u64,
    most: u64,
    seconds: f64,
}

/// Runs the case.
///
/// # Errors
/// When a promise is broken.
pub async fn run(plan: &Plan, world: &mut World, report: &Report, result: &Report) -> Result<()> {
    let begin = Instant::now();
    let mut hardware = blank_machine(plan, world, NetworkBoot::Pxe, report).await?;
    let writes = plan.run.join("writes.log");
    File::create(&writes).context("making the write log")?;
    hardware.writes = Some(writes.clone());
    let others = other_disk(world, plan)?;
    hardware.more_disks.push(others.clone());
    let untouched = foreign::checksum(&others)?;
    record(plan, world, &hardware, report).await?;

    let file = File::open(&writes).context("opening the write log")?;
    let log = log::read(file.metadata()?.len(), |at, into| file.read_exact_at(into, at))?;
    let flushes = log.entries.iter().filter(|entry| entry.flush).count();
    report.line(format!("log: {} entries, {flushes} flushes; seed {}", log.entries.len(), plan.seed));
    let judge = Judge::new(plan, world, &log, &writes)?;
    judge.is_true(&hardware.disk)?;
    std::fs::remove_file(&hardware.disk).context("removing the recorded disk")?;
    let states = judge.all(report)?;
    let mut findings =
        Findings { seed: plan.seed, seconds: 0.0, entries: log.entries.len(), flushes, states, started: vec![] };
    write(plan, &findings)?;
    result.line(table(&findings));

    let started = start_some(plan, world, &judge, &hardware, &mut findings, report).await;
    findings.seconds = begin.elapsed().as_secs_f64();
    write(plan, &findings)?;
    result.line(table(&findings));
    started?;
    ensure!(foreign::checksum(&others)? == untouched, "the other disk was written to");
    report.line("check: the other disk is as it was: yes");
    let broken: Vec<&Seen> = findings.states.iter().filter(|seen| !seen.problems.is_empty()).collect();
    if let Some(first) = broken.first() {
        bail!(
            "{} of {} power cuts break a promise; the first, {:?}: {}",
            broken.len(),
            findings.states.len(),
            first.cut,
            first.problems.join("; ")
        );
    }
    Ok(())
}

fn write(plan: &Plan, findings: &Findings) -> Result<()> {
    let text = serde_json::to_string_pretty(findings).context("writing the report")?;
    std::fs::write(plan.run.join("report.json"), text + "\n").context("writing the report")
}

/// A disk with somebody's data beside the blank one, of another size.
fn other_disk(world: &World, plan: &Plan) -> Result<PathBuf> {
    let path = plan.run.join("photos.raw");
    blank_disk(&path, 2)?;
    process::output(world.root.command("mkfs.ext4").args(["-q", "-F", "-L", "photos"]).arg(&path))?;
    Ok(path)
}

/// One install, with everything that reaches the disk noted.
async fn record(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 1)?;
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Verify, StepStatus::Done, report).await?;
    machine.pull_the_plug().await
}

/// Looks at disks.
struct Judge<'a> {
    plan: &'a Plan,
    world_root: crate::world::root::Root,
    log: &'a Log,
    writes: &'a Path,
    manifest: PathBuf,
    boot_image: String,
    disk_bytes: u64,
}

impl<'a> Judge<'a> {
    fn new(plan: &'a Plan, world: &World, log: &'a Log, writes: &'a Path) -> Result<Self> {
        let manifest = plan.run.join("manifest.json");
        std::fs::write(&manifest, serde_json::to_vec(&plan.image.manifest)?).context("writing the manifest")?;
        let boot_image = hex::encode(Sha256::digest(std::fs::read(&plan.image.uki).context("reading the boot image")?));
        let world_root = world.root.clone();
        Ok(Self { plan, world_root, log, writes, manifest, boot_image, disk_bytes: DISK_GIB << 30 })
    }

    fn range(&self, role: Role) -> std::ops::Range<u64> {
        judge::partition(self.disk_bytes, role)
    }

    fn replay(&self, name: &str) -> Result<Replay<'a>> {
        Replay::new(self.log, self.writes, &self.plan.run.join(name), self.disk_bytes)
    }

    /// The log, read and played back whole, makes the very disk that was written.
    fn is_true(&self, recorded: &Path) -> Result<()> {
        let whole = Cut { at: self.log.entries.len(), unflushed: Unflushed::Kept, seed: 0 };
        let mut replay = self.replay("replayed.raw")?;
        let same = replay.after(whole, |disk| Ok(foreign::checksum(disk)? == foreign::checksum(recorded)?))?;
        std::fs::remove_file(replay.path()).context("removing the replayed disk")?;
        ensure!(same, "the log does not make the disk that was written");
        Ok(())
    }

    /// Which bytes of the image an entry wrote.
    fn image_bytes(&self, index: usize) -> u64 {
        let entry = &self.log.entries[index];
        let root = &self.plan.image.manifest.root;
        let within = |role: Role, length: u64| {
            let begin = self.range(role).start;
            let overlap = (entry.at + entry.bytes).min(begin + length).saturating_sub(entry.at.max(begin));
            if entry.kind == Kind::Write { overlap } else { 0 }
        };
        within(Role::RootA, root.data_bytes) + within(Role::VerityA, root.hash_bytes)
    }

    /// Of a moment: which part of the install it belongs to, the bytes of the image that were written, and those of them that were
    /// there before the flush that the newest record on the disk speaks of.
    fn place(&self, at: usize, sums: &[u64]) -> (Phase, u64, u64) {
        let written = sums[at];
        let phase = match written {
            0 => Phase::Partition,
            _ if sums[at] == sums[self.log.entries.len()] => Phase::Verify,
            _ => Phase::Install,
        };
        let end = self.range(Role::VerityA).end;
        let is_record = |index: &usize| {
            let entry = &self.log.entries[*index];
            entry.kind == Kind::Write && entry.at >= end - JOURNAL && entry.at + entry.bytes <= end
        };
        let record = (0..cut::durable(self.log, at)).rev().find(is_record);
        let flush = record.map_or(0, |record| cut::durable(self.log, record));
        (phase, written, sums[flush])
    }

    fn all(&self, report: &Report) -> Result<Vec<Seen>> {
        let mut sums = vec![0];
        for index in 0..self.log.entries.len() {
            sums.push(sums[index] + self.image_bytes(index));
        }
        let mut replay = self.replay("state.raw")?;
        let mut states = Vec::new();
        let cuts = cut::choose(self.log, JUDGED, self.plan.seed);
        for (number, cut) in cuts.iter().enumerate() {
            let seen = replay.after(*cut, |disk| self.one(*cut, disk, &sums))?;
            for problem in &seen.problems {
                report.line(format!("state {number}, {:?}: {problem}", seen.cut));
            }
            states.push(seen);
            if number % 50 == 49 {
                report.line(format!("judged {} of {} power cuts", number + 1, cuts.len()));
            }
        }
        std::fs::remove_file(replay.path()).context("removing the disk")?;
        Ok(states)
    }

    fn one(&self, cut: Cut, disk: &Path, sums: &[u64]) -> Result<Seen> {
        let mut looked = self.look(disk, false)?;
        let esp = judge::esp(disk, &self.range(Role::Esp), &self.boot_image);
        if esp.starts || matches!(looked.content, DiskContent::Installed { .. }) {
            looked = self.look(disk, true)?;
        }
        let (phase, written, promised) = self.place(cut.at, sums);
        let mut seen = Seen {
            cut,
            phase,
            esp,
            mbr_starts: judge::mbr_starts(disk)?,
            state: self.state(disk)?,
            again: written.saturating_sub(looked.left.found),
            most_again: written - promised + UNDER_WAY.min(promised),
            looked,
            problems: vec![],
        };
        seen.problems = judge::problems(&seen);
        Ok(seen)
    }

    fn look(&self, disk: &Path, verify: bool) -> Result<Looked> {
        let agent = self.plan.netboot.with_file_name("firstboot-agent");
        let mut command = self.world_root.command(agent);
        command.args(["image", "look", "--disk"]).arg(disk).arg("--manifest").arg(&self.manifest);
        command.arg("--from").arg(&self.plan.image.repository);
        if verify {
            command.arg("--verify");
        }
        let text = process::output(&mut command).context("the agent's look at a disk")?;
        serde_json::from_str(&text).context("the agent's look at a disk")
    }

    fn state(&self, disk: &Path) -> Result<State> {
        let range = self.range(Role::State);
        if !judge::has_our_label(disk, &range)? {
            return Ok(State::Nothing);
        }
        let mut command = self.world_root.command("debugfs");
        command.args(["-R", "ls /"]).arg(format!("{}?offset={}", disk.display(), range.start));
        let output = command.output().context("starting debugfs")?;
        // It ends well whatever it says; the root folder names itself.
        let opens = String::from_utf8_lossy(&output.stdout).contains("lost+found");
        Ok(if opens { State::Opens } else { State::Broken })
    }
}

/// Which are started: those with problems, the one that has most to fetch again, and some of every part of the install.
fn choose(states: &[Seen]) -> Vec<usize> {
    let mut chosen: Vec<usize> =
        (0..states.len()).filter(|index| !states[*index].problems.is_empty()).take(3).collect();
    chosen.extend((0..states.len()).max_by_key(|index| states[*index].again));
    let mut by_phase: BTreeMap<Phase, Vec<usize>> = BTreeMap::new();
    for (index, seen) in states.iter().enumerate() {
        by_phase.entry(seen.phase).or_default().push(index);
    }
    // From each part in turn, spread over it, until there are enough.
    for step in 0..STARTED {
        for places in by_phase.values() {
            let index = places[(step * 2 + 1) * places.len() / (2 * STARTED / 3).max(1) % places.len()];
            if chosen.len() < STARTED && !chosen.contains(&index) {
                chosen.push(index);
            }
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

async fn start_some(
    plan: &Plan,
    world: &mut World,
    judge: &Judge<'_>,
    hardware: &Hardware,
    findings: &mut Findings,
    report: &Report,
) -> Result<()> {
    let chosen = choose(&findings.states);
    let every = chosen.len().div_ceil(READY);
    let mut replay = judge.replay("started.raw")?;
    let mut ready = false;
    for (number, index) in chosen.iter().enumerate() {
        let seen = findings.states[*index].clone();
        let name = format!("cut-{}", number + 1);
        let disk = plan.run.join(format!("{name}.raw"));
        replay.after(seen.cut, |from| {
            let mut copy = judge.world_root.command("cp");
            process::output(copy.args(["--sparse=always"]).arg(from).arg(&disk)).map(|_| ())
        })?;
        // The last of each group goes all the way.
        let goal = if number % every == every - 1 || number + 1 == chosen.len() { Step::Ready } else { Step::Verify };
        report.line(format!("start {} of {}: {:?}, {:?}, to {goal}", number + 1, chosen.len(), seen.phase, seen.cut));
        if ready {
            world.registrar.reopen(&world.root, at::NODE)?;
        }
        let machine = Hardware {
            firmware: firmware::prepare(&world.root, plan, hardware.network_boot, &name)?,
            name,
            disk: disk.clone(),
            writes: None,
            ..hardware.clone()
        };
        let started = start(plan, world, &machine, &seen, goal, report).await;
        ready |= goal == Step::Ready;
        findings.started.push(started.with_context(|| format!("a disk after {:?}", seen.cut))?);
        std::fs::remove_file(&disk).context("removing a disk")?;
    }
    Ok(())
}

/// Switches a machine on with this disk, beside a store that knows nothing of it, and waits until it has gone on.
async fn start(
    plan: &Plan,
    world: &mut World,
    hardware: &Hardware,
    seen: &Seen,
    goal: Step,
    report: &Report,
) -> Result<Started> {
    world.store.lose_state(&world.root).await?;
    let begin = Instant::now();
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 2)?;
    let is_installed = matches!(seen.looked.content, DiskContent::Installed { .. });
    // A finished install has nothing to verify: it starts from its disk.
    let reached = if is_installed { Step::Ready } else { goal };
    until::step(world, &mut machine, at::MACHINE_MAC, reached, StepStatus::Done, report).await?;
    let status = world.store.machine(at::MACHINE_MAC).await?.context("netboot does not know the machine")?;
    machine.pull_the_plug().await?;
    let most =
        if is_installed { 0 } else { seen.looked.left.to_fetch + metadata(&plan.image.manifest, &plan.image.uki)? };
    let fetched = status.install_bytes;
    ensure!(fetched <= most, "netboot handed out {fetched} bytes of the image where {most} would have done");
    Ok(Started { cut: seen.cut, phase: seen.phase, reached, fetched, most, seconds: begin.elapsed().as_secs_f64() })
}

/// What every install asks for beside chunks: the archive's header, signed metadata, and the files for the EFI system partition.
fn metadata(manifest: &ImageManifest, uki: &Path) -> Result<u64> {
    let uki = std::fs::metadata(uki).context("measuring the boot image")?.len();
    Ok(manifest.archive.header_bytes + uki + (4 << 20))
}

fn table(findings: &Findings) -> String {
    let mut out = format!(
        "{} power cuts in a log of {} entries with {} flushes, seed {}\n{:<10} {:>6} {:>6} {:>7} {:>9} {:>11} {:>9}\n",
        findings.states.len(),
        findings.entries,
        findings.flushes,
        findings.seed,
        "part",
        "states",
        "starts",
        "whole",
        "refused",
        "again MiB",
        "problems"
    );
    for phase in [Phase::Partition, Phase::Install, Phase::Verify] {
        let of: Vec<&Seen> = findings.states.iter().filter(|seen| seen.phase == phase).collect();
        let count = |what: &dyn Fn(&Seen) -> bool| of.iter().filter(|seen| what(seen)).count();
        let again = of.iter().map(|seen| seen.again).max().unwrap_or(0) >> 20;
        let refused = |seen: &Seen| seen.looked.refusal.as_deref().is_some_and(|code| code != "already-installed");
        let _ = writeln!(
            out,
            "{:<10} {:>6} {:>6} {:>7} {:>9} {:>11} {:>9}",
            format!("{phase:?}").to_lowercase(),
            of.len(),
            count(&|seen| seen.esp.starts),
            count(&|seen| seen.looked.verified == Some(true)),
            count(&refused),
            again,
            count(&|seen| !seen.problems.is_empty()),
        );
    }
    if !findings.started.is_empty() {
        let _ = writeln!(
            out,
            "\n{:<10} {:>7} {:<8} {:<8} {:>12} {:>9} {:>8}",
            "part", "entry", "writes", "reached", "fetched MiB", "at most", "seconds"
        );
    }
    for started in &findings.started {
        let _ = writeln!(
            out,
            "{:<10} {:>7} {:<8} {:<8} {:>12.1} {:>9.1} {:>8.1}",
            format!("{:?}", started.phase).to_lowercase(),
            started.cut.at,
            format!("{:?}", started.cut.unflushed).to_lowercase(),
            started.reached.to_string(),
            started.fetched as f64 / 1_048_576.0,
            started.most as f64 / 1_048_576.0,
            started.seconds,
        );
    }
    out
}
