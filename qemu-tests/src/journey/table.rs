//! The journey for people.

use super::record::Record;
use std::fmt::Write as _;

/// The journey as a table, with what it is compared to.
#[must_use]
pub fn journey(record: &Record) -> String {
    let mut out = format!("{:<12} {:>10} {:>10}\n", "step", "start", "duration");
    for step in &record.steps {
        let _ = writeln!(out, "{:<12} {:>8.1} s {:>8.1} s", step.name, step.started_s, step.seconds);
    }
    let ratio = record.total_seconds / record.installed_boot_seconds;
    let _ = writeln!(out, "{:<12} {:>10} {:>8.1} s", "total", "", record.total_seconds);
    let _ = writeln!(out);
    let _ = writeln!(
        out,
        "A start of the installed system takes {:.1} s: the journey took {ratio:.1} times as long.",
        record.installed_boot_seconds
    );
    let _ = writeln!(out, "The region's cluster took {:.1} s to start, before that.", record.region_seconds);
    let _ = writeln!(out, "Firmware and a plain download onto the disk take {:.1} s.", record.plain_seconds);
    let _ = writeln!(
        out,
        "netboot handed out {} of boot files and {} of image.",
        mebibytes(record.bytes.boot),
        mebibytes(record.bytes.install)
    );
    out
}

/// Bytes as people read them.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let value = bytes as f64 / f64::from(1 << 20);
    format!("{value:.1} MiB")
}

/// A heading and one row under it, aligned as a cluster's own tools print them.
#[must_use]
pub fn row(columns: &[(&str, String)]) -> String {
    let mut heading = String::new();
    let mut values = String::new();
    for (name, value) in columns {
        let width = name.len().max(value.len()) + 3;
        let _ = write!(heading, "{name:<width$}");
        let _ = write!(values, "{value:<width$}");
    }
    format!("{}\n{}\n", heading.trim_end(), values.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::record::{Bytes, NodeRecord, StepTime};
    use contracts::step::Step;

    #[test]
    fn a_journey_reads_like_one() {
        let record = Record {
            steps: vec![StepTime { name: Step::PowerOn, started_s: 0.0, seconds: 5.25 }],
            total_seconds: 90.0,
            installed_boot_seconds: 40.0,
            node: NodeRecord { name: "n".into(), ready: true, boot_ids: vec![] },
            bytes: Bytes { boot: 50 << 20, install: 3 << 19 },
            guest_memory_mib: 1024,
            region_seconds: 4.0,
            plain_seconds: 20.0,
        };
        let text = journey(&record);
        assert!(text.contains("power-on          0.0 s      5.2 s\n"), "{text}");
        assert!(text.contains("2.2 times") && text.contains("50.0 MiB") && text.contains("1.5 MiB"), "{text}");
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(row(&[("A", "long".into()), ("LONGER", "b".into())]), "A      LONGER\nlong   b\n");
    }
}
