//! image-builder against mmdebstrap with mkfs.erofs, and against mkosi.

use super::Row;
use crate::{checkout, output};
use anyhow::Result;
use qemu_tests::builds::bench::{self, Round};

const BY_HAND: &str = "mmdebstrap, then mkfs.erofs";

/// Builds that often with each.
pub(super) fn run(samples: u8) -> Result<Vec<Row>> {
    Ok(rows(&bench::run(checkout(), samples, &output::progress())?))
}

fn rows(rounds: &[Round]) -> Vec<Row> {
    let pairs = |pair: fn(&Round) -> (f64, f64)| rounds.iter().map(pair).collect::<Vec<_>>();
    let by_hand = pairs(|r| (r.cold.seconds, r.by_hand.seconds));
    let mkosi = pairs(|r| (r.cold.seconds, r.mkosi.seconds));
    let warm = pairs(|r| (r.warm.seconds, r.cold.seconds));
    let memory = pairs(|r| (r.cold.peak_mib.max(r.warm.peak_mib), r.mkosi.peak_mib));
    vec![
        Row::at_most("cold vs mmdebstrap+mkfs.erofs", BY_HAND, Some(1.15), &by_hand),
        Row::at_most("cold vs mkosi", "mkosi, disk with EROFS root", Some(1.0), &mkosi),
        Row::at_most("warm after one-file change vs cold", "image-builder, cold", Some(0.1), &warm),
        Row::value_at_most("peak memory MiB", "MiB", "mkosi", 512.0, &memory),
    ]
}
