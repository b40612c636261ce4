//! What is made on the host before, and the process that runs in the world.

use super::{Figure, Part, Plan};
use crate::{
    cache::Cache,
    hint::coded,
    host::mirror,
    materials::{image, netboot_peers::NETBOOT_PEERS, programs},
    report::Report,
    sandbox::{self, Apart, ThisProgram},
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::exit::Code;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

/// How many run folders are kept.
const KEEP_RUNS: usize = 5;

/// What came out.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was measured.
    pub figures: Vec<Figure>,
    /// The program's size in bytes.
    pub program_bytes: u64,
}

/// Measures. `inside` is the argument with which this program, started again, calls [`super::inside::run`].
///
/// # Errors
/// When something cannot be made, or a server or client fails.
pub fn run(checkout: &Path, parts: &[Part], samples: u8, inside: &str, report: &Report) -> Result<Outcome> {
    // The program as it is handed out: what is promised is promised of that.
    let target = Cache::from_environment()?.folder("programs")?;
    let netboot = build(checkout, &target, "netboot", "dist", report)?;
    let program_bytes = fs::metadata(&netboot).context("looking at netboot")?.len();
    let folder = world(checkout, Some(netboot), parts, samples, inside, report)?;
    let text = fs::read(folder.join("figures.json")).context("reading the figures")?;
    let figures = serde_json::from_slice(&text).context("reading the figures")?;
    fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(Outcome { figures, program_bytes })
}

/// Lets other people's TFTP clients fetch files. Gives how many checks passed.
///
/// # Errors
/// When something cannot be made, or a client does not get what it should.
pub fn interop(checkout: &Path, inside: &str, report: &Report) -> Result<u64> {
    let folder = world(checkout, None, &[Part::Interop], 1, inside, report)?;
    let text = fs::read_to_string(folder.join("passed")).context("reading the result")?;
    fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    text.parse().context("reading the result")
}

/// Makes what is missing, and runs the parts in a world of their own. Gives the run's folder.
fn world(
    checkout: &Path,
    netboot: Option<PathBuf>,
    parts: &[Part],
    samples: u8,
    inside: &str,
    report: &Report,
) -> Result<PathBuf> {
    let cache = Cache::from_environment()?;
    let mirrors = mirror::mirrors().map_err(|error| {
        let hint = format!("set {} to the base URL of a Debian mirror", mirror::MIRROR_VARIABLE);
        coded(Code::Host, error.to_string(), hint)
    })?;
    let tree = NETBOOT_PEERS.make(&cache, &mirrors, report)?;
    let programs = programs::make(&cache, checkout, report)?;
    let identity = image::identity(&cache, &programs, report)?;
    let load = build(checkout, &cache.folder("programs")?, "netboot-load", "release", report)?;
    let plan = Plan {
        run: cache.run_folder("netboot-peers", KEEP_RUNS)?,
        cache: cache.root().to_owned(),
        tree: tree.path,
        netboot: netboot.unwrap_or(programs.netboot),
        registrar: programs.registrar,
        registrar_state: identity.registrar_state,
        keys: identity.keys,
        load,
        samples,
        parts: parts.to_vec(),
    };
    let file = plan.run.join("plan.json");
    fs::write(&file, serde_json::to_string_pretty(&plan).context("writing the plan")?)
        .with_context(|| format!("writing {}", file.display()))?;
    let program = ThisProgram::open().context("finding this program")?;
    let status = sandbox::command(Apart::World, program.path().as_os_str())
        .arg(inside)
        .arg(&file)
        .stdin(Stdio::null())
        .status()
        .context("starting the world")?;
    if !status.success() {
        bail!("netboot beside other programs: {status}; everything about this run is in {}", plan.run.display());
    }
    Ok(plan.run)
}

fn build(checkout: &Path, target: &Path, package: &str, profile: &str, report: &Report) -> Result<PathBuf> {
    report.line(format!("{package}: cargo build --profile {profile}"));
    let status = programs::static_build(checkout, profile, programs::TARGET)
        .args(["--package", package])
        .env("CARGO_TARGET_DIR", target)
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(target.join(programs::TARGET).join(profile).join(package))
}
