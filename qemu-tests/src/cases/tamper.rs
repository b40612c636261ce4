//! What netboot serves is changed after netboot has loaded it: the install stops, says what it does not believe,
//! and nothing on the disk can start.

use super::until;
use crate::{
    journey::{DISK_GIB, MEMORY_MIB, Plan},
    process,
    report::Report,
    world::{
        World, addresses as at,
        disk_look::DiskLook,
        firmware::{self, NetworkBoot},
        machine::{self, Hardware, Machine},
        network,
        plain::SmallGuest,
    },
};
use anyhow::{Context as _, Result, ensure};
use contracts::step::Step;
use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A copy of the repository that may be changed.
///
/// # Errors
/// When it cannot be copied.
pub fn own_repository(plan: &mut Plan) -> Result<()> {
    let copy = plan.run.join("repository");
    process::output(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&plan.image.repository).arg(&copy))?;
    plan.image.repository = copy;
    Ok(())
}

/// Runs the case. The repository is [`own_repository`].
///
/// # Errors
/// When something was believed that must not be.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let small = SmallGuest::make(&world.root, &plan.image.uki, &plan.run.join("plain"))?;
    let hardware = Hardware {
        name: "machine".into(),
        mac: at::MACHINE_MAC.into(),
        tap: network::MACHINE_TAP.into(),
        memory_mib: MEMORY_MIB,
        disk: plan.run.join("machine.raw"),
        more_disks: vec![],
        variables: firmware::fresh_variables(&plan.lab, &plan.run.join("machine-variables.fd"))?,
        network_boot: NetworkBoot::Http,
        accelerator: small.choose_accelerator(&world.root, &plan.cache, report).await?,
    };
    machine::blank_disk(&hardware.disk, DISK_GIB)?;
    let archive = &plan.image.manifest.archive;
    // A chunk near the beginning: the install does not get far.
    let place = archive.header_bytes + archive.bytes / 50;
    let chunk = Flipped::new(&plan.image.repository.join(&archive.path), place)?;
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;

    let message = until::failure(world, &mut machine, Step::Install, "chunk ", report).await?;
    ensure!(message.contains(&archive.path), "the file is not named: {message}");
    let console = until::serial(&mut machine, "[install] FAILED").await?;
    ensure!(console.contains("chunk "), "the console does not name the chunk: {console}");
    nothing_starts(world, &hardware.disk)?;
    report.line(format!("check: a flipped byte in a chunk stops the install: yes ({message})"));

    Flipped::new(&plan.image.repository.join("metadata/timestamp.json"), 100)?;
    chunk.put_back()?;
    until::failure(world, &mut machine, Step::Install, "role timestamp", report).await?;
    nothing_starts(world, &hardware.disk)?;
    report.line("check: a flipped byte in the timestamp stops the install and is named: yes");

    machine.pull_the_plug().await?;
    world.check()
}

/// Nothing on the disk can be started by firmware or boot loader.
fn nothing_starts(world: &World, disk: &Path) -> Result<()> {
    let look = DiskLook::at(&world.root, disk)?;
    ensure!(!look.esp_has_boot_files, "there is a boot file on the ESP");
    ensure!(look.root_a_in_progress, "the root's partition is not marked as in progress");
    Ok(())
}

/// A file with one byte changed, in place.
struct Flipped {
    path: PathBuf,
    at: u64,
}

impl Flipped {
    fn new(path: &Path, at: u64) -> Result<Self> {
        let flipped = Self { path: path.to_owned(), at };
        flipped.flip()?;
        Ok(flipped)
    }

    fn put_back(self) -> Result<()> {
        self.flip()
    }

    fn flip(&self) -> Result<()> {
        let file = File::options().read(true).write(true).open(&self.path);
        let file = file.with_context(|| format!("opening {}", self.path.display()))?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.at).context("reading the byte to flip")?;
        byte[0] ^= 1;
        file.write_all_at(&byte, self.at).context("flipping a byte")
    }
}
