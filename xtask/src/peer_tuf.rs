//! python-tuf, the reference client of The Update Framework, against repositories of ours, and SoftHSM with keys of theirs: the
//! tests of `image-builder` that need them. Python has an environment in the cache.

use crate::{checkout, output, test};
use anyhow::{Context as _, Result};
use contracts::exit::Code;
use qemu_tests::{
    cache::{Cache, Key},
    hint::coded,
    process,
};
use std::{fs, path::PathBuf, process::Command};

/// Packages with their hashes, below the checkout.
const PACKAGES: &str = "image-builder/tests/python-tuf/requirements.txt";

/// Runs them, and counts.
pub(crate) fn run() -> Result<test::Count> {
    let python = environment(&Cache::from_environment()?)?;
    let arguments =
        ["test", "--package", "image-builder", "--test", "repo", "--locked", "--", "--ignored", "python_tuf"];
    test::counted(&arguments, &[("SHELFBOOT_PYTHON_TUF", &python.to_string_lossy())])
}

/// Python with the packages; made once for each list of them and each Python. Gives the interpreter.
fn environment(cache: &Cache) -> Result<PathBuf> {
    let list = checkout().join(PACKAGES);
    let packages = fs::read(&list).with_context(|| format!("reading {}", list.display()))?;
    let lacks = |error: anyhow::Error| {
        let message = format!("Python cannot make an environment: {error:#}");
        coded(Code::Host, message, "apt-get install python3-venv")
    };
    let version = process::output(Command::new("python3").arg("--version")).map_err(lacks)?;
    let key = Key::of([packages.as_slice(), version.trim().as_bytes()]);
    // Python finds an environment's packages beside the interpreter, so it still works after the cache has named it.
    let entry = cache.make("python", &key, |folder| {
        let say = output::progress();
        say.line("python-tuf: installing it from PyPI");
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--copies"]).arg(folder);
        process::run(&mut make, "python-tuf: ", &say).map_err(lacks)?;
        let mut install = Command::new(folder.join("bin/python3"));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]);
        install.args(["--require-hashes", "--requirement"]).arg(&list);
        process::run(&mut install, "python-tuf: ", &say).context("installing Python packages")
    })?;
    Ok(entry.path.join("bin/python3"))
}
