//! `cargo xtask e2e netboot-kill`: twenty installs, while netboot and the registrar are killed every few seconds. No machine is
//! emulated: the real agent's calls and queue, the real programs, over loopback. A test of `registrar` does it, with six installs in
//! every test run.

use crate::{output, test};
use anyhow::{Context as _, Result, ensure};

/// Its name among the end-to-end cases.
pub(crate) const NAME: &str = "netboot-kill";
/// What it is about.
pub(crate) const ABOUT: &str =
    "twenty installs finish and no event is lost or doubled, while netboot and registrar are killed";
const INSTALLS: &str = "20";

/// Runs it.
pub(crate) fn run() -> Result<()> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let report = folder.path().join("report");
    let arguments = ["test", "--package", "registrar", "--test", "it", "--locked", "--", "--exact", TEST];
    let variables = [("SHELFBOOT_INSTALLS", INSTALLS), ("SHELFBOOT_REPORT", &*report.to_string_lossy())];
    let count = test::counted(&arguments, &variables)?;
    ensure!(count.failed == 0 && count.passed == 1, "installs did not survive that");
    let text = std::fs::read_to_string(&report).context("reading the report")?;
    output::results().line(text.trim_end());
    Ok(())
}

const TEST: &str = "killed::installs_finish_and_no_event_is_lost_or_doubled_while_store_and_region_are_killed";
