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
    let cache = Cache::from_environment()?;
    let mirrors = mirror::mirrors().map_err(|error| {
        let hint = format!("set {} to the base URL of a Debian mirror", mirror::MIRROR_VARIABLE);
        coded(Code::Host, error.to_string(), hint)
    })?;
    let tree = NETBOOT_PEERS.make(&cache, &mirrors, report)?;
    let programs = programs::make(&cache, checkout, report)?;
    let identity = image::identity(&cache, &programs, report)?;
    let target = cache.folder("programs")?;
    // The program as it is handed out: what is promised is promised of that.
    let netboot = build(checkout, &target, "netboot", "dist", report)?;
    let load = build(checkout, &target, "netboot-load", "release", report)?;
    let program_bytes = fs::metadata(&netboot).context("looking at netboot")?.len();
    let plan = Plan {
        run: cache.run_folder("bench-netboot", KEEP_RUNS)?,
        cache: cache.root().to_owned(),
        tree: tree.path,
        netboot,
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
        bail!("the measuring ended with {status}; everything about it is in {}", plan.run.display());
    }
    let text = fs::read(plan.run.join("figures.json")).context("reading the figures")?;
    let figures = serde_json::from_slice(&text).context("reading the figures")?;
    fs::remove_dir_all(&plan.run).with_context(|| format!("removing {}", plan.run.display()))?;
    Ok(Outcome { figures, program_bytes })
}

fn build(checkout: &Path, target: &Path, package: &str, profile: &str, report: &Report) -> Result<PathBuf> {
    report.line(format!("{package}: cargo build --profile {profile}"));
    let status = programs::static_build(checkout, profile)
        .args(["--package", package])
        .env("CARGO_TARGET_DIR", target)
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(target.join(programs::TARGET).join(profile).join(package))
}
