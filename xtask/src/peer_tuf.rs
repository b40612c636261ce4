//! python-tuf, the reference client of The Update Framework, against repositories of ours, and SoftHSM with keys of theirs: the
//! tests of `image-builder` that need them. Python has an environment in the cache.

use crate::{checkout, peers, test};
use anyhow::Result;
use qemu_tests::cache::Cache;

/// Packages with their hashes, below the checkout.
const PACKAGES: &str = "image-builder/tests/python-tuf/requirements.txt";

/// Runs them, and counts.
pub(crate) fn run() -> Result<test::Count> {
    let python = peers::environment(&Cache::from_environment()?, &checkout().join(PACKAGES))?;
    let package = ["test", "--package", "image-builder", "--test", "repo", "--locked"];
    let arguments = [&package[..], &["--", "--ignored", "python_tuf", "softhsm"]].concat();
    test::counted(&arguments, &[("SHELFBOOT_PYTHON_TUF", &python.to_string_lossy())])
}
