//! `cargo xtask bench NAME`: measures beside a peer, in one run, and holds the result against a bar.

mod build;
mod install;
mod journey;
mod netboot;

use crate::{output, setup};
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use qemu_tests::whole_file;
use serde::Serialize;
use std::{fmt::Write as _, path::PathBuf};

pub(crate) use netboot::{INSIDE as INSIDE_NETBOOT, inside as inside_netboot};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to measure.
    #[arg(value_name = "NAME")]
    name: Name,
    /// Write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    samples: u8,
    /// Only this part of `netboot`; may be given several times.
    #[arg(long, value_name = "PART", value_enum)]
    only: Vec<netboot::Part>,
    /// Install what the host lacks without asking.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The journey of a blank machine against a start of the installed one, and against a plain download.
    Journey,
    /// image-builder against mmdebstrap with mkfs.erofs, and against mkosi, from the same package files.
    Build,
    /// The install engine against curl, zstd and dd, its check against veritysetup; its memory, the boot image's size.
    Install,
    /// netboot against dnsmasq, tftpd-hpa and nginx with the same files and clients; its memory, its size, a boot storm.
    Netboot,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    /// Median.
    ours: f64,
    peer_name: String,
    /// Median.
    peer: Option<f64>,
    /// Ours by the peer's; without a peer the bar is on ours.
    ratio: Option<f64>,
    op: &'static str,
    /// None: measured, but nothing is promised yet.
    bar: Option<f64>,
    holds: bool,
    /// Ours, one by one.
    samples: Vec<f64>,
}

impl Row {
    /// A row of side-by-side samples; smaller is better.
    fn at_most(what: &str, peer_name: &str, bar: Option<f64>, pairs: &[(f64, f64)]) -> Self {
        let samples: Vec<f64> = pairs.iter().map(|(ours, _)| *ours).collect();
        let (ours, peer) = (median(&samples), median(&pairs.iter().map(|(_, peer)| *peer).collect::<Vec<_>>()));
        let ratio = ours / peer;
        Self {
            what: what.into(),
            unit: "s",
            ours,
            peer_name: peer_name.into(),
            // Not a number: there is no peer.
            peer: Some(peer).filter(|peer| !peer.is_nan()),
            ratio: Some(ratio).filter(|ratio| !ratio.is_nan()),
            op: "<=",
            bar,
            // Not a number holds nothing.
            holds: bar.is_none_or(|bar| ratio <= bar),
            samples,
        }
    }
}

impl Row {
    /// A row of side-by-side samples; larger is better.
    fn at_least(what: &str, unit: &'static str, peer_name: &str, bar: f64, pairs: &[(f64, f64)]) -> Self {
        let row = Self::at_most(what, peer_name, None, pairs);
        let holds = row.ratio.is_some_and(|ratio| ratio >= bar);
        Self { unit, op: ">=", bar: Some(bar), holds, ..row }
    }

    /// A row whose bar is on our own value; the peer's is for comparison.
    fn value_at_most(what: &str, unit: &'static str, peer_name: &str, bar: f64, pairs: &[(f64, f64)]) -> Self {
        let row = Self::at_most(what, peer_name, None, pairs);
        Self { unit, bar: Some(bar), holds: row.ours <= bar, ..row }
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(upper), 0) => f64::midpoint(sorted[sorted.len() / 2 - 1], *upper),
        (Some(middle), _) => *middle,
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(file) = &arguments.json {
        whole_file::check(file)?;
    }
    setup::ensure(arguments.yes)?;
    let rows = match arguments.name {
        Name::Journey => journey::run(arguments.samples)?,
        Name::Build => build::run(arguments.samples)?,
        Name::Install => install::run(arguments.samples)?,
        Name::Netboot => netboot::run(&arguments.only, arguments.samples)?,
    };
    output::results().line(table(&rows));
    if let Some(file) = &arguments.json {
        whole_file::write(file, &(serde_json::to_string_pretty(&rows).context("writing the rows")? + "\n"))?;
    }
    let failed: Vec<&str> = rows.iter().filter(|row| !row.holds).map(|row| row.what.as_str()).collect();
    if !failed.is_empty() {
        bail!("these bars do not hold: {}", failed.join(", "));
    }
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<36} {:>10} {:>10} {:>7} {:>8}  {:<5}  {}\n",
        "what", "ours", "peer", "ratio", "bar", "holds", "peer is"
    );
    let number = |value: Option<f64>, digits: usize| value.map_or("-".into(), |v| format!("{v:.digits$}"));
    // Of small numbers the digits behind the point are what matters.
    let some = |value: f64| format!("{value:.*}", if value < 10.0 { 3 } else { 1 });
    for row in rows {
        let _ = writeln!(
            out,
            "{:<36} {:>8} {} {:>8} {} {:>7} {:>8}  {:<5}  {}",
            row.what,
            some(row.ours),
            row.unit,
            row.peer.map_or("-".into(), some),
            row.unit,
            number(row.ratio, 2),
            row.bar.map_or("-".into(), |bar| format!("{} {bar}", row.op)),
            if row.holds { "yes" } else { "NO" },
            row.peer_name
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides_whether_a_bar_holds() {
        let pairs = [(90.0, 40.0), (500.0, 40.0), (100.0, 50.0)];
        let row = Row::at_most("w", "p", Some(2.5), &pairs);
        assert_eq!((row.ours, row.peer, row.ratio, row.holds), (100.0, Some(40.0), Some(2.5), true));
        assert!(!Row::at_most("w", "p", Some(2.4), &pairs).holds);
        assert!(Row::at_most("w", "p", None, &pairs).holds);
        assert!(!Row::at_most("w", "p", Some(1.0), &[]).holds);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(table(&[row]).contains("<= 2.5  yes"));
        let memory = Row::value_at_most("m", "MiB", "p", 512.0, &[(500.0, 90.0), (600.0, 90.0), (400.0, 90.0)]);
        assert!(memory.holds && memory.unit == "MiB" && memory.ours == 500.0);
        assert!(Row::at_least("t", "MiB/s", "p", 1.0, &[(2.0, 2.0)]).holds);
        assert!(!Row::at_least("t", "MiB/s", "p", 1.0, &[(1.9, 2.0)]).holds);
        assert!(!Row::at_least("t", "MiB/s", "p", 1.0, &[]).holds);
        assert!(!Row::value_at_most("m", "MiB", "p", 512.0, &[]).holds);
    }
}
