//! How fast the cache may fetch: a daily schedule, and a token bucket. Both are pure functions of time.

use std::time::Duration;
use time::OffsetDateTime;

const DAY_MINUTES: i64 = 24 * 60;
/// What a line that waited may send at once.
const BURST: Duration = Duration::from_millis(250);
const LEAST_BURST: f64 = 32.0 * 1024.0;

/// A part of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Minutes after midnight at which it begins, 0 to 1439.
    pub from: u16,
    /// Minutes after midnight before which it ends. One that ends before it begins goes over midnight.
    pub to: u16,
    /// Bytes per second; `None` is no limit.
    pub limit: Option<u64>,
}

impl Hours {
    fn contains(&self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// Limits by the time of day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Minutes that the schedule's clock is ahead of UTC.
    pub offset_minutes: i16,
    /// The first that contains the moment counts.
    pub hours: Vec<Hours>,
    /// Bytes per second at all other times; `None` is no limit.
    pub otherwise: Option<u64>,
    /// Bytes per second while a machine waits for what is fetched; `None` is no limit.
    pub waiting: Option<u64>,
}

impl Schedule {
    /// Bytes per second that may be fetched at this moment; `None` is no limit. A machine that waits is never served more
    /// slowly than the schedule allows anyway.
    #[must_use]
    pub fn limit(&self, now: OffsetDateTime, waiting: bool) -> Option<u64> {
        let minute = (now.unix_timestamp().div_euclid(60) + i64::from(self.offset_minutes)).rem_euclid(DAY_MINUTES);
        let minute = u16::try_from(minute).unwrap_or_default();
        let planned =
            self.hours.iter().find(|hours| hours.contains(minute)).map_or(self.otherwise, |hours| hours.limit);
        match (planned, waiting) {
            (planned, false) => planned,
            (None, true) => None,
            (Some(planned), true) => self.waiting.map(|limit| limit.max(planned)),
        }
    }

    /// How long `bytes` take from now on over a line of `line` bytes per second, through the limits of the day; at most two
    /// weeks.
    #[must_use]
    pub fn expected(&self, now: OffsetDateTime, bytes: u64, line: u64, waiting: bool) -> Duration {
        let (mut left, mut passed) = (bytes as f64, 0u64);
        let longest = 14 * 24 * 3600;
        while passed < longest {
            let at = now + time::Duration::seconds(i64::try_from(passed).unwrap_or(i64::MAX));
            let rate = self.limit(at, waiting).unwrap_or(u64::MAX).min(line.max(1)) as f64;
            // To the next full minute: limits change only there.
            let step = 60 - at.unix_timestamp().rem_euclid(60).unsigned_abs();
            if left <= rate * step as f64 {
                return Duration::from_secs(passed) + Duration::from_secs_f64(left / rate);
            }
            left -= rate * step as f64;
            passed += step;
        }
        Duration::from_secs(longest)
    }
}

/// A token bucket that may go into debt by the last piece. Its clock is any that only goes forward.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    /// Bytes that may be sent; below 0: bytes that were sent too early.
    level: f64,
    at: Duration,
}

impl Bucket {
    /// Something was fetched.
    pub fn spend(&mut self, bytes: u64) {
        self.level -= bytes as f64;
    }

    /// How long to wait before more is fetched, at this limit in bytes per second.
    pub fn wait(&mut self, now: Duration, limit: Option<u64>) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let Some(rate) = limit else {
            self.level = 0.0;
            return Duration::ZERO;
        };
        let rate = rate.max(1) as f64;
        let burst = (rate * BURST.as_secs_f64()).max(LEAST_BURST);
        self.level = (self.level + rate * passed).min(burst);
        // A debt from faster hours is not paid at the rate of slower ones for minutes on end.
        self.level = self.level.max(-(rate * 5.0).max(LEAST_BURST * 8.0));
        Duration::from_secs_f64((-self.level / rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn shop() -> Schedule {
        let day = Hours { from: 8 * 60, to: 20 * 60, limit: Some(250_000) };
        Schedule { offset_minutes: 60, hours: vec![day], otherwise: None, waiting: Some(1_000_000) }
    }

    #[test]
    fn the_day_is_slow_in_the_stores_own_hours_and_the_night_is_free() {
        let at = |time, waiting| shop().limit(time, waiting);
        assert_eq!(at(datetime!(2026-11-21 06:59:59 UTC), false), None);
        assert_eq!(at(datetime!(2026-11-21 07:00 UTC), false), Some(250_000));
        assert_eq!(at(datetime!(2026-11-21 18:59 UTC), false), Some(250_000));
        assert_eq!(at(datetime!(2026-11-21 19:00 UTC), false), None);
        assert_eq!(at(datetime!(2026-11-21 12:00 UTC), true), Some(1_000_000));
        assert_eq!(at(datetime!(2026-11-21 20:00 UTC), true), None, "who waits is not slower than the night");
        let night = Hours { from: 22 * 60, to: 5 * 60, limit: Some(9) };
        let over = Schedule { hours: vec![night], ..Schedule::default() };
        assert_eq!(over.limit(datetime!(2026-11-21 23:00 UTC), false), Some(9));
        assert_eq!(over.limit(datetime!(2026-11-21 05:00 UTC), false), None);
    }

    #[test]
    fn the_expected_time_goes_through_the_hours() {
        let now = datetime!(2026-11-21 18:00 UTC);
        // An hour of 250,000 bytes a second until 19:00 UTC, then the line's own speed.
        let bytes = 3600 * 250_000 + 100 * 5_000_000;
        let seconds = shop().expected(now, bytes, 5_000_000, false).as_secs();
        assert_eq!(seconds, 3700);
        assert_eq!(shop().expected(now, bytes, 5_000_000, true).as_secs(), bytes / 1_000_000);
        assert_eq!(shop().expected(now, u64::MAX, 1, false).as_secs(), 14 * 24 * 3600);
    }

    proptest! {
        /// Over any time, no more than the rate, a burst and one piece.
        #[test]
        fn the_bucket_holds_its_rate(rate in 1024u64..10_000_000, pieces in proptest::collection::vec((1u64..200_000, 0u64..500), 1..200)) {
            let (mut bucket, mut now, mut sent) = (Bucket::default(), Duration::from_secs(5), 0);
            let begin = now;
            bucket.wait(now, Some(rate));
            let mut largest = 0;
            for (piece, pause) in pieces {
                now += Duration::from_millis(pause);
                now += bucket.wait(now, Some(rate));
                prop_assert!(bucket.wait(now, Some(rate)) < Duration::from_millis(1));
                bucket.spend(piece);
                sent += piece;
                largest = largest.max(piece);
                let burst = (rate as f64 * 0.25).max(LEAST_BURST);
                let first = rate as f64 * 5.0;
                let allowed = rate as f64 * (now - begin).as_secs_f64() + burst.max(first.min(burst)) + largest as f64 + rate as f64 * 0.001;
                // A debt that is forgiven is the one thing beyond it: only for pieces larger than five seconds' worth.
                if (largest as f64) < (rate as f64 * 5.0).max(LEAST_BURST * 8.0) {
                    prop_assert!(sent as f64 <= allowed + 1.0, "{sent} > {allowed}");
                }
            }
        }

        /// And a line that always has something to send gets all of it.
        #[test]
        fn nothing_is_wasted(rate in 10_000u64..10_000_000) {
            let (mut bucket, mut now, mut sent) = (Bucket::default(), Duration::ZERO, 0u64);
            while now < Duration::from_secs(60) {
                now += bucket.wait(now, Some(rate));
                bucket.spend(16_384);
                sent += 16_384;
            }
            prop_assert!(sent as f64 >= rate as f64 * 59.0, "{sent} of {}", rate * 60);
        }
    }
}
