//! One boot image, the same bytes everywhere: whether it installs, goes to the disk, refuses or starts the installed system
//! follows from where it was started and what the disk holds.

use super::{blank_machine, until};
use crate::{
    journey::Plan,
    report::Report,
    world::{
        World, addresses as at,
        disk_look::DiskLook,
        firmware::{self, NetworkBoot},
        foreign,
        machine::{First, Hardware, Machine},
        slots,
    },
};
use anyhow::{Result, ensure};
use contracts::{event::StepStatus, step::Step};

/// What the agent says in the installer, and what it says when it starts the installed system instead.
const INSTALLER: &str = "[network] ...";
const INSTALLED: &str = "starting the installed system";
/// What it says in the installer when there is nothing to install.
const GOES_TO_DISK: &str = "the firmware starts from the disk next";

/// Runs the case.
///
/// # Errors
/// When a mode is not what it should be.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let mut hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;

    empty_disk(plan, world, &hardware, report).await?;
    half_install(plan, world, &hardware, report).await?;
    from_disk(plan, world, &hardware, report).await?;

    // From here on the firmware asks the network first, and netboot has forgotten everything: so it hands out the boot
    // image, and the agent has to see what is on the disk.
    hardware.first = Some(First::Network);
    whole_install(plan, world, &hardware, 4, report).await?;
    report.line("check: netbooted over a whole install, it goes to the disk: yes");
    other_machine(plan, world, &hardware, report).await?;
    slots::move_to_b(&world.root, &hardware.disk, &plan.image.manifest.root.root_hash)?;
    whole_install(plan, world, &hardware, 6, report).await?;
    report.line("check: with both slots on the disk, it goes there and starts its own, B: yes");
    world.check()
}

/// Netbooted over an empty disk, it installs. The plug is pulled on the way.
async fn empty_disk(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 1)?;
    let chosen = until::step(world, &mut machine, at::MACHINE_MAC, Step::Plan, StepStatus::Done, report).await?;
    ensure!(chosen.message.contains("the only blank disk"), "the plan says: {}", chosen.message);
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Install, StepStatus::Progress, report).await?;
    machine.pull_the_plug().await?;
    let look = DiskLook::at(&world.root, &hardware.disk)?;
    ensure!(look.root_a_in_progress && !look.esp_has_boot_files, "a half install looks whole: {look:?}");
    report.line("check: netbooted over an empty disk, it installs: yes");
    Ok(())
}

/// Netbooted over a half install, it installs again, and starts what it installed.
async fn half_install(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 2)?;
    let chosen = until::step(world, &mut machine, at::MACHINE_MAC, Step::Plan, StepStatus::Done, report).await?;
    ensure!(chosen.message.contains("did not finish"), "the plan says: {}", chosen.message);
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Enroll, StepStatus::Done, report).await?;
    machine.pull_the_plug().await?;
    report.line("check: netbooted over a half install, it installs: yes");
    Ok(())
}

/// Started from the disk, it starts the installed system. The start before was cut off: it looks at the whole disk first.
async fn from_disk(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 3)?;
    until::serial(&mut machine, INSTALLED).await?;
    until::serial(&mut machine, "the disk holds exactly what was installed").await?;
    ensure!(machine.serial.first(INSTALLER).is_none(), "the installer ran");
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Ready, StepStatus::Done, report).await?;
    machine.pull_the_plug().await?;
    report.line("check: started from the disk, it starts the installed system: yes");
    Ok(())
}

/// Netbooted over a finished install of this machine, it goes to the disk, and the region knows it again.
async fn whole_install(plan: &Plan, world: &mut World, hardware: &Hardware, boot: u32, report: &Report) -> Result<()> {
    world.store.lose_state(&world.root).await?;
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, boot)?;
    until::serial(&mut machine, INSTALLER).await?;
    until::serial(&mut machine, GOES_TO_DISK).await?;
    until::serial(&mut machine, INSTALLED).await?;
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Ready, StepStatus::Done, report).await?;
    ensure!(machine.serial.first("[partition]").is_none(), "the disk was divided again");
    machine.pull_the_plug().await
}

/// Netbooted over the finished install of another machine, it refuses and writes nothing.
async fn other_machine(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    world.store.lose_state(&world.root).await?;
    let other = Hardware {
        name: "other".into(),
        mac: at::OTHER_MAC.into(),
        firmware: firmware::prepare(&world.root, plan, hardware.network_boot, "other")?,
        ..hardware.clone()
    };
    let before = foreign::checksum(&other.disk)?;
    let mut machine = Machine::switch_on(&world.root, &other, &plan.run, 5)?;
    let line = until::step(world, &mut machine, at::OTHER_MAC, Step::Plan, StepStatus::Failed, report).await?;
    ensure!(line.code.as_deref() == Some("foreign-data"), "the code is {:?}", line.code);
    ensure!(line.message.contains(at::MACHINE_MAC), "it does not say whose disk it is: {}", line.message);
    machine.pull_the_plug().await?;
    ensure!(foreign::checksum(&other.disk)? == before, "the other machine's disk was written to");
    report.line(format!(
        "check: netbooted over another machine's disk, it refuses and writes nothing: yes ({})",
        line.message
    ));
    Ok(())
}
