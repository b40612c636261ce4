//! How slow a client may be: whoever takes next to nothing holds a place that others need.

use std::time::{Duration, Instant};

/// Looks at how far a client is, period by period.
#[derive(Debug, Clone)]
pub struct Pace {
    every: Duration,
    least: u64,
    since: Instant,
    at: u64,
}

impl Pace {
    /// A client has to take at least `least` bytes in each period.
    #[must_use]
    pub fn new(now: Instant, every: Duration, least: u64) -> Self {
        Self { every, least, since: now, at: 0 }
    }

    /// The client has this many bytes now. True when it took too few in the period that has just ended.
    pub fn too_slow(&mut self, now: Instant, bytes: u64) -> bool {
        if now.saturating_duration_since(self.since) < self.every {
            return false;
        }
        let slow = bytes.saturating_sub(self.at) < self.least;
        (self.since, self.at) = (now, bytes);
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_period_counts_for_itself() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(start, Duration::from_secs(60), 100);
        assert!(!pace.too_slow(at(59), 0), "the period is not over");
        assert!(!pace.too_slow(at(60), 1_000_000));
        assert!(!pace.too_slow(at(119), 1_000_000));
        assert!(pace.too_slow(at(121), 1_000_099), "much before does not help now");
    }
}
