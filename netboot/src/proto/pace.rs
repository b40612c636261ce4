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

/// Lets no more than so many bytes a second pass.
#[derive(Debug, Clone)]
pub struct Throttle {
    rate: u64,
    free: Instant,
}

impl Throttle {
    /// This many bytes a second, from now on.
    #[must_use]
    pub fn new(now: Instant, rate: u64) -> Self {
        Self { rate: rate.max(1), free: now }
    }

    /// How many bytes may pass now: what is due in a twentieth of a second.
    ///
    /// # Errors
    /// When to come back, where none may.
    pub fn may(&self, now: Instant) -> Result<u64, Instant> {
        if now < self.free { Err(self.free) } else { Ok((self.rate / 20).max(4096)) }
    }

    /// So many have passed.
    pub fn passed(&mut self, now: Instant, bytes: u64) {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        self.free = self.free.max(now) + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX / 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_holds_its_rate_whoever_asks_and_when() {
        let start = Instant::now();
        let (mut throttle, mut now, mut bytes) = (Throttle::new(start, 1_000_000), start, 0);
        while now < start + Duration::from_secs(10) {
            match throttle.may(now) {
                Ok(most) => {
                    throttle.passed(now, most);
                    bytes += most;
                }
                Err(until) => now = until,
            }
        }
        assert!((10_000_000..=10_050_000).contains(&bytes), "{bytes}");
        // A client that took nothing for a while gets no more at once for it.
        let later = now + Duration::from_secs(60);
        throttle.passed(later, throttle.may(later).unwrap());
        assert!(throttle.may(later).is_err());
    }

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
