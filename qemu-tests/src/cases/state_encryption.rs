//! State under encryption: the machine's TPM opens it at every start, another TPM does not, and nothing is wiped for that; the
//! recovery key opens it, which the registrar has. A machine without a TPM is refused, or goes on in the clear, as its template says.

use super::{blank_machine, member::start, slots::publish, until};
use crate::{
    journey::{DISK_GIB, Plan},
    materials::site::Variant,
    report::Report,
    world::{
        World, addresses as at,
        firmware::{self, NetworkBoot},
        machine::{Hardware, Machine, Odd, blank_disk},
        registrar::Selector,
        state_look::StateLook,
    },
};
use anyhow::{Context as _, Result, ensure};
use contracts::{
    event::StepStatus,
    state::{is_recovery_key, recovery_key},
    step::Step,
};

/// A second machine, without a TPM.
const PLAIN: &str = "52:54:00:77:03:02";
/// Names in the inventory, and MAC addresses.
pub const MACHINES: [(&str, Selector<'_>); 2] =
    [(at::NODE, Selector::Mac(at::MACHINE_MAC)), ("no-tpm", Selector::Mac(PLAIN))];

/// What stands in files of the state: the machine's key, and the record of its install.
const MARKERS: [&[u8]; 2] = [b"BEGIN PRIVATE KEY", b"\"image_version\""];
/// What the agent says when the TPM has opened the state.
const OPENED: &str = "the TPM has opened it";
/// The template that goes on in the clear has this channel's version.
const LENIENT: Variant = Variant::SealedWherePossible;

/// Runs the case.
///
/// # Errors
/// When state is readable that must not be, or not readable that must be.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let blank = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    with_its_tpm(plan, world, &blank, report).await?;
    without_a_tpm(plan, world, &blank, report).await?;
    world.check()
}

async fn with_its_tpm(plan: &Plan, world: &mut World, blank: &Hardware, report: &Report) -> Result<()> {
    let with = |name: &str| Odd { tpm: Some(plan.run.join(name)), ..Odd::default() };
    let hardware = Hardware { odd: with("tpm-1"), ..blank.clone() };
    let first = start(plan, world, &hardware, 1, None, report).await?;
    let words = first.words_of(Step::Partition)?;
    ensure!(words.contains("encrypted"), "the step partition does not say that the state is encrypted: {words}");
    let (mut machine, boot) = (first.machine, first.member.boot_id);
    until::serial(&mut machine, OPENED).await?;
    until::serial(&mut machine, "the registrar keeps the recovery key").await?;
    until::serial(&mut machine, "certificates, its state encrypted").await?;
    report.line("check: a blank machine with a TPM becomes a ready member, its state encrypted: yes");
    machine.pull_the_plug().await?;

    let look = StateLook::at(&world.root, &hardware.disk)?;
    ensure!(look.is_luks()?, "the state partition does not begin as LUKS2 does");
    let found = look.count(&MARKERS)?;
    ensure!(found.iter().all(|count| *count == 0), "the disk has what the state holds in the clear: {found:?}");
    report.line("check: the disk holds nothing of the state in the clear: yes");
    let shown = world.registrar.recovery_keys(&world.root, at::NODE)?;
    let key = shown["keys"][0]["key"].as_str().filter(|key| is_recovery_key(key)).context("there is no key in it")?;
    ensure!(look.opens_with(&world.root, key)?, "the registrar's recovery key does not open the state");
    ensure!(!look.opens_with(&world.root, &recovery_key(&[7; 32]))?, "any key opens the state");
    report.line("check: the registrar's recovery key opens it, and another one does not: yes");
    let log = std::fs::read_to_string(plan.run.join("machine-serial-1.log")).context("reading the serial log")?;
    ensure!(!log.contains(&key[..17]), "the key stands in the machine's log");

    let again = start(plan, world, &hardware, 2, Some(&boot), report).await?;
    let mut machine = again.machine;
    until::serial(&mut machine, OPENED).await?;
    machine.pull_the_plug().await?;
    report.line("check: after a pulled plug its TPM opens it again, and the machine is ready: yes");

    let before = look.checksum()?;
    let stranger = Hardware { odd: with("tpm-2"), ..hardware.clone() };
    let mut machine = Machine::switch_on(&world.root, &stranger, &plan.run, 3)?;
    let line = until::line(world, &mut machine, at::MACHINE_MAC, "the word that the state is locked", report, |line| {
        line.step == Step::Restart && line.code.as_deref() == Some("state-locked")
    });
    let line = line.await?;
    ensure!(line.message.contains("recovery key"), "it does not say what to do: {}", line.message);
    machine.pull_the_plug().await?;
    ensure!(look.checksum()? == before, "the state was written to");
    report.line(format!(
        "check: another TPM does not open it, nothing is wiped, and the store knows why: yes ({})",
        line.message
    ));
    Ok(())
}

async fn without_a_tpm(plan: &Plan, world: &mut World, blank: &Hardware, report: &Report) -> Result<()> {
    let hardware = Hardware {
        name: "no-tpm".into(),
        mac: PLAIN.into(),
        disk: plan.run.join("no-tpm.raw"),
        firmware: firmware::prepare(&world.root, plan, NetworkBoot::Http, "no-tpm")?,
        ..blank.clone()
    };
    blank_disk(&hardware.disk, DISK_GIB)?;
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let refused = until::step(world, &mut machine, PLAIN, Step::Plan, StepStatus::Failed, report).await?;
    ensure!(refused.code.as_deref() == Some("no-tpm"), "the code is {:?}", refused.code);
    report.line(format!("check: a machine without a TPM is refused: yes ({})", refused.message));

    publish(plan, LENIENT, report)?;
    until::done_at_last(world, &mut machine, Step::Verify, report).await?;
    machine.pull_the_plug().await?;
    let look = StateLook::at(&world.root, &hardware.disk)?;
    ensure!(!look.is_luks()?, "its state is encrypted");
    let found = look.count(&MARKERS)?;
    // The same look finds what it looks for where nothing is encrypted.
    ensure!(found[1] > 0, "the record of the install is not found in the clear");
    report.line(
        "check: with a template that allows it, it goes on in the clear, and the look at the disk sees that: yes",
    );
    Ok(())
}
