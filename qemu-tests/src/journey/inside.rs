//! The journey itself, inside the world.

use super::{
    DISK_GIB, Plan,
    follow::{self, Follower},
    record::{Bytes, NodeRecord, Record, step_times},
};
use crate::{
    hint::Hinted,
    report::Report,
    world::{
        World, addresses as at,
        firmware::NetworkBoot,
        machine::{Hardware, Machine},
        plain::SmallGuest,
        region::Member,
        store,
    },
};
use anyhow::{Context as _, Result, ensure};
use contracts::{
    claim,
    event::StepStatus,
    status::{MachineStatus, StepLine},
    step::Step,
};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// How long a start may take, in software emulation on a busy host.
const START_WITHIN: Duration = Duration::from_secs(15 * 60);

/// A finished journey.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub record: Record,
    /// The machine at the end, as its cluster shows it.
    pub member: Member,
    /// The till's MAC address.
    pub till_mac: String,
    /// What the machine's status was when the journey was over.
    pub machine: MachineStatus,
}

/// Runs the journey in a world.
///
/// # Errors
/// When the machine does not arrive, with the last lines of its serial log.
pub async fn run(plan: &Plan, boot: NetworkBoot, world: &mut World, report: &Report) -> Result<Outcome> {
    let small = SmallGuest::make(&world.root, &plan.image.uki, &plan.run.join("plain"))?;
    let accelerator = small.choose_accelerator(&world.root, &plan.cache, report).await?;
    let hardware = Hardware::blank(&world.root, plan, boot, accelerator)?;
    let till_mac = store::till_mac(&world.root)?;

    store::till_asks_for_an_address(&world.root).context("before the journey")?;
    report.line(format!(
        "machine: power on ({} MiB, blank disk of {DISK_GIB} GiB, {} for data, {accelerator:?})",
        plan.shape.memory_mib, plan.shape.data_disks
    ));
    let mut first = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let (node, total) = wait_until_ready(plan, world, &mut first, None, report).await?;
    let machine = settled_status(world).await?;
    let steps = step_times(&machine, first.started_at);
    let agent = first.serial.first("shelfboot:").context("the agent said nothing on the serial line")?.0;
    report.line(format!("machine: ready after {:.1} s; power off, power on", total.as_secs_f64()));
    first.pull_the_plug().await?;

    let mut second = Machine::switch_on(&world.root, &hardware, &plan.run, 2)?;
    let (again, installed) = wait_until_ready(plan, world, &mut second, Some(&node.boot_id), report).await?;
    store::till_asks_for_an_address(&world.root).context("after the journey")?;
    report.line(format!("machine: ready again after {:.1} s", installed.as_secs_f64()));
    second.pull_the_plug().await?;

    let archive = &plan.image.manifest.archive;
    report.line("plain: downloading the same bytes with wget and dd in a small guest");
    let path = format!("/repo/{}", archive.path);
    let plain = small.download_seconds(&world.root, accelerator, plan.shape.memory_mib, &path, archive.bytes).await?;
    world.store.stop_capture();

    let record = Record {
        steps,
        total_seconds: total.as_secs_f64(),
        installed_boot_seconds: installed.as_secs_f64(),
        node: NodeRecord {
            name: at::NODE.into(),
            ready: again.ready,
            boot_ids: vec![node.boot_id, again.boot_id.clone()],
        },
        bytes: Bytes { boot: machine.boot_bytes, install: machine.install_bytes },
        guest_memory_mib: plan.shape.memory_mib,
        region_seconds: world.region_seconds,
        plain_seconds: agent.as_secs_f64() + plain,
    };
    Ok(Outcome { record, member: again, till_mac, machine })
}

/// Waits until the cluster calls the machine ready in a boot that is not `before`. Where a person has to admit it, this
/// approves by itself, and says so.
///
/// # Errors
/// When it does not arrive, with the end of its serial line.
pub(crate) async fn wait_until_ready(
    plan: &Plan,
    world: &mut World,
    machine: &mut Machine,
    before: Option<&str>,
    report: &Report,
) -> Result<(Member, Duration)> {
    let mut follower = Follower::new(report.clone(), machine.started, machine.started_at);
    let mut last_reason = String::new();
    let mut approved = None;
    let problem = loop {
        let passed = async {
            world.check()?;
            machine.check()?;
            if let Some(status) = world.store.machine(at::MACHINE_MAC).await? {
                follower.tell(&status, Instant::now());
                if let Some(code) = claim_code(&status, machine.started_at).filter(|_| plan.person)
                    && approved.as_ref() != Some(&code)
                {
                    let said = world.registrar.approve(&world.root, &code)?;
                    let word = "approved without asking anybody, in place of a person in the region";
                    report.line(format!("registrar machine approve --code {code}: {word}: {}", said.trim()));
                    approved = Some(code);
                }
                if let Some(failure) = follow::failure(&status, machine.started_at) {
                    anyhow::bail!(failure);
                }
            }
            world.region.member(at::NODE).await
        };
        match passed.await {
            Ok(Some(node)) if before != Some(&node.boot_id) => {
                if node.ready {
                    return Ok((node, machine.started.elapsed()));
                }
                last_reason = node.reason;
            }
            Ok(_) => {}
            Err(error) => break error,
        }
        if machine.started.elapsed() > START_WITHIN {
            break anyhow::anyhow!("not ready after {} minutes. {last_reason}", START_WITHIN.as_secs() / 60);
        }
        tokio::time::sleep(world.region.ask_every()).await;
    };
    let serial = machine.serial.tail(25);
    let log = machine.serial.log().display();
    let message = format!("the machine did not arrive; the end of its serial line ({log}):\n{serial}");
    let hint = "the serial log, netboot.log and registrar.log are in the run folder".into();
    Err(problem.context(Hinted { message, hint }))
}

/// The code under which the machine waits for a person, since it was switched on.
fn claim_code(status: &MachineStatus, power_on: OffsetDateTime) -> Option<String> {
    let waits = |line: &&StepLine| {
        let enrolls = line.step == Step::Enroll && line.status == StepStatus::Waiting && line.updated >= power_on;
        enrolls && line.code.as_deref() == Some("claim")
    };
    status.steps.iter().find(waits)?.message.split(' ').find_map(claim::normal)
}

/// netboot's status once the step `ready` has reached it too: the cluster knows a moment earlier.
pub(crate) async fn settled_status(world: &mut World) -> Result<MachineStatus> {
    let begin = Instant::now();
    loop {
        let status = world.store.machine(at::MACHINE_MAC).await?.context("netboot does not know the machine")?;
        if status.steps.iter().any(|s| s.step == Step::Ready && s.status == StepStatus::Done) {
            return Ok(status);
        }
        ensure!(
            begin.elapsed() < Duration::from_secs(60),
            "the cluster says that the node is ready, but the step `ready` did not reach netboot within a minute"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
