//! The store page in a real Chromium: netboot's test of it, with the browser's tree made first.

use crate::{checkout, output, setup, test};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use qemu_tests::{cache::Cache, materials::browser};
use std::path::{Path, PathBuf};

/// Arguments of `page`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder for the pictures.
    #[arg(long, value_name = "DIR", default_value = "target/store-page")]
    out: PathBuf,
    /// Install what the host lacks without asking.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(arguments.yes)?;
    let count = pictures(&arguments.out)?;
    if count.failed > 0 {
        bail!("the store page is not as it should be");
    }
    output::progress().line(format!("the pictures are in {}", arguments.out.display()));
    Ok(())
}

/// Runs the test, with its pictures below the build folder.
pub(crate) fn check() -> Result<test::Count> {
    pictures(Path::new("target/store-page"))
}

fn pictures(folder: &Path) -> Result<test::Count> {
    let tree = browser::make(&Cache::from_environment()?, &output::progress())?;
    let folder = std::path::absolute(checkout().join(folder)).context("naming the folder for the pictures")?;
    let variables = [("SHELFBOOT_BROWSER_TREE", tree), ("SHELFBOOT_SCREENSHOTS", folder)]
        .map(|(k, v)| (k, v.display().to_string()));
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let package = ["test", "--package", "netboot", "--test", "it", "--locked"];
    let arguments = [&package[..], &["--", "--ignored", "--exact", "page::in_a_real_browser"]].concat();
    test::counted(&arguments, &variables)
}
