//! Machines that are started from a CD or a stick: installed from their store, or without any network.

use super::{blank_machine, member, until};
use crate::{
    journey::{DISK_GIB, Plan},
    report::Report,
    world::{
        World, addresses as at,
        firmware::{self, NetworkBoot},
        machine::{self, Drive, First, Hardware, Machine, Medium},
    },
};
use anyhow::{Context as _, Result, ensure};
use contracts::{event::StepStatus, status::MachineStatus, step::Step};
use std::path::Path;

const INSTALLED: &str = "starting the installed system";

/// Runs the case `iso-thin`.
///
/// # Errors
/// When a machine does not start from the medium, or does not arrive.
pub async fn thin(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let iso = plan.export("iso-thin")?;
    let mut hardware = blank_machine(plan, world, NetworkBoot::Pxe, report).await?;
    put_in(&mut hardware, Drive::Cd, &iso);
    let arrived = member::start(plan, world, &hardware, 1, None, report).await?;
    let chosen = arrived.words_of(Step::Plan)?;
    ensure!(chosen.contains("the only blank disk"), "the plan says: {chosen}");
    let status = status_of(world).await?;
    ensure!(status.boot_bytes == 0, "netboot handed out {} bytes of boot files", status.boot_bytes);
    ensure!(status.install_bytes > 0, "netboot handed out nothing of the image");
    arrived.machine.pull_the_plug().await?;
    report.line("check: started from a CD on UEFI, it installs what the store serves, and arrives: yes");

    world.store.lose_state(&world.root).await?;
    let mut bios = on_bios(plan, world, &hardware)?;
    put_in(&mut bios, Drive::Usb, &iso);
    let mut machine = Machine::switch_on(&world.root, &bios, &plan.run, 1)?;
    let chosen = until::step(world, &mut machine, at::MACHINE_MAC, Step::Plan, StepStatus::Done, report).await?;
    ensure!(chosen.message.contains("the only blank disk"), "the plan says: {}", chosen.message);
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Verify, StepStatus::Done, report).await?;
    ensure!(status_of(world).await?.boot_bytes == 0, "netboot handed out boot files");
    machine.pull_the_plug().await?;
    report.line("check: started from a stick on BIOS, it installs, and leaves the stick alone: yes");
    world.check()
}

/// Runs the case `iso-offline`.
///
/// # Errors
/// When a machine needs a network to be installed, or does not arrive when it has one.
pub async fn offline(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let iso = plan.export("iso-offline")?;
    let mut hardware = blank_machine(plan, world, NetworkBoot::Pxe, report).await?;
    put_in(&mut hardware, Drive::Usb, &iso);
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    machine.cable(false).await?;
    installed_alone(&mut machine, report).await?;
    until::serial(&mut machine, INSTALLED).await?;
    let waits = until::serial(&mut machine, "not a member yet").await?;
    ensure!(waits.contains("no-boot-service"), "it waits for something else: {waits}");
    let known = world.store.machine(at::MACHINE_MAC).await?;
    ensure!(known.is_none(), "netboot has heard of it: {known:?}");
    report.line("check: a stick installs on UEFI without any network, the system starts from the disk and waits: yes");

    machine.cable(true).await?;
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Ready, StepStatus::Done, report).await?;
    let status = status_of(world).await?;
    for step in [Step::Network, Step::Assign, Step::Plan, Step::Partition, Step::Install, Step::Verify] {
        let line = status.steps.iter().find(|line| line.step == step);
        let line = line.with_context(|| format!("netboot was not told of {step}"))?;
        ensure!(line.status == StepStatus::Done, "{step} is {:?}", line.status);
    }
    ensure!((status.boot_bytes, status.install_bytes) == (0, 0), "netboot handed something out: {status:?}");
    machine.pull_the_plug().await?;
    report.line("check: once the cable is in, it arrives, and its store hears how it was installed: yes");

    let mut bios = on_bios(plan, world, &hardware)?;
    put_in(&mut bios, Drive::Cd, &iso);
    let mut machine = Machine::switch_on(&world.root, &bios, &plan.run, 1)?;
    machine.cable(false).await?;
    installed_alone(&mut machine, report).await?;
    // SeaBIOS starts the CD again.
    until::serial(&mut machine, "Take the medium out").await?;
    machine.pull_the_plug().await?;
    bios.medium = None;
    bios.first = None;
    let mut machine = Machine::switch_on(&world.root, &bios, &plan.run, 2)?;
    machine.cable(false).await?;
    until::serial(&mut machine, INSTALLED).await?;
    machine.pull_the_plug().await?;
    report.line("check: a CD installs on BIOS without any network, asks to be taken out, and the disk starts: yes");
    world.check()
}

async fn installed_alone(machine: &mut Machine, report: &Report) -> Result<()> {
    for words in ["no network is needed", "the only blank disk", "[install] done", "[verify] done"] {
        let line = until::serial(machine, words).await?;
        report.line(format!("machine: {line}"));
        ensure!(machine.serial.first("FAILED").is_none(), "a step failed:\n{}", machine.serial.tail(10));
    }
    Ok(())
}

async fn status_of(world: &World) -> Result<MachineStatus> {
    world.store.machine(at::MACHINE_MAC).await?.context("netboot does not know the machine")
}

pub(super) fn put_in(hardware: &mut Hardware, drive: Drive, image: &Path) {
    hardware.medium = Some(Medium { drive, image: image.to_owned() });
    hardware.first = Some(First::Medium);
}

/// The same machine with another blank disk and a BIOS.
fn on_bios(plan: &Plan, world: &World, like: &Hardware) -> Result<Hardware> {
    let disk = plan.run.join("bios.raw");
    machine::blank_disk(&disk, DISK_GIB)?;
    Ok(Hardware {
        name: "bios".into(),
        disk,
        firmware: firmware::prepare(&world.root, plan, NetworkBoot::Bios, "bios")?,
        network_boot: NetworkBoot::Bios,
        ..like.clone()
    })
}
