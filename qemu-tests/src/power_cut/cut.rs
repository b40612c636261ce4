//! What of a disk's writes survives a power cut: a pure function of the log, the moment and a seed.
//!
//! A disk promises one thing: what was finished before a flush is there after it. Everything since may be there or not, in any order, and in
//! parts; only a sector is whole. QEMU notes a write when it is handed on, so one that was under way while a flush ran counts as finished here.

use super::log::{Kind, Log};
use std::{collections::BTreeSet, ops::Range};

/// Larger writes tear at multiples of this, and smaller ones at sectors.
const TEAR: u64 = 4096;

/// A number from a seed: splitmix64, the same everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Begins with a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

/// What happens to writes that no flush followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unflushed {
    /// They are lost.
    Lost,
    /// They are all there.
    Kept,
    /// Some are, in any order, whole or torn.
    Mixed,
}

/// A power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Cut {
    /// So many entries of the log had happened.
    pub at: usize,
    /// What became of the writes since the last flush.
    pub unflushed: Unflushed,
    /// For [`Unflushed::Mixed`].
    pub seed: u64,
}

/// A part of an entry's data that is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The entry.
    pub entry: usize,
    /// The part, in bytes from the beginning of its data.
    pub part: Range<u64>,
}

/// How many entries are on the disk for good when the power fails after `at` of them: all before the last flush.
#[must_use]
pub fn durable(log: &Log, at: usize) -> usize {
    log.entries[..at].iter().rposition(|entry| entry.flush).map_or(0, |flush| flush)
}

/// What is on the disk beside what is there for good, in the order in which it got there.
#[must_use]
pub fn survivors(log: &Log, cut: Cut) -> Vec<Piece> {
    let mut dice = Dice::new(cut.seed);
    let since = durable(log, cut.at)..cut.at;
    let mut order: Vec<usize> = since.filter(|index| log.entries[*index].kind != Kind::Nothing).collect();
    if cut.unflushed == Unflushed::Mixed {
        for place in (1..order.len()).rev() {
            let other = usize::try_from(dice.below(place as u64 + 1)).unwrap_or(place);
            order.swap(place, other);
        }
    }
    let mut found = Vec::new();
    for index in order {
        let entry = &log.entries[index];
        let whole = || Piece { entry: index, part: 0..entry.bytes };
        match cut.unflushed {
            _ if entry.durable => found.push(whole()),
            Unflushed::Lost => {}
            Unflushed::Kept => found.push(whole()),
            Unflushed::Mixed => match dice.below(10) {
                0..5 => found.push(whole()),
                5..8 => {}
                _ => {
                    let tear = if entry.bytes > 2 * TEAR { TEAR } else { log.sector };
                    let mut at = 0;
                    while at < entry.bytes {
                        let end = (at + tear).min(entry.bytes);
                        if dice.below(2) == 0 {
                            found.push(Piece { entry: index, part: at..end });
                        }
                        at = end;
                    }
                }
            },
        }
    }
    found
}

/// Chooses moments: before and after flushes, where order matters most, and anywhere. Ascending, each once; at most `count`.
#[must_use]
pub fn choose(log: &Log, count: usize, seed: u64) -> Vec<Cut> {
    let mut dice = Dice::new(seed);
    let end = log.entries.len();
    let mut chosen = BTreeSet::new();
    let flushes: Vec<usize> = (0..end).filter(|index| log.entries[*index].flush).collect();
    for at in [0, end] {
        chosen.insert(Cut { at, unflushed: Unflushed::Kept, seed: 0 });
    }
    // Half of them around flushes.
    while !flushes.is_empty() && chosen.len() < count / 2 + 2 {
        let flush = flushes[usize::try_from(dice.below(flushes.len() as u64)).unwrap_or(0)];
        let at = flush + usize::try_from(dice.below(2)).unwrap_or(0);
        chosen.insert(chance(&mut dice, at));
    }
    // Not more than there can be.
    for _ in 0..20 * count {
        if chosen.len() >= count {
            break;
        }
        let at = usize::try_from(dice.below(end as u64 + 1)).unwrap_or(0);
        chosen.insert(chance(&mut dice, at));
    }
    chosen.into_iter().take(count).collect()
}

fn chance(dice: &mut Dice, at: usize) -> Cut {
    let (unflushed, seed) = match dice.below(5) {
        0 => (Unflushed::Lost, 0),
        1 => (Unflushed::Kept, 0),
        _ => (Unflushed::Mixed, dice.roll()),
    };
    Cut { at, unflushed, seed }
}

#[cfg(test)]
mod tests {
    use super::{
        super::log::{read_bytes, tests::write},
        *,
    };
    use proptest::prelude::*;

    fn log(flushes: &[bool]) -> Log {
        let data = [7; 16384];
        let entries: Vec<(u64, u64, &[u8])> = flushes
            .iter()
            .enumerate()
            .map(
                |(n, flush)| if *flush { (1, 0, &data[..0]) } else { (0, n as u64 * 512, &data[..512 * (1 + n % 32)]) },
            )
            .collect();
        read_bytes(&write(&entries)).unwrap()
    }

    proptest! {
        #[test]
        fn a_flush_keeps_its_promise_and_nothing_comes_from_the_future(
            flushes in proptest::collection::vec(prop::bool::weighted(0.2), 1..60), at in any::<prop::sample::Index>(),
            seed in any::<u64>()
        ) {
            let log = log(&flushes);
            let at = at.index(log.entries.len() + 1);
            let durable = durable(&log, at);
            prop_assert!(log.entries[durable.min(log.entries.len() - 1)..at].iter().skip(1).all(|entry| !entry.flush));
            let of = |unflushed| survivors(&log, Cut { at, unflushed, seed });
            prop_assert!(of(Unflushed::Lost).is_empty());
            let all: Vec<usize> = (durable..at).filter(|index| log.entries[*index].kind == Kind::Write).collect();
            let kept: Vec<usize> = of(Unflushed::Kept).iter().map(|piece| piece.entry).collect();
            prop_assert_eq!(&kept, &all);
            let mixed = of(Unflushed::Mixed);
            prop_assert_eq!(&mixed, &of(Unflushed::Mixed));
            for piece in mixed {
                prop_assert!(all.contains(&piece.entry));
                prop_assert!(piece.part.start % 512 == 0 && piece.part.end <= log.entries[piece.entry].bytes);
            }
        }

        #[test]
        fn the_same_seed_chooses_the_same_moments(
            flushes in proptest::collection::vec(prop::bool::weighted(0.2), 1..60), count in 2usize..80, seed in any::<u64>()
        ) {
            let log = log(&flushes);
            let chosen = choose(&log, count, seed);
            prop_assert_eq!(&chosen, &choose(&log, count, seed));
            prop_assert!(chosen.len() <= count && chosen.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(chosen.iter().all(|cut| cut.at <= log.entries.len()));
        }
    }

    #[test]
    fn what_is_written_through_survives_alone() {
        let log = read_bytes(&write(&[(0, 0, &[1; 512]), (2, 512, &[2; 512])])).unwrap();
        let cut = Cut { at: 2, unflushed: Unflushed::Lost, seed: 0 };
        assert_eq!(survivors(&log, cut), [Piece { entry: 1, part: 0..512 }]);
    }
}
