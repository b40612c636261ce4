//! `cargo xtask bench install`: the install engine beside curl, zstd and dd, in one guest; and a whole installer for its memory.

use super::{blank_machine, until};
use crate::{
    journey::Plan,
    process,
    report::Report,
    world::{
        World, addresses as at,
        firmware::NetworkBoot,
        install_guest::{self, Setup},
        machine::Machine,
        plain::SmallGuest,
    },
};
use anyhow::{Context as _, Result};
use contracts::{event::StepStatus, step::Step};
use serde::{Deserialize, Serialize};
use std::fs;

/// What was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Ours and `curl | zstd -d | dd`, in seconds.
    pub packed: Vec<(f64, f64)>,
    /// Ours and `curl | dd`, in seconds.
    pub plain: Vec<(f64, f64)>,
    /// Our check and `veritysetup verify`, in seconds.
    pub verify: Vec<(f64, f64)>,
    /// The most memory of the engine alone, in MiB, and of the whole installer as PID 1.
    pub memory: Vec<(f64, f64)>,
    /// The boot image, in MB.
    pub boot_image: f64,
}

/// Runs the case.
///
/// # Errors
/// When something does not come to its end.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let hardware = blank_machine(plan, world, NetworkBoot::Pxe, report).await?;
    report.line("install: a whole installer, for its memory");
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    until::step(world, &mut machine, at::MACHINE_MAC, Step::Verify, StepStatus::Done, report).await?;
    let line = until::serial(&mut machine, "MiB of memory were used").await?;
    machine.pull_the_plug().await?;
    let whole: f64 = line.split_whitespace().find_map(|word| word.parse().ok()).context("no number of MiB")?;

    report.line("install: the image as it is, and packed with zstd");
    let folder = plan.run.join("bench");
    let served = plan.image.repository.join("bench");
    fs::create_dir_all(&folder).and_then(|()| fs::create_dir_all(&served)).context("making a folder")?;
    let manifest = folder.join("manifest.json");
    fs::write(&manifest, serde_json::to_vec(&plan.image.manifest)?).context("writing the manifest")?;
    let agent = plan.netboot.with_file_name("firstboot-agent");
    let [data, tree, raw] = [folder.join("data"), folder.join("tree"), served.join("raw")];
    for part in [&data, &tree] {
        fs::write(part, []).context("making a file")?;
    }
    let mut write = world.root.command(&agent);
    write.args(["image", "write", "--from"]).arg(&plan.image.repository).arg("--manifest").arg(&manifest);
    process::output(write.arg("--data").arg(&data).arg("--tree").arg(&tree))?;
    let peers = world.root.another(plan.peers.as_deref().context("no tree of peers")?, &plan.run.join("peers"))?;
    // As the archive's chunks are packed (level 5), in one piece.
    let join = "cat \"$1\" \"$2\" > \"$3\" && zstd -q -5 \"$3\" -o \"$3.zst\"";
    process::output(peers.command("sh").args(["-ec", join, "sh"]).args([&data, &tree, &raw]))?;
    [&data, &tree].into_iter().try_for_each(fs::remove_file).context("removing a file")?;

    report.line(format!("install: {} rounds in a small guest", plan.samples));
    let small = SmallGuest::make(&world.root, &plan.image.uki, &plan.run.join("guest"))?;
    let setup = Setup {
        root: &world.root,
        peers: &peers,
        agent: &agent,
        manifest: &manifest,
        root_hash: &plan.image.manifest.root.root_hash,
        folder: &folder,
        memory_mib: plan.shape.memory_mib,
    };
    let rounds = install_guest::rounds(&setup, &small, hardware.accelerator, plan.samples).await?;
    let uki = fs::metadata(&plan.image.uki).context("measuring the boot image")?.len();
    let measured = Measured {
        packed: rounds.iter().map(|round| (round.ours, round.packed)).collect(),
        plain: rounds.iter().map(|round| (round.ours, round.plain)).collect(),
        verify: rounds.iter().map(|round| (round.verify, round.veritysetup)).collect(),
        memory: rounds.iter().map(|round| (whole, round.peak_memory as f64 / 1_048_576.0)).collect(),
        boot_image: uki as f64 / 1e6,
    };
    let text = serde_json::to_string_pretty(&measured).context("writing the report")?;
    fs::write(plan.run.join("report.json"), text + "\n").context("writing the report")
}
