//! One image on two partitions, without the journey around it: what the installer does, as commands. For measurements, and for whoever
//! wants to know what is on a slot.

use crate::{
    disk::{
        layout::{self, Role},
        plan::{self, Identity},
        probe,
    },
    install::{
        archive::{self, Installed, Left, slot::Slot},
        source::Source,
    },
    net::client::Netboot,
    report::Reporter,
    verity,
};
use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use contracts::{
    facts::{Disk, DiskContent, Firmware, MachineFacts},
    manifest::ImageManifest,
};
use serde::Serialize;
use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Instant,
};
use url::Url;
use uuid::Uuid;

/// Sectors of the disks that are looked at.
const SECTOR: u32 = 512;

/// What to do with an image.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write root and hash tree onto two partitions or files, from repositories in turn.
    ///
    /// What is there is overwritten without a question. A write that was cut off is taken up again when the second partition has a
    /// MiB behind the hash tree. The manifest is believed as it is: nobody's signature is asked for.
    Write {
        /// Base URL or folder of a repository; may be given several times, in the order of asking.
        #[arg(long, value_name = "URL|DIR", required = true)]
        from: Vec<String>,
        #[command(flatten)]
        slot: SlotArguments,
    },
    /// Hold root and hash tree against the root hash.
    Verify(SlotArguments),
    /// Say what an installer would make of a whole disk, or of a file with its content. Nothing is written.
    ///
    /// Which disk it would choose, what the install journal claims and how much of that is true, and what is to be fetched still.
    Look {
        /// The disk.
        #[arg(long, value_name = "PATH")]
        disk: PathBuf,
        /// Base URL or folder of a repository that has the image.
        #[arg(long, value_name = "URL|DIR", required = true)]
        from: Vec<String>,
        /// The image's manifest.json.
        #[arg(long, value_name = "FILE")]
        manifest: PathBuf,
        /// Hold slot A against the root hash too.
        #[arg(long)]
        verify: bool,
    },
}

/// An image, and where it is or is to be.
#[derive(Debug, Args)]
pub struct SlotArguments {
    /// The image's manifest.json.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The root's partition.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The hash tree's partition.
    #[arg(long, value_name = "PATH")]
    tree: PathBuf,
}

/// What it came to.
#[derive(Debug, Serialize)]
struct Outcome {
    /// What it took.
    seconds: f64,
    /// Root and hash tree.
    bytes: u64,
    /// Of them, what was there already.
    found: u64,
    /// What came from repositories.
    fetched: u64,
    /// The most memory that this process held, in bytes.
    peak_memory: u64,
}

/// What an installer would make of a disk.
#[derive(Debug, Serialize)]
struct Looked {
    /// What is on it.
    content: DiskContent,
    /// The refusal's code; `None` when it would be installed.
    refusal: Option<&'static str>,
    /// Why it would be chosen or refused.
    words: String,
    /// What a cut-off install left.
    left: Left,
    /// Whether slot A is what the root hash says; `None` when nobody asked.
    verified: Option<bool>,
}

/// Runs a command, and returns its outcome as JSON.
///
/// # Errors
/// What went wrong.
pub fn run(command: &Command) -> Result<String> {
    let (outcome, begin) = match command {
        Command::Look { disk, from, manifest, verify } => {
            let looked = look(disk, from, manifest, *verify)?;
            return serde_json::to_string(&looked).context("writing what was seen");
        }
        Command::Write { from, slot } => {
            let begin = Instant::now();
            (write(from, slot)?, begin)
        }
        Command::Verify(slot) => {
            let begin = Instant::now();
            (verify(slot)?, begin)
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    let peak_memory = peak_memory().context("reading how much memory was used")?;
    let Installed { bytes, found, fetched } = outcome;
    serde_json::to_string(&Outcome { seconds, bytes, found, fetched, peak_memory }).context("writing the outcome")
}

fn look(disk: &Path, from: &[String], path: &Path, check: bool) -> Result<Looked> {
    let manifest = manifest(path)?;
    let bytes = File::open(disk)
        .and_then(|mut file| file.seek(SeekFrom::End(0)))
        .with_context(|| format!("opening {}", disk.display()))?;
    let content = probe::examine(disk, SECTOR).content;
    let fact = Disk { kernel_name: "disk".into(), bytes, sector_bytes: SECTOR, content, ..Disk::default() };
    let facts = MachineFacts { firmware: Firmware::Uefi, disks: vec![fact], ..MachineFacts::default() };
    let me = Identity::new(None, &facts);
    let outcome = plan::choose(&facts.disks, &manifest.disks, facts.firmware, &me);
    let (refusal, words) = outcome.map_or_else(|no| (Some(no.code()), no.to_string()), |plan| (None, plan.why));

    let partitions = layout::place(bytes, SECTOR).context("the disk is too small for an install")?;
    let range = |role: Role| {
        let found = partitions.iter().find(|partition| partition.role == role);
        found.map_or(0..0, |found| found.first * u64::from(SECTOR)..(found.last + 1) * u64::from(SECTOR))
    };
    let root = &manifest.root;
    let slot = || Slot::inside(disk, [range(Role::RootA), range(Role::VerityA)], root.data_bytes, root.hash_bytes);
    let sources = sources(from)?;
    let left = runtime()?.block_on(archive::left_on(slot()?, &sources, &manifest))?;
    let slot = slot()?;
    let (data, tree) = slot.parts();
    let verified = check.then(|| verity::verify(data, tree, root.data_bytes, &root.root_hash, &|_| ()).is_ok());
    let [Disk { content, .. }] = facts.disks.try_into().map_err(|_| anyhow::anyhow!("there is one disk"))?;
    Ok(Looked { content, refusal, words, left, verified })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting a runtime")
}

fn write(from: &[String], slot: &SlotArguments) -> Result<Installed> {
    let manifest = manifest(&slot.manifest)?;
    let (sources, reporter) = (sources(from)?, Reporter::new(Uuid::new_v4()));
    runtime()?.block_on(archive::install(&reporter, &sources, &manifest, &slot.data, &slot.tree))
}

fn sources(from: &[String]) -> Result<Vec<Source>> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let http = Netboot::new("")?.http().clone();
    let source = |text: &String| {
        if text.contains("://") {
            let url = Url::parse(text).with_context(|| format!("{text} is no URL"))?;
            ensure!(url.scheme() == "http", "{text}: only http is spoken");
            return Ok(Source::mirror(http.clone(), &url));
        }
        let path = fs::canonicalize(text).with_context(|| format!("looking for the repository {text}"))?;
        Ok(Source::Folder(path))
    };
    from.iter().map(source).collect()
}

fn verify(slot: &SlotArguments) -> Result<Installed> {
    let root = manifest(&slot.manifest)?.root;
    let open = |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
    verity::verify(&open(&slot.data)?, &open(&slot.tree)?, root.data_bytes, &root.root_hash, &|_| ())?;
    let bytes = root.data_bytes + root.hash_bytes;
    Ok(Installed { bytes, found: bytes, fetched: 0 })
}

fn manifest(path: &Path) -> Result<ImageManifest> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    contracts::read(&bytes).with_context(|| format!("reading {}", path.display()))
}

/// The most memory that this process ever held, in bytes (proc_pid_status(5), `VmHWM`).
#[must_use]
pub fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_is_known() {
        assert!(super::peak_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
