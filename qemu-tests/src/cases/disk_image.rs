//! Disks that were written as images: the system on them starts without an installer, takes the whole disk, and arrives. And the
//! artifact for registries, read by another program than ours.

use super::{blank_machine, member, until};
use crate::{
    journey::{DISK_GIB, Plan},
    process,
    report::Report,
    world::{
        World,
        firmware::{self, NetworkBoot},
        machine::{First, Hardware, Machine},
    },
};
use anyhow::{Context as _, Result, ensure};
use contracts::layout::{self, Role};
use serde_json::Value;
use std::path::Path;

const FIRST_START: &str = "first start from a disk image";
const INSTALLED: &str = "starting the installed system";
const INSTALLER: &str = "[network] ...";

/// Runs the case.
///
/// # Errors
/// When a disk does not start, or the artifact is not what it should be.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    artifact(plan, world, &plan.export("oci")?)?;
    report.line("check: skopeo copies the OCI artifact, and by its titles it is the repository again: yes");

    let mut hardware = blank_machine(plan, world, NetworkBoot::Pxe, report).await?;
    hardware.disk = plan.export("qcow2")?;
    hardware.first = Some(First::Disk);
    process::output(
        world.root.command("qemu-img").args(["resize", "-q"]).arg(&hardware.disk).arg(format!("{DISK_GIB}G")),
    )?;
    let arrived = member::start(plan, world, &hardware, 1, None, report).await?;
    ensure!(arrived.machine.serial.first(FIRST_START).is_some(), "it did not notice that this was its first start");
    ensure!(arrived.machine.serial.first(INSTALLER).is_none(), "the installer ran");
    let boot_id = arrived.member.boot_id.clone();
    arrived.machine.pull_the_plug().await?;
    whole_disk(plan, world, &hardware.disk)?;
    report.line("check: a qcow2 on a larger disk starts, takes the whole disk, and arrives: yes");

    let again = member::start(plan, world, &hardware, 2, Some(&boot_id), report).await?;
    ensure!(again.machine.serial.first(FIRST_START).is_none(), "it made its state a second time");
    again.machine.pull_the_plug().await?;
    report.line("check: its second start is like any other: yes");

    // The region knows this machine by the key that the first disk made; these two get as far as asking it.
    let mut raw = hardware.clone();
    raw.disk = plan.export("raw")?;
    raw.throw_away = true;
    raw.network_boot = NetworkBoot::Bios;
    raw.firmware = firmware::prepare(&world.root, plan, NetworkBoot::Bios, "raw")?;
    starts(plan, world, &Hardware { name: "raw".into(), ..raw }).await?;
    report.line("check: the raw disk starts on BIOS and asks to be admitted: yes");

    let mut vmdk = hardware.clone();
    vmdk.disk = plan.export("vmdk")?;
    vmdk.throw_away = true;
    vmdk.firmware = firmware::prepare(&world.root, plan, NetworkBoot::Pxe, "vmdk")?;
    starts(plan, world, &Hardware { name: "vmdk".into(), ..vmdk }).await?;
    report.line("check: the VMDK starts on UEFI and asks to be admitted: yes");
    world.check()
}

async fn starts(plan: &Plan, world: &World, hardware: &Hardware) -> Result<()> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 1)?;
    for words in [INSTALLED, FIRST_START, "[enroll] ..."] {
        until::serial(&mut machine, words).await?;
    }
    machine.pull_the_plug().await
}

/// The table reaches to the disk's end and is sound, and the state has no mark any more.
fn whole_disk(plan: &Plan, world: &World, image: &Path) -> Result<()> {
    let raw = plan.run.join("looked-at.raw");
    process::output(world.root.command("qemu-img").args(["convert", "-O", "raw"]).arg(image).arg(&raw))?;
    let table = process::output(world.root.command("sfdisk").arg("--json").arg(&raw)).context("reading the table")?;
    let verified = process::output(world.root.command("sfdisk").arg("--verify").arg(&raw)).context("verifying it")?;
    ensure!(verified.contains("No errors detected"), "sfdisk says: {verified}");
    let table: Value = serde_json::from_str(&table).context("reading the table")?;
    let found = &table["partitiontable"]["partitions"][Role::State.number() as usize - 1];
    let wanted = layout::place(DISK_GIB << 30, 512).context("the disk is too small")?;
    let wanted = wanted.iter().find(|p| p.role == Role::State).context("no state")?;
    ensure!(found["name"] == "shelfboot-state", "the state is called {}", found["name"]);
    let place = (found["start"].as_u64(), found["size"].as_u64());
    ensure!(place == (Some(wanted.first), Some(wanted.last + 1 - wanted.first)), "the state lies at {place:?}");
    std::fs::remove_file(&raw).context("removing the copy")
}

/// skopeo checks every digest on the way; what arrives has to be the repository's files, by their titles.
fn artifact(plan: &Plan, world: &World, layout: &Path) -> Result<()> {
    let copy = plan.run.join("artifact");
    let name = format!("{}-{}", plan.image.template, plan.image.manifest.image_version);
    let from = format!("oci:{}:{name}", layout.display());
    let mut skopeo = world.root.command("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet", &from]).arg(format!("dir:{}", copy.display()));
    process::output(&mut skopeo).context("copying the artifact")?;
    let raw =
        process::output(world.root.command("skopeo").args(["inspect", "--raw", &from])).context("inspecting it")?;
    let manifest: Value = serde_json::from_str(&raw).context("reading its manifest")?;
    ensure!(manifest["artifactType"] == "application/vnd.shelfboot.image.v1", "it is a {}", manifest["artifactType"]);
    let layers = manifest["layers"].as_array().context("it has no layers")?;
    let mut titles = Vec::new();
    for layer in layers {
        let title = layer["annotations"]["org.opencontainers.image.title"].as_str().context("a layer has no title")?;
        let digest =
            layer["digest"].as_str().and_then(|d| d.strip_prefix("sha256:")).context("a layer has no digest")?;
        let same = same_bytes(&copy.join(digest), &plan.image.repository.join(title))?;
        ensure!(same, "{title} is not the repository's");
        titles.push(title.to_owned());
    }
    for needed in ["metadata/timestamp.json", "metadata/1.root.json", plan.image.manifest.archive.path.as_str()] {
        ensure!(titles.iter().any(|title| title == needed), "the artifact has no {needed}: {titles:?}");
    }
    ensure!(titles.iter().any(|title| title.ends_with("/uki.efi")), "the artifact has no boot image: {titles:?}");
    std::fs::remove_dir_all(&copy).context("removing the copy")
}

fn same_bytes(one: &Path, two: &Path) -> Result<bool> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    Ok(read(one)? == read(two)?)
}
