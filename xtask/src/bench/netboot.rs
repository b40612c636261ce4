//! netboot against other servers.

use super::Row;
use crate::{checkout, output};
use anyhow::{Context as _, Result};
use clap::ValueEnum;
use qemu_tests::netboot_bench::{self, Bar, Figure, inside, outside};
use std::path::Path;

/// The argument with which this program, started again, measures in the world that it made.
pub(crate) const INSIDE: &str = "inside-bench";

/// The program may be this large.
const MOST_MIB: f64 = 8.0;

/// A part that can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// TFTP against dnsmasq and tftpd-hpa.
    Tftp,
    /// DHCP against dnsmasq and Kea.
    Dhcp,
    /// HTTP against nginx.
    Http,
    /// Memory at rest and with a hundred machines.
    Memory,
    /// Three hundred machines at once.
    Storm,
}

impl From<Part> for netboot_bench::Part {
    fn from(part: Part) -> Self {
        match part {
            Part::Tftp => Self::Tftp,
            Part::Dhcp => Self::Dhcp,
            Part::Http => Self::Http,
            Part::Memory => Self::Memory,
            Part::Storm => Self::Storm,
        }
    }
}

/// Measures these parts, or all.
pub(super) fn run(only: &[Part], samples: u8) -> Result<Vec<Row>> {
    let parts: Vec<netboot_bench::Part> = only.iter().map(|part| (*part).into()).collect();
    let parts = if parts.is_empty() { netboot_bench::PARTS.to_vec() } else { parts };
    let outcome = outside::run(checkout(), &parts, samples, INSIDE, &output::progress())?;
    let mut rows: Vec<Row> = outcome.figures.iter().map(row).collect();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let size = outcome.program_bytes as f64 / f64::from(1 << 20);
    rows.push(Row::value_at_most("size of the program", "MiB", "", MOST_MIB, &[(size, f64::NAN)]));
    Ok(rows)
}

/// Runs inside the world.
pub(crate) fn inside(plan: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(inside::run(plan, &output::progress()))
}

fn row(figure: &Figure) -> Row {
    let Figure { what, unit, peer, pairs, bar } = figure;
    let pairs: Vec<(f64, f64)> = pairs.iter().map(|(ours, peer)| (*ours, peer.unwrap_or(f64::NAN))).collect();
    let pairs = pairs.as_slice();
    let unit = match unit.as_str() {
        "s" => "s",
        "ms" => "ms",
        "/s" => "/s",
        "MiB" => "MiB",
        _ => "MiB/s",
    };
    match *bar {
        Bar::RatioAtLeast(bar) => Row::at_least(what, unit, peer, bar, pairs),
        Bar::RatioAtMost(bar) => Row { unit, ..Row::at_most(what, peer, Some(bar), pairs) },
        Bar::ValueAtMost(bar) => Row::value_at_most(what, unit, peer, bar, pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_without_a_peer_go_through_json() {
        let (what, unit, peer) = ("memory".to_owned(), "MiB".to_owned(), String::new());
        let figure = Figure { what, unit, peer, pairs: vec![(9.0, None)], bar: Bar::ValueAtMost(12.0) };
        let text = serde_json::to_string(&figure).unwrap();
        let read: Figure = serde_json::from_str(&text).unwrap();
        assert_eq!(read, figure);
        let row = row(&read);
        assert!(row.holds && row.peer.is_none() && row.ratio.is_none());
    }
}
