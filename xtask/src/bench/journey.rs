//! The journey of a blank machine: against a start of what it installed, and against a plain download.

use super::Row;
use crate::{checkout, e2e, output};
use anyhow::{Context as _, Result};
use qemu_tests::{
    cache::Cache,
    cases,
    journey::{outside, record::Record},
};
use std::fs;

/// How much longer than a start of the installed system the whole journey may take. The case itself has a wider bar: it runs beside
/// other work.
const BAR: f64 = 2.0;

/// Runs it that often. Each journey brings its peers from the same world, minutes apart.
pub(super) fn run(samples: u8) -> Result<Vec<Row>> {
    let case = cases::find("journey").context("there is no case journey")?;
    let file = Cache::from_environment()?.folder("bench")?.join("journey.json");
    let mut records = Vec::new();
    for number in 1..=samples {
        let say = output::progress();
        say.line(format!("== sample {number} of {samples}"));
        if file.exists() {
            // The report of an earlier sample must not stand in for this one's.
            fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
        let wish = outside::Wish {
            case,
            template: "k8s-worker".into(),
            keep: false,
            json: Some(file.clone()),
            only: None,
            seed: 0,
            samples: 0,
        };
        // A sample over the bar fails its own check, and is a sample all the same: the median decides here.
        let ran = outside::run(checkout(), &wish, e2e::INSIDE, &say);
        let text = match (fs::read(&file), ran) {
            (Ok(text), Ok(())) => text,
            (Ok(text), Err(error)) => {
                say.line(format!("sample {number} counts, though: {error}"));
                text
            }
            (Err(_), Err(error)) => return Err(error),
            (Err(error), Ok(())) => return Err(error).with_context(|| format!("reading {}", file.display())),
        };
        let record: Record = serde_json::from_slice(&text).context("reading the report")?;
        records.push(record);
    }
    Ok(rows(&records))
}

fn rows(records: &[Record]) -> Vec<Row> {
    let pairs = |pair: fn(&Record) -> (f64, f64)| records.iter().map(pair).collect::<Vec<_>>();
    let whole = pairs(|r| (r.total_seconds, r.installed_boot_seconds));
    let install = pairs(|r| (r.total_seconds - r.installed_boot_seconds, r.plain_seconds));
    vec![
        Row::at_most("journey, blank machine to Ready", "a start of the installed system", Some(BAR), &whole),
        Row::at_most("journey less the installed start", "firmware and a plain download", None, &install),
    ]
}
