//! A Ceph storage machine: its disks become OSDs, an object on them outlives a power cut and a reinstall of the root, a disk
//! with somebody's data is left alone, and once revoked it is good for nothing.

use super::{blank_machine, member::start, until};
use crate::{
    journey::{DATA_DISK_GIB, Plan},
    process,
    report::Report,
    world::{
        World, addresses as at,
        firmware::NetworkBoot,
        foreign,
        machine::{self, Hardware, Machine},
        region::ceph::Ceph,
        slots,
    },
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::{claim, event::StepStatus, step::Step};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

const POOL: &str = "goods";
const OBJECT: &str = "price-list";

/// Runs the case.
///
/// # Errors
/// When data is lost, a foreign disk is touched, or a revoked machine gets anywhere.
pub async fn run(plan: &Plan, world: &mut World, report: &Report, result: &Report) -> Result<()> {
    let mut hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    let photos = somebodys_disk(plan, world)?;
    let before = foreign::checksum(&photos)?;
    hardware.more_disks.push(photos.clone());

    cut_off_while_it_joins(plan, world, &hardware, report).await?;
    let first = start(plan, world, &hardware, 2, None, report).await?;
    let osds = world.region.ceph()?.ask(&["osd", "stat"])?;
    ensure!(osds["num_osds"] == plan.shape.data_disks, "the OSD that was cut off is still known: {osds}");
    report
        .line("check: after a power cut while OSDs were made, each disk has one, and the cluster knows no other: yes");
    let joined = first.words_of(Step::Join)?;
    ensure!(joined.contains("named \"photos\" and is not prepared"), "the foreign disk is not named: {joined}");
    ensure!(foreign::checksum(&photos)? == before, "the foreign disk was written to");
    report.line(format!("check: a disk with somebody's data is named and left alone: yes ({joined})"));
    result.line(first.member.words.trim_end());

    let object = write_object(plan, world.region.ceph()?)?;
    report.line("ceph: an object is written, three copies");
    first.machine.pull_the_plug().await?;

    let second = start(plan, world, &hardware, 3, Some(&first.member.boot_id), report).await?;
    read_object(plan, world.region.ceph()?, &object).await?;
    report.line("check: after a power cut the object is read again: yes");
    second.machine.pull_the_plug().await?;

    // What a reinstall of the root that was cut off leaves behind, and IT's word that it is to be done.
    slots::unfinish_a(&world.root, &hardware.disk)?;
    let said = world.registrar.reopen(&world.root, at::NODE)?;
    report.line(format!("registrar machine reopen: {}", said.trim()));
    let third = start(plan, world, &hardware, 4, Some(&second.member.boot_id), report).await?;
    ensure!(
        third.words_of(Step::Partition)?.contains("is as it was"),
        "the root was not installed again, or without its state"
    );
    read_object(plan, world.region.ceph()?, &object).await?;
    ensure!(foreign::checksum(&photos)? == before, "the foreign disk was written to");
    report.line("check: after a reinstall of the root the OSDs are back, and the object is read again: yes");

    revoked(plan, world, third.machine, report).await?;
    stays_out(plan, world, &hardware, report).await?;
    world.check()
}

/// The plug is pulled when the second OSD has its number, and is not whole.
async fn cut_off_while_it_joins(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 1)?;
    let waiting = until::step(world, &mut machine, at::MACHINE_MAC, Step::Enroll, StepStatus::Waiting, report).await?;
    let code = waiting.message.split(' ').find_map(claim::normal).context("there is no claim code in its words")?;
    world.registrar.approve(&world.root, &code)?;
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Join, StepStatus::Started, report).await?;
    let begin = Instant::now();
    while world.region.ceph()?.ask(&["osd", "stat"])?["num_osds"].as_u64().is_none_or(|osds| osds < 2) {
        world.check()?;
        machine.check()?;
        ensure!(begin.elapsed() < Duration::from_secs(480), "no second OSD was registered");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    machine.pull_the_plug().await
}

fn somebodys_disk(plan: &Plan, world: &World) -> Result<std::path::PathBuf> {
    let image = plan.run.join("photos.raw");
    machine::blank_disk(&image, DATA_DISK_GIB)?;
    process::output(world.root.command("mkfs.ext4").args(["-q", "-F", "-L", "photos"]).arg(&image))
        .context("making somebody's disk")?;
    Ok(image)
}

/// Writes an object of random bytes from the store's LAN.
fn write_object(plan: &Plan, ceph: &Ceph) -> Result<Vec<u8>> {
    ceph.words(&["osd", "pool", "create", POOL, "8"])?;
    ceph.words(&["osd", "pool", "application", "enable", POOL, "shop"])?;
    let (bytes, file) = (random(1 << 20)?, plan.run.join("object"));
    fs::write(&file, &bytes).context("writing the object's file")?;
    process::output(rados(ceph).args(["--pool", POOL, "put", OBJECT]).arg(&file)).context("writing the object")?;
    Ok(bytes)
}

/// Reads it back; placement groups may still be on their way.
async fn read_object(plan: &Plan, ceph: &Ceph, wanted: &[u8]) -> Result<()> {
    let file = plan.run.join("object-read");
    let begin = Instant::now();
    while let Err(error) = process::output(rados(ceph).args(["--pool", POOL, "get", OBJECT]).arg(&file)) {
        ensure!(begin.elapsed() < Duration::from_secs(180), "the object cannot be read: {error:#}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ensure!(fs::read(&file).context("reading what came back")? == wanted, "the object came back different");
    Ok(())
}

fn rados(ceph: &Ceph) -> std::process::Command {
    let mut command = ceph.client("rados");
    // Objects whose OSDs are away are waited for without an end otherwise.
    command.args(["--rados-osd-op-timeout", "60", "--rados-mon-op-timeout", "60"]);
    command
}

fn random(bytes: usize) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut out = vec![0; bytes];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut out)).context("reading /dev/urandom")?;
    Ok(out)
}

/// What the machine was given does not work any more, what it had open is closed, and it cannot come back.
async fn revoked(plan: &Plan, world: &mut World, machine: Machine, report: &Report) -> Result<()> {
    let ceph = world.region.ceph()?;
    let entity = format!("client.shelfboot.{}", at::NODE);
    let keyring = plan.run.join("stolen.keyring");
    fs::write(&keyring, ceph.words(&["auth", "get", &entity])?).context("writing the machine's keyring")?;
    let osd_keyring = plan.run.join("stolen-osd.keyring");
    fs::write(&osd_keyring, ceph.words(&["auth", "get", "osd.0"])?).context("writing an OSD's keyring")?;
    for (name, keyring) in [(entity.as_str(), &keyring), ("osd.0", &osd_keyring)] {
        with_key(ceph, name, keyring).with_context(|| format!("{name} is refused before it is revoked"))?;
    }
    let said = world.registrar.revoke(world.region.root(&world.root), at::NODE)?;
    report.line(format!("registrar machine revoke: {}", said.trim().replace('\n', "; ")));
    let ceph = world.region.ceph()?;
    for (name, keyring) in [(entity.as_str(), &keyring), ("osd.0", &osd_keyring)] {
        match with_key(ceph, name, keyring) {
            Ok(said) => bail!("{name} still works after it was revoked: {said}"),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains("denied") || text.contains("ermission"), "refused, but not for that: {text}");
            }
        }
    }
    report.line("check: the monitors refuse the machine's key and its OSDs' keys: yes");
    let begin = Instant::now();
    while ceph.ask(&["osd", "stat"])?["num_up_osds"] != 0 {
        ensure!(
            begin.elapsed() < Duration::from_secs(120),
            "OSDs of a revoked machine stay up: {}",
            ceph.words(&["osd", "tree"])?
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    report.line("check: its OSDs are down: yes");
    machine.pull_the_plug().await?;
    Ok(())
}

fn with_key(ceph: &Ceph, name: &str, keyring: &Path) -> Result<String> {
    process::output(ceph.with_key(name, keyring).args(["mon", "dump"]))
}

/// The same machine again, after it was revoked.
async fn stays_out(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 5)?;
    let line = until::step(world, &mut machine, at::MACHINE_MAC, Step::Enroll, StepStatus::Failed, report).await?;
    ensure!(line.message.contains("was revoked"), "it is refused, but not for that: {}", line.message);
    report.line("check: started again, it is refused: yes");
    machine.pull_the_plug().await
}
