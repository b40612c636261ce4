//! Machines that are not as they should be: two disks alike, large sectors, a cable that is out, a clock of another century, a disk
//! that fails, firmware that forgets or insists. Each row is a machine of its own; all have their turn, whatever became of
//! those before them.

use super::{blank_machine, odd_networks, until};
use crate::{
    journey::{DISK_GIB, Plan},
    process,
    report::Report,
    world::{
        World,
        disk_look::DiskLook,
        firmware::{self, NetworkBoot},
        foreign,
        machine::{First, Hardware, Machine, blank_disk},
        network,
        registrar::Selector,
    },
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::{event::StepStatus, step::Step};
use std::{path::Path, time::Duration};

/// The rows: names, also in the inventory, and MAC addresses.
pub const MACHINES: [(&str, Selector<'_>); 14] = [
    ("two-blank", Selector::Mac("52:54:00:77:02:01")),
    ("one-holds-data", Selector::Mac("52:54:00:77:02:02")),
    ("large-sectors", Selector::Mac("52:54:00:77:02:03")),
    ("no-link", Selector::Mac("52:54:00:77:02:04")),
    ("clock-1970", Selector::Mac("52:54:00:77:02:05")),
    ("clock-2038", Selector::Mac("52:54:00:77:02:06")),
    ("wan-down", Selector::Mac("52:54:00:77:02:07")),
    ("failing-disk", Selector::Mac("52:54:00:77:02:08")),
    ("full-disk", Selector::Mac("52:54:00:77:02:09")),
    ("network-first", Selector::Mac("52:54:00:77:02:0a")),
    ("forgotten-entries", Selector::Mac("52:54:00:77:02:0b")),
    ("static-address", Selector::Mac("52:54:00:77:02:0c")),
    ("vlan", Selector::Mac(odd_networks::VLAN_MAC)),
    ("bond", Selector::Mac(odd_networks::BOND_MACS[0])),
];

/// What firmware says on the serial line when it has a boot image and starts it.
const IMAGE_STARTS: &str = "BdsDxe: starting Boot";
/// How long the cable is out.
const NO_LINK: Duration = Duration::from_secs(120);
/// A sector of 512 bytes in the middle of what an install writes to the first slot, which begins after 1 GiB.
const BAD_SECTOR: u64 = (1200 << 20) / 512;
/// What a thinly provisioned disk has room for, in MiB.
const THIN_MIB: u64 = 256;

/// Runs the case.
///
/// # Errors
/// When a row is not as it should be; after all of them had their turn.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let usual = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    let (mut ran, mut wrong) = (0, Vec::new());
    for (name, selector) in MACHINES {
        if plan.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let Selector::Mac(mac) = selector else { bail!("{name} has no MAC address") };
        ran += 1;
        let hardware = Hardware {
            name: name.into(),
            mac: mac.into(),
            disk: plan.run.join(format!("{name}.raw")),
            firmware: firmware::prepare(&world.root, plan, usual.network_boot, name)?,
            ..usual.clone()
        };
        blank_disk(&hardware.disk, DISK_GIB)?;
        report.line(format!("machine: {name}"));
        match row(plan, world, hardware, report).await {
            Ok(words) => report.line(format!("check: {name}: {words}: yes")),
            Err(error) => {
                report.line(format!("check: {name}: NO: {error:#}"));
                wrong.push(name);
            }
        }
        world.check()?;
    }
    ensure!(ran > 0, "no row is called that");
    ensure!(wrong.is_empty(), "{} of {ran} machines did not do what they should: {}", wrong.len(), wrong.join(", "));
    Ok(())
}

/// One machine; returns what it has shown.
async fn row(plan: &Plan, world: &mut World, mut hardware: Hardware, report: &Report) -> Result<String> {
    match hardware.name.as_str() {
        "two-blank" => two_blank(plan, world, hardware, report).await,
        "one-holds-data" => one_holds_data(plan, world, hardware, report).await,
        "large-sectors" => {
            hardware.odd.large_sectors = true;
            arrives(plan, world, &hardware, report).await?;
            Ok("a disk with sectors of 4096 bytes is installed, and started from".into())
        }
        "no-link" => no_link(plan, world, &hardware, report).await,
        "clock-1970" | "clock-2038" => {
            let early = hardware.name.ends_with("1970");
            hardware.odd.clock = Some(if early { "1970-01-01T00:00:05" } else { "2038-02-01T00:00:00" });
            arrives(plan, world, &hardware, report).await?;
            Ok("a clock that is decades off is put right, and the machine arrives".into())
        }
        "wan-down" => wan_down(plan, world, &hardware, report).await,
        "failing-disk" => failing_disk(plan, world, hardware, report).await,
        "full-disk" => full_disk(plan, world, hardware, report).await,
        "network-first" => {
            hardware.first = Some(First::Network);
            arrives(plan, world, &hardware, report).await?;
            starts_from_disk(plan, world, &hardware, report).await?;
            Ok("firmware that always asks the network first installs once, and then starts from the disk".into())
        }
        "static-address" => odd_networks::static_address(plan, world, hardware, report).await,
        "vlan" => odd_networks::vlan(plan, world, hardware, report).await,
        "bond" => odd_networks::bond(plan, world, hardware, report).await,
        "forgotten-entries" => {
            arrives(plan, world, &hardware, report).await?;
            hardware.firmware = firmware::prepare(&world.root, plan, hardware.network_boot, "forgotten")?;
            starts_from_disk(plan, world, &hardware, report).await?;
            Ok("firmware that has forgotten its boot entries starts from the disk all the same".into())
        }
        other => bail!("{other} has no row"),
    }
}

/// From blank to Ready.
async fn arrives(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 1)?;
    until::step(world, &mut machine, &hardware.mac, Step::Ready, StepStatus::Done, report).await?;
    machine.pull_the_plug().await
}

/// Switched on once more, it is Ready again and has installed nothing.
async fn starts_from_disk(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 2)?;
    until::step(world, &mut machine, &hardware.mac, Step::Ready, StepStatus::Done, report).await?;
    ensure!(machine.serial.first("[partition]").is_none(), "the disk was divided again");
    machine.pull_the_plug().await
}

/// Equal blank disks do not stop an install: the first by PCI path gets the system, the other stays as it is.
async fn two_blank(plan: &Plan, world: &mut World, mut hardware: Hardware, report: &Report) -> Result<String> {
    let other = plan.run.join("two-blank-other.raw");
    blank_disk(&other, DISK_GIB)?;
    let before = foreign::checksum(&other)?;
    hardware.more_disks.push(other.clone());
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let mac = &hardware.mac;
    let chosen = until::step(world, &mut machine, mac, Step::Plan, StepStatus::Done, report).await?;
    ensure!(
        chosen.message.contains("DISK-two-blank) is the first of 2 blank disks"),
        "the plan says: {}",
        chosen.message
    );
    until::step(world, &mut machine, mac, Step::Verify, StepStatus::Done, report).await?;
    machine.pull_the_plug().await?;
    ensure!(foreign::checksum(&other)? == before, "the other disk was written to");
    Ok("of two blank disks alike the first by PCI path gets the system, the other is untouched".into())
}

/// Two disks alike, one of them with data: which one was meant cannot be known.
async fn one_holds_data(plan: &Plan, world: &mut World, mut hardware: Hardware, report: &Report) -> Result<String> {
    let folder = plan.run.join("one-holds-data");
    std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
    let disks = foreign::make_all(&world.root, &folder, DISK_GIB)?;
    let held = disks.first().context("there is no disk with data")?;
    hardware.more_disks.push(held.image.clone());
    let before = [foreign::checksum(&held.image)?, foreign::checksum(&hardware.disk)?];
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let line = until::failure(world, &mut machine, Step::Plan, "the same size as the blank disk", report).await?;
    ensure!(line.code.as_deref() == Some("foreign-data"), "the code is {:?}", line.code);
    ensure!(line.message.contains(held.words), "it does not say what is there: {}", line.message);
    machine.pull_the_plug().await?;
    let after = [foreign::checksum(&held.image)?, foreign::checksum(&hardware.disk)?];
    ensure!(before == after, "a disk was written to");
    Ok("two disks alike of which one holds data: refused, neither is touched".into())
}

/// The cable is out when the agent starts, and comes back after two minutes.
async fn no_link(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<String> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 1)?;
    until::serial(&mut machine, IMAGE_STARTS).await?;
    machine.cable(false).await?;
    let said = until::serial(&mut machine, "check the network cable").await?;
    report.line(format!("console: {said}"));
    tokio::time::sleep(NO_LINK).await;
    ensure!(machine.serial.first("[network] done").is_none(), "it found a network without a cable");
    machine.cable(true).await?;
    until::done_at_last(world, &mut machine, Step::Verify, report).await?;
    machine.pull_the_plug().await?;
    Ok("without a link for two minutes it says so, and goes on by itself".into())
}

/// The region is out of reach until the machine has started from its disk.
async fn wan_down(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<String> {
    wan(world, "down")?;
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 1)?;
    let installed = until::step(world, &mut machine, &hardware.mac, Step::Verify, StepStatus::Done, report).await;
    let waited = match installed {
        Ok(_) => until::serial(&mut machine, "not a member yet").await,
        Err(error) => Err(error),
    };
    // Whatever became of it: the next machine needs the region.
    wan(world, "up")?;
    report.line(format!("console: {}", waited?));
    until::done_at_last(world, &mut machine, Step::Ready, report).await?;
    machine.pull_the_plug().await?;
    Ok("without a region it installs, starts and waits; with it, it arrives".into())
}

fn wan(world: &World, state: &str) -> Result<()> {
    let mut command = world.root.command("ip");
    process::output(command.args(["-n", network::ROUTER, "link", "set", "wan0", state])).context("the WAN's link")?;
    Ok(())
}

/// One sector cannot be written. With another disk in its place the same machine is installed.
async fn failing_disk(plan: &Plan, world: &mut World, mut hardware: Hardware, report: &Report) -> Result<String> {
    let rules = plan.run.join("failing-disk.conf");
    // A rule for the event `none` counts from the start (QEMU, block/blkdebug.c).
    let text =
        format!("[inject-error]\nevent = \"none\"\niotype = \"write\"\nerrno = \"5\"\nsector = \"{BAD_SECTOR}\"\n");
    std::fs::write(&rules, text).with_context(|| format!("writing {}", rules.display()))?;
    hardware.odd.disk_faults = Some(rules);
    let said = disk_refused(plan, world, &hardware, &hardware.disk, report).await?;

    hardware.odd.disk_faults = None;
    hardware.disk = plan.run.join("failing-disk-other.raw");
    blank_disk(&hardware.disk, DISK_GIB)?;
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 2)?;
    until::step(world, &mut machine, &hardware.mac, Step::Verify, StepStatus::Done, report).await?;
    machine.pull_the_plug().await?;
    Ok(format!("a disk that fails in mid-write cannot start and is named ({said}); another one is installed"))
}

/// A disk that promises more than there is behind it: real storage that is full, under the disk.
async fn full_disk(plan: &Plan, world: &mut World, mut hardware: Hardware, report: &Report) -> Result<String> {
    let folder = plan.run.join("thin");
    std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut mount = world.root.command("mount");
    let room = format!("size={THIN_MIB}m");
    process::output(mount.args(["-t", "tmpfs", "-o", &room, "thin"]).arg(&folder)).context("mounting a small tmpfs")?;
    hardware.disk = folder.join("full-disk.raw");
    let mut make = world.root.command("truncate");
    process::output(make.arg(format!("--size={DISK_GIB}G")).arg(&hardware.disk)).context("making the disk")?;
    let before = plan.run.join("full-disk.raw");
    let outcome = disk_refused(plan, world, &hardware, &before, report).await;
    process::output(world.root.command("umount").arg("--lazy").arg(&folder)).context("taking the tmpfs away")?;
    Ok(format!("a disk that is full below what it promises is named ({})", outcome?))
}

/// The install fails with words about the disk, and what is on it cannot start.
async fn disk_refused(
    plan: &Plan,
    world: &mut World,
    hardware: &Hardware,
    look_at: &Path,
    report: &Report,
) -> Result<String> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 1)?;
    let line = until::failure(world, &mut machine, Step::Install, "Put in another disk", report).await?;
    ensure!(line.code.as_deref() == Some("disk-error"), "the code is {:?}", line.code);
    until::serial(&mut machine, "trying again in").await?;
    machine.pull_the_plug().await?;
    if hardware.disk == look_at {
        let look = DiskLook::at(&world.root, look_at)?;
        ensure!(look.root_a_in_progress && !look.esp_has_boot_files, "a disk that failed looks whole: {look:?}");
    }
    Ok(line.message)
}
