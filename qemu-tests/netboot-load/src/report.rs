//! What came of a run.

use serde::{Deserialize, Serialize};

/// The result, one line of JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Bytes of files that arrived in order while the clock ran.
    pub bytes: u64,
    /// How long the clock ran.
    pub seconds: f64,
    /// Files that arrived whole.
    pub files: u64,
    /// Files that did not.
    pub failed: u64,
    /// Packets that clients sent because nothing came.
    pub repeats: u64,
    /// Seconds until the first client had its file, where each fetches one.
    pub fastest: Option<f64>,
    /// Seconds until the last one had it.
    pub slowest: Option<f64>,
    /// What went wrong first.
    pub problem: Option<String>,
}

impl Report {
    /// MiB each second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20) / self.seconds
    }

    /// Adds another one that ran at the same time.
    pub fn add(&mut self, other: Self) {
        let pick = |a: Option<f64>, b: Option<f64>, f: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(f(a, b)),
            (a, b) => a.or(b),
        };
        self.bytes += other.bytes;
        self.seconds = self.seconds.max(other.seconds);
        self.files += other.files;
        self.failed += other.failed;
        self.repeats += other.repeats;
        self.fastest = pick(self.fastest, other.fastest, f64::min);
        self.slowest = pick(self.slowest, other.slowest, f64::max);
        if self.problem.is_none() {
            self.problem = other.problem;
        }
    }
}
