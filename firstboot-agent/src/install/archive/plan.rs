//! What has to be fetched, in which pieces it goes to the disk, and when that is flushed: pure decisions.
//!
//! The source (root data, then hash tree) is cut into *runs* of about a MiB, at the ends of chunks. A run is what one
//! processor unpacks, checks and writes, and what the journal speaks of.

use super::BLOCK;
use contracts::archive::{Chunk, Dictionary};
use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
    time::{Duration, Instant},
};

/// A run ends at the first chunk that brings it to this many bytes.
const RUN: u64 = 1 << 20;
/// What all runs under way may take together.
const MEMORY: u64 = 40 << 20;
/// More processors than this do not help any disk or line.
const MOST_WORKERS: usize = 16;
/// Stored bytes of chunks that come again later; what is beyond is fetched again.
const MOST_KEPT: u64 = 8 << 20;
/// What lies between two wanted chunks is rather read and dropped than asked around.
const GAP: u64 = 256 << 10;
/// A flush of the disk and a record in the journal after this much, or
const FLUSH_BYTES: u64 = 32 << 20;
/// after this long: on a slow line that is less.
const FLUSH_AFTER: Duration = Duration::from_secs(10);

/// Some chunks in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Where it lies in the source, in bytes.
    pub bytes: Range<u64>,
    /// Its part of [`Plan::order`].
    pub pieces: Range<usize>,
}

impl Run {
    /// The part of it that is whole blocks; empty where it has none. What is left at its two ends shares blocks with the
    /// neighbours.
    #[must_use]
    pub fn whole_blocks(&self) -> Range<u64> {
        let (begin, end) = (self.bytes.start.next_multiple_of(BLOCK), self.bytes.end / BLOCK * BLOCK);
        if begin < end { begin..end } else { begin..begin }
    }
}

/// The whole source.
#[derive(Debug)]
pub struct Plan {
    /// The archive's chunks, in its order.
    pub chunks: Vec<Chunk>,
    /// Indexes of chunks, in the order of the source.
    pub order: Vec<u32>,
    /// The runs, in the order of the source.
    pub runs: Vec<Run>,
    /// The run in which each chunk is used last.
    last_use: Vec<usize>,
    /// Bytes of the source.
    pub source: u64,
}

impl Plan {
    /// Cuts the source into runs.
    #[must_use]
    pub fn new(dictionary: Dictionary) -> Self {
        let Dictionary { chunks, order, source } = dictionary;
        let mut runs = Vec::new();
        let mut last_use = vec![0; chunks.len()];
        let (mut begin, mut at, mut first) = (0, 0, 0);
        for (index, chunk) in order.iter().enumerate() {
            last_use[*chunk as usize] = runs.len();
            at += u64::from(chunks[*chunk as usize].size);
            if at - begin >= RUN || index + 1 == order.len() {
                runs.push(Run { bytes: begin..at, pieces: first..index + 1 });
                (begin, first) = (at, index + 1);
            }
        }
        Self { chunks, order, runs, last_use, source }
    }

    /// The chunks of a run, in the order of the source; a chunk may come twice.
    pub fn pieces(&self, run: usize) -> impl Iterator<Item = (u32, &Chunk)> {
        self.order[self.runs[run].pieces.clone()].iter().map(|index| (*index, &self.chunks[*index as usize]))
    }

    /// The chunks that a run needs, each once, in the order of the archive.
    #[must_use]
    pub fn needs(&self, run: usize) -> Vec<u32> {
        let mut needs = self.order[self.runs[run].pieces.clone()].to_vec();
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// Whether a chunk comes again after this run.
    #[must_use]
    pub fn comes_again(&self, chunk: u32, run: usize) -> bool {
        self.last_use[chunk as usize] > run
    }

    /// How many processors may work at once, each with a run and as many that wait.
    #[must_use]
    pub fn workers(&self, processors: usize) -> usize {
        let largest = self.runs.iter().map(|run| run.bytes.end - run.bytes.start).max().unwrap_or(1);
        // Unpacked, as it came, and as the next one comes.
        let at_once = usize::try_from(MEMORY / (3 * largest)).unwrap_or(1);
        processors.clamp(1, MOST_WORKERS).min(at_once).max(1)
    }

    /// Up to which byte of the archive one request reads on from `chunk`, when these runs are wanted: over what is wanted and
    /// small gaps. The byte is the last one.
    #[must_use]
    pub fn read_on(&self, chunk: u32, wanted: impl Iterator<Item = usize>) -> u64 {
        let begin = self.chunks[chunk as usize].at;
        let mut end = begin + u64::from(self.chunks[chunk as usize].stored);
        for run in wanted {
            for need in self.needs(run) {
                let chunk = &self.chunks[need as usize];
                if chunk.at > end + GAP {
                    return end.saturating_sub(1);
                }
                // What lies before was kept, or is asked for by itself.
                end = end.max(chunk.at + u64::from(chunk.stored));
            }
        }
        end.saturating_sub(1)
    }

    /// What is read of the archive when these chunks are wanted: they, and the small gaps between them.
    #[must_use]
    pub fn bytes_to_fetch(&self, wanted: &BTreeSet<u32>) -> u64 {
        let mut places: Vec<Range<u64>> = wanted
            .iter()
            .map(|chunk| &self.chunks[*chunk as usize])
            .map(|c| c.at..c.at + u64::from(c.stored))
            .collect();
        places.sort_unstable_by_key(|place| place.start);
        let gaps =
            places.windows(2).map(|pair| pair[1].start.saturating_sub(pair[0].end)).filter(|gap| reads_over(*gap));
        gaps.sum::<u64>() + places.iter().map(|place| place.end - place.start).sum::<u64>()
    }
}

/// Whether reading on over `gap` bytes that nobody wants is better than a new request.
#[must_use]
pub const fn reads_over(gap: u64) -> bool {
    gap <= GAP
}

/// What is kept of the archive because it comes again: at most `MOST_KEPT` bytes.
#[derive(Debug, Default)]
pub struct Kept {
    chunks: HashSet<u32>,
    bytes: u64,
}

impl Kept {
    /// Whether these stored bytes are to be kept; they count from then on.
    pub fn take(&mut self, chunk: u32, stored: u64) -> bool {
        let fits = self.bytes + stored <= MOST_KEPT && self.chunks.insert(chunk);
        self.bytes += if fits { stored } else { 0 };
        fits
    }

    /// They are not needed any more.
    pub fn forget(&mut self, chunk: u32, stored: u64) {
        if self.chunks.remove(&chunk) {
            self.bytes -= stored;
        }
    }
}

/// Whether what was written since the last flush is to be flushed now.
#[must_use]
pub fn is_flush_due(written: u64, since: Duration) -> bool {
    written >= FLUSH_BYTES || (written > 0 && since >= FLUSH_AFTER)
}

/// How fast it goes, measured over the last seconds: a line that has become slow is not taken for the one that it was.
#[derive(Debug)]
pub struct Rate {
    points: std::collections::VecDeque<(Instant, u64)>,
}

impl Rate {
    const OVER: Duration = Duration::from_secs(15);
    const STEP: Duration = Duration::from_millis(500);

    /// Begins with what is there already, which says nothing about the rate.
    #[must_use]
    pub fn new(now: Instant, done: u64) -> Self {
        Self { points: [(now, done)].into() }
    }

    /// What is done by now.
    pub fn add(&mut self, now: Instant, done: u64) {
        if self.points.back().is_some_and(|(at, _)| now.duration_since(*at) < Self::STEP) {
            return;
        }
        self.points.push_back((now, done));
        // At most 30 of them, and always two.
        while self.points.len() > 2 && self.points.front().is_some_and(|(at, _)| now.duration_since(*at) > Self::OVER) {
            self.points.pop_front();
        }
    }

    /// Bytes per second; `None` while too little was seen.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        let ((begin, first), (end, last)) = (self.points.front()?, self.points.back()?);
        let seconds = end.duration_since(*begin).as_secs_f64();
        let bytes = last.saturating_sub(*first);
        (seconds >= 1.0 && bytes > 0).then(|| bytes as f64 / seconds)
    }

    /// How long `left` bytes still take.
    #[must_use]
    pub fn eta(&self, left: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(left as f64 / self.per_second()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dictionary(sizes: &[u32], order: Vec<u32>) -> Dictionary {
        let mut at = 1000;
        let chunks: Vec<Chunk> = sizes
            .iter()
            .map(|size| {
                let chunk = Chunk { at, stored: size / 2 + 1, size: *size, hash: vec![], packed: true };
                at += u64::from(chunk.stored);
                chunk
            })
            .collect();
        let source = order.iter().map(|index| u64::from(chunks[*index as usize].size)).sum();
        Dictionary { chunks, order, source }
    }

    proptest! {
        #[test]
        fn runs_are_the_source_and_nothing_else(
            sizes in proptest::collection::vec(1u32..600_000, 1..40),
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 1..120),
            processors in 1usize..200,
        ) {
            let order: Vec<u32> = picks.iter().map(|pick| pick.index(sizes.len()) as u32).collect();
            let plan = Plan::new(dictionary(&sizes, order.clone()));
            let (mut at, mut piece) = (0, 0);
            for (index, run) in plan.runs.iter().enumerate() {
                prop_assert_eq!((run.bytes.start, run.pieces.start), (at, piece));
                let bytes: u64 = plan.pieces(index).map(|(_, chunk)| u64::from(chunk.size)).sum();
                prop_assert_eq!(run.bytes.end - run.bytes.start, bytes);
                prop_assert!(bytes < RUN + 600_000);
                let whole = run.whole_blocks();
                prop_assert!(whole.start % BLOCK == 0 && whole.end % BLOCK == 0);
                prop_assert!(whole.is_empty() || whole.start - run.bytes.start < BLOCK);
                prop_assert!(whole.is_empty() || run.bytes.end - whole.end < BLOCK);
                let needs = plan.needs(index);
                prop_assert!(plan.pieces(index).all(|(chunk, _)| needs.contains(&chunk)));
                // Whatever comes again is kept until then.
                for need in needs {
                    let again = (index + 1..plan.runs.len()).any(|later| plan.needs(later).contains(&need));
                    prop_assert_eq!(plan.comes_again(need, index), again);
                }
                (at, piece) = (run.bytes.end, run.pieces.end);
            }
            prop_assert_eq!((at, piece), (plan.source, order.len()));
            let workers = plan.workers(processors) as u64;
            let largest = plan.runs.iter().map(|run| run.bytes.end - run.bytes.start).max().unwrap();
            prop_assert!(workers == 1 || workers * 3 * largest <= MEMORY);
        }

        #[test]
        fn a_request_reads_what_is_wanted_and_not_much_more(
            sizes in proptest::collection::vec(200_000u32..600_000, 1..60), wanted in any::<u64>()
        ) {
            let plan = Plan::new(dictionary(&sizes, (0..sizes.len() as u32).collect()));
            let wanted: Vec<usize> = (0..plan.runs.len()).filter(|run| wanted >> (run % 64) & 1 == 1).collect();
            let Some(first) = wanted.first() else { return Ok(()) };
            let first = plan.needs(*first)[0];
            let last = plan.read_on(first, wanted.iter().copied());
            let begin = plan.chunks[first as usize].at;
            let (mut unwanted, mut end) = (0, begin);
            for run in &wanted {
                for need in plan.needs(*run) {
                    let chunk = &plan.chunks[need as usize];
                    if chunk.at <= last {
                        prop_assert!(chunk.at + u64::from(chunk.stored) <= last + 1, "no chunk is cut through");
                        unwanted = unwanted.max(chunk.at - end);
                        end = chunk.at + u64::from(chunk.stored);
                    }
                }
            }
            prop_assert_eq!(end, last + 1);
            prop_assert!(unwanted <= GAP);
            let all: BTreeSet<u32> = wanted.iter().flat_map(|run| plan.needs(*run)).collect();
            let bytes = plan.bytes_to_fetch(&all);
            let least: u64 = all.iter().map(|chunk| u64::from(plan.chunks[*chunk as usize].stored)).sum();
            prop_assert!(bytes >= least && bytes <= least + GAP * all.len() as u64);
            prop_assert!(bytes >= last + 1 - begin);
        }
    }

    #[test]
    fn flushes_come_by_bytes_on_a_fast_line_and_by_time_on_a_slow_one() {
        assert!(!is_flush_due(0, Duration::from_secs(100)), "there is nothing to flush");
        assert!(!is_flush_due(31 << 20, Duration::from_secs(9)));
        assert!(is_flush_due(32 << 20, Duration::ZERO));
        assert!(is_flush_due(1, Duration::from_secs(10)));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let begin = Instant::now();
        let mut rate = Rate::new(begin, 500);
        assert_eq!(rate.eta(100), None);
        // Fast for a minute, then slow for half of one.
        for second in 1..=90u64 {
            let done = 500 + second.min(60) * 100 + second.saturating_sub(60) * 10;
            rate.add(begin + Duration::from_secs(second), done);
        }
        assert_eq!(rate.per_second(), Some(10.0));
        assert_eq!(rate.eta(100), Some(Duration::from_secs(10)));
        assert!(rate.points.len() <= 32);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        assert!(kept.take(1, MOST_KEPT - 1));
        assert!(!kept.take(2, 2));
        kept.forget(2, 2);
        kept.forget(1, MOST_KEPT - 1);
        assert!(kept.take(2, 2));
    }
}
