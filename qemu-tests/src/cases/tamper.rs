//! What netboot serves is changed after netboot has loaded it: the install stops, says what it does not believe,
//! and nothing on the disk can start. What is on the disk is changed after the install: the machine stops and says so.

use super::{blank_machine, until};
use crate::{
    journey::Plan,
    materials::region::Materials,
    report::Report,
    world::{
        World, addresses as at,
        disk_look::DiskLook,
        firmware::NetworkBoot,
        machine::{Hardware, Machine},
    },
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::step::Step;
use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// Runs the case, in a repository of its own.
///
/// # Errors
/// When something was believed that must not be.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    let archive = &plan.image.manifest.archive;
    // A chunk near the beginning: the install does not get far.
    let place = archive.header_bytes + archive.bytes / 50;
    let chunk = Flipped::new(&plan.image.repository.join(&archive.path), place)?;
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;

    let message = until::failure(world, &mut machine, Step::Install, "chunk ", report).await?.message;
    ensure!(message.contains(&archive.path), "the file is not named: {message}");
    let console = until::serial(&mut machine, "[install] FAILED").await?;
    ensure!(console.contains("chunk "), "the console does not name the chunk: {console}");
    nothing_starts(world, &hardware.disk)?;
    report.line(format!("check: a flipped byte in a chunk stops the install: yes ({message})"));

    // The next try may have read the timestamp already; the chunk stops it once more then.
    let timestamp = Flipped::new(&plan.image.repository.join("metadata/timestamp.json"), 100)?;
    until::failure(world, &mut machine, Step::Install, "role timestamp", report).await?;
    chunk.put_back()?;
    nothing_starts(world, &hardware.disk)?;
    report.line("check: a flipped byte in the timestamp stops the install and is named: yes");

    timestamp.put_back()?;
    until::done_at_last(world, &mut machine, Step::Ready, report).await?;
    ensure!(DiskLook::at(&world.root, &hardware.disk)?.esp_has_boot_files, "a disk that starts has no boot file");
    machine.pull_the_plug().await?;
    report.line("check: put right, the same machine goes on by itself: yes");
    damaged_root(plan, world, &hardware, report).await?;
    world.check()
}

/// One flipped byte on the disk of an installed machine, in a program that starts late: the kernel stops the machine,
/// which starts again, finds the damage and tells the store.
async fn damaged_root(plan: &Plan, world: &mut World, hardware: &Hardware, report: &Report) -> Result<()> {
    let Materials::Kubernetes { programs, .. } = &plan.region else { bail!("this case damages a kubelet") };
    let place = find_program(&hardware.disk, &programs.join("kubelet"))?;
    Flipped::new(&hardware.disk, place)?;
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, 2)?;
    until::serial(&mut machine, "Kernel panic - not syncing: dm-verity device corrupted").await?;
    report.line("check: a flipped byte on the installed root stops the kernel: yes");
    let line = until::failure(world, &mut machine, Step::Verify, "does not match the root hash", report).await?;
    ensure!(line.code.as_deref() == Some("root-damaged"), "the code is {:?}", line.code);
    let page = until::page().await?;
    for words in ["The system on its disk is damaged.", "Call support.", ">root-damaged<"] {
        ensure!(page.contains(words), "the page does not say {words:?}: {page}");
    }
    let log = until::log(world, at::MACHINE_MAC, "root-damaged").await?;
    ensure!(log.end.message.contains("does not match"), "the log does not say why: {:?}", log.end);
    machine.pull_the_plug().await?;
    report.line(format!("check: the machine starts again and tells the store: yes ({})", line.message));
    Ok(())
}

/// Where on a disk a program begins. Files of an uncompressed EROFS lie in whole blocks.
fn find_program(disk: &Path, program: &Path) -> Result<u64> {
    const BLOCK: usize = 4096;
    let open = |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
    let mut wanted = [0; BLOCK];
    open(program)?.read_exact_at(&mut wanted, 0).context("reading the program")?;
    let disk = open(disk)?;
    let mut piece = vec![0; 256 * BLOCK];
    let mut at = 0;
    loop {
        let read = disk.read_at(&mut piece, at).context("reading the disk")?;
        ensure!(read > 0, "the program {} is not on the disk", program.display());
        if let Some(index) = piece[..read].chunks_exact(BLOCK).position(|block| block == wanted) {
            return Ok(at + (index * BLOCK) as u64);
        }
        at += read as u64;
    }
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
