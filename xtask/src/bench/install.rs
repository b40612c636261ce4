//! The install engine against curl, zstd and dd, and its check against veritysetup: in one guest, in turns.

use super::Row;
use crate::{checkout, e2e, output};
use anyhow::{Context as _, Result};
use qemu_tests::{
    cache::Cache,
    cases::{self, install_bench::Measured},
    journey::outside,
};
use std::fs;

pub(super) fn run(samples: u8) -> Result<Vec<Row>> {
    let file = Cache::from_environment()?.folder("bench")?.join("install.json");
    if file.exists() {
        // An earlier report must not stand in for this one.
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    }
    let case = cases::INSTALL_BENCH;
    let wish = outside::Wish {
        case,
        template: case.template.into(),
        keep: false,
        json: Some(file.clone()),
        only: None,
        seed: 0,
        samples,
    };
    outside::run(checkout(), &wish, e2e::INSIDE, &output::progress())?;
    let text = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    Ok(rows(&serde_json::from_slice(&text).context("reading the report")?))
}

fn rows(measured: &Measured) -> Vec<Row> {
    let image = [(measured.boot_image, f64::NAN)];
    vec![
        Row::at_most(
            "install vs packed download",
            "curl | zstd -d | dd oflag=direct,fsync",
            Some(0.85),
            &measured.packed,
        ),
        Row::at_most(
            "install vs plain download",
            "curl of the raw image | dd oflag=direct,fsync",
            Some(1.3),
            &measured.plain,
        ),
        Row::at_most("verify vs veritysetup verify", "veritysetup verify", Some(1.1), &measured.verify),
        Row::value_at_most(
            "agent peak memory MiB",
            "MiB",
            "the engine alone, without the installer",
            96.0,
            &measured.memory,
        ),
        Row::value_at_most("boot image MB", "MB", "-", 64.0, &image),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_can_fail() {
        let measured = |ours: f64| Measured {
            packed: vec![(ours, 1.0)],
            plain: vec![(ours, 1.0)],
            verify: vec![(ours, 1.0)],
            memory: vec![(ours * 96.0, 30.0)],
            boot_image: ours * 64.0,
        };
        assert!(rows(&measured(0.85)).iter().all(|row| row.holds));
        assert!(rows(&measured(1.31)).iter().all(|row| !row.holds));
    }
}
