//! Other people's programs that judge what ours made: Python packages, each pinned by its hash, in an environment of their own
//! in the cache; and TFTP clients from Debian.

use crate::{bench::INSIDE_NETBOOT, checkout, output, setup};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use contracts::exit::Code;
use qemu_tests::{
    cache::{Cache, Key},
    hint::coded,
    journey::outside,
    netboot_bench::outside as outside_netboot,
    process, sandbox,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Arguments of `peers`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Install what the host lacks without asking.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(arguments.yes)?;
    let passed = sbom()? + tftp()?;
    output::results().line(format!("{passed} passed, 0 failed"));
    Ok(())
}

/// Other people's TFTP clients against netboot.
pub(crate) fn tftp() -> Result<u64> {
    outside_netboot::interop(checkout(), INSIDE_NETBOOT, &output::progress())
}

/// The template whose image is looked at.
const TEMPLATE: &str = "k8s-worker";

/// Lists and provenance of a real image, held against the formats' own validators. Returns how many checks passed.
pub(crate) fn sbom() -> Result<u64> {
    let say = output::progress();
    let cache = Cache::from_environment()?;
    let python = environment(&cache, &checkout().join("xtask/peers/sbom.txt"))?;
    let image = outside::image(checkout(), &cache, TEMPLATE, &say)?;
    let mut command = sandbox::tied(python.as_os_str());
    command.arg("-I").arg(checkout().join("xtask/peers/sbom.py"));
    command.arg(&image.repository).args([TEMPLATE, &image.manifest.image_version]);
    let output = process::output(&mut command).context("the validators found something")?;
    output.lines().for_each(|line| say.line(format!("   {line}")));
    let passed = output.lines().filter(|line| line.starts_with("ok ")).count() as u64;
    ensure!(passed > 0, "the validators checked nothing");
    Ok(passed)
}

/// Python with the packages of a requirements file, all of them with hashes; made once for each list and each Python. Gives the
/// interpreter.
pub(crate) fn environment(cache: &Cache, list: &Path) -> Result<PathBuf> {
    let packages = fs::read(list).with_context(|| format!("reading {}", list.display()))?;
    let version = process::output(Command::new("python3").arg("--version")).map_err(|error| lacks_python(&error))?;
    // Python finds an environment's packages beside the interpreter, so it still works after the cache has named it.
    let entry = cache.make("python", &Key::of([packages.as_slice(), version.trim().as_bytes()]), |folder| {
        output::progress().line(format!("peers: installing the Python packages of {}", list.display()));
        fill(folder, list)
    })?;
    Ok(entry.path.join("bin/python3"))
}

fn fill(folder: &Path, list: &Path) -> Result<()> {
    let say = output::progress();
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--copies"]).arg(folder);
    process::run(&mut make, "peers: ", &say).map_err(|error| lacks_python(&error))?;
    let mut install = Command::new(folder.join("bin/python3"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]);
    install.args(["--require-hashes", "--requirement"]).arg(list);
    process::run(&mut install, "peers: ", &say).context("installing Python packages")
}

fn lacks_python(error: &anyhow::Error) -> anyhow::Error {
    let message = format!("Python cannot make an environment for the validators: {error:#}");
    coded(Code::Host, message, "apt-get install python3-venv")
}
