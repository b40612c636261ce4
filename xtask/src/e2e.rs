//! `cargo xtask e2e`.

use crate::{checkout, killed, output, setup};
use anyhow::{Context as _, Result};
use clap::Args;
use contracts::exit::Code;
use qemu_tests::{
    cases::{self, Story},
    hint::coded,
    journey::outside,
};
use std::path::{Path, PathBuf};

/// The hidden command that runs inside the world.
pub(crate) const INSIDE: &str = "inside";

/// Arguments of `e2e`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    /// The case to run.
    #[arg(value_name = "NAME", required_unless_present = "list")]
    name: Option<String>,
    /// List the cases.
    #[arg(long)]
    list: bool,
    /// Keep logs, disk and packet capture of a good run too.
    #[arg(long)]
    keep: bool,
    /// Of a case with many runs, only those whose name holds this, for example kea/uefi.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// For cases that leave something to chance: the same seed, the same chances.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write what was measured to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Install what the host lacks without asking.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        let results = output::results();
        cases::ALL.iter().for_each(|case| {
            let when = if case.core { "test" } else { "test --all" };
            results.line(format!("{:<12}  {when:<10}  {}", case.name, case.about));
        });
        results.line(format!("{:<12}  {:<10}  {}", killed::NAME, "test --all", killed::ABOUT));
        return Ok(());
    }
    if arguments.name.as_deref() == Some(killed::NAME) {
        return killed::run();
    }
    // A wrong name is found before anything is installed.
    find(arguments.name.as_deref().unwrap_or_default())?;
    setup::ensure(arguments.yes)?;
    let (json, only) = (arguments.json.clone(), arguments.only.clone());
    one(arguments.name.as_deref().unwrap_or_default(), arguments.keep, json, only, arguments.seed)
}

/// Runs one case.
pub(crate) fn case(name: &str) -> Result<()> {
    one(name, false, None, None, 1)
}

fn one(name: &str, keep: bool, json: Option<PathBuf>, only: Option<String>, seed: u64) -> Result<()> {
    let case = find(name)?;
    if let Story::Build(build) = case.story {
        let runtime = tokio::runtime::Builder::new_current_thread().build().context("starting a runtime")?;
        return runtime.block_on(build.run(checkout(), &output::progress()));
    }
    let wish = outside::Wish { case, template: case.template.into(), keep, json, only, seed, samples: 0 };
    outside::run(checkout(), &wish, INSIDE, &output::progress())
}

fn find(name: &str) -> Result<cases::Case> {
    let hint = "cargo xtask e2e --list shows all of them";
    cases::find(name).ok_or_else(|| coded(Code::Usage, format!("there is no case {name}"), hint))
}

/// Runs inside the world, with a runtime of its own.
pub(crate) fn inside(plan: &Path) -> Result<()> {
    // One provider in the whole process; rustls panics when two were possible and none was chosen.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(outside::run_inside(plan, &output::progress(), &output::results()))
}
