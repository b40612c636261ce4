//! `cargo xtask test`: every check, one after the other, each with its time; the last line counts.

use crate::{checkout, e2e, fuzz, killed, output, page, peer_tuf, peers, setup};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use qemu_tests::{cases, sandbox};
use std::{ffi::OsString, process::Stdio, time::Instant};

/// Arguments of `test`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run every end-to-end case and every fuzz target too, not only the core cases.
    #[arg(long)]
    all: bool,
    /// Install what the host lacks without asking.
    #[arg(long)]
    yes: bool,
}

/// How many things were tested.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    fn one(good: bool) -> Self {
        Self { passed: u64::from(good), failed: u64::from(!good) }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure_for_tests(arguments.yes)?;
    let mut total = Count::default();
    total.add(step("format", || cargo(&["fmt", "--all", "--check"], &[])));
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    total.add(step("lints", || cargo(&clippy, &[])));
    total.add(step("unit and property tests", unit_tests));
    let docs = ["doc", "--workspace", "--no-deps", "--locked"];
    total.add(step("documentation", || cargo(&docs, &[("RUSTDOCFLAGS", "-Dwarnings")])));
    total.add(step("peers: python-tuf and SoftHSM", peer_tuf::run));
    total.add(step("peers: lists and provenance of an image", || {
        peers::sbom().map(|passed| Count { passed, failed: 0 })
    }));
    total.add(step("peers: TFTP clients", || peers::tftp().map(|passed| Count { passed, failed: 0 })));
    total.add(step("store page in Chromium", page::check));
    if arguments.all {
        total.add(step("fuzz targets, a minute each", || fuzz::all(fuzz::MINUTE)));
    }
    if arguments.all {
        total.add(step(&format!("end to end: {}", killed::NAME), || killed::run().map(|()| Count::one(true))));
    }
    for case in cases::ALL.iter().filter(|case| arguments.all || case.core) {
        total.add(step(&format!("end to end: {}", case.name), || e2e::case(case.name).map(|()| Count::one(true))));
    }
    output::results().line(format!("{} passed, {} failed", total.passed, total.failed));
    if total.failed > 0 {
        bail!("not everything passed");
    }
    Ok(())
}

/// Runs one step with a title and its time.
fn step(title: &str, run: impl FnOnce() -> Result<Count>) -> Count {
    let say = output::progress();
    say.line(format!("== {title}"));
    let begin = Instant::now();
    let count = run().unwrap_or_else(|error| {
        let _ = output::explain(&error);
        Count::one(false)
    });
    let verdict = if count.failed == 0 { "passed" } else { "FAILED" };
    say.line(format!("== {title}: {verdict} after {:.0} s", begin.elapsed().as_secs_f64()));
    count
}

/// Runs cargo; its output is shown whole when it fails.
fn cargo(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Count> {
    let (good, output) = capture(arguments, variables)?;
    if !good {
        output::progress().line(output.trim_end());
    }
    Ok(Count::one(good))
}

fn unit_tests() -> Result<Count> {
    counted(&["test", "--workspace", "--locked", "--no-fail-fast"], &[])
}

/// Runs `cargo test …` and counts its tests; at least one has to run.
pub(crate) fn counted(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Count> {
    let (good, output) = capture(arguments, variables)?;
    let mut count = count_results(&output);
    if !good {
        output::progress().line(output.trim_end());
        // A test that did not compile prints no count.
        count.failed = count.failed.max(1);
    }
    ensure!(count != Count::default(), "`cargo {}` ran no test", arguments.join(" "));
    Ok(count)
}

fn capture(arguments: &[&str], variables: &[(&str, &str)]) -> Result<(bool, String)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    // One file for both streams keeps their lines in order.
    let output = sandbox::tied("sh".as_ref())
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .arg(cargo)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(checkout())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting cargo {}", arguments.join(" ")))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Adds up lines like `test result: ok. 12 passed; 0 failed; …`.
fn count_results(output: &str) -> Count {
    let mut total = Count::default();
    for line in output.lines().filter_map(|line| line.trim().strip_prefix("test result: ")) {
        let number = |word: &str| {
            let before = line.split(word).next().unwrap_or_default().trim_end();
            before.rsplit([' ', ';', '.']).next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
        };
        total.add(Count { passed: number(" passed"), failed: number(" failed") });
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let output = "running 2 tests\ntest result: ok. 12 passed; 0 failed; 1 ignored; 0 measured\n\
                      noise 5 passed\ntest result: FAILED. 3 passed; 2 failed; 0 ignored\n";
        assert_eq!(count_results(output), Count { passed: 15, failed: 2 });
    }
}
