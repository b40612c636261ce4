//! How long an answer takes, and how long to wait for one (RFC 6298, with bounds for a LAN).

use std::time::Duration;

/// A client that writes to flash or draws on its screen between two blocks is not lost yet.
const SHORTEST_WAIT: Duration = Duration::from_millis(60);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What was learned from answers so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundTrip {
    learned: Option<Learned>,
}

#[derive(Debug, Clone, Copy)]
struct Learned {
    smooth: Duration,
    variation: Duration,
}

impl RoundTrip {
    /// An answer took this long.
    pub fn sample(&mut self, took: Duration) {
        self.learned = Some(match self.learned {
            None => Learned { smooth: took, variation: took / 2 },
            Some(Learned { smooth, variation }) => {
                Learned { smooth: (smooth * 7 + took) / 8, variation: (variation * 3 + smooth.abs_diff(took)) / 4 }
            }
        });
    }

    /// How long an answer usually takes; nothing when none came yet.
    #[must_use]
    pub fn usual(&self) -> Duration {
        self.learned.map_or(Duration::ZERO, |l| l.smooth)
    }

    /// How long to wait before a repeat.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.learned.map(|l| (l.smooth + l.variation * 4).clamp(SHORTEST_WAIT, LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_the_answers_within_its_bounds() {
        let mut fast = RoundTrip::default();
        assert_eq!((fast.wait(), fast.usual()), (None, Duration::ZERO));
        fast.sample(Duration::from_micros(200));
        assert_eq!(fast.wait(), Some(SHORTEST_WAIT));
        let mut slow = fast;
        for _ in 0..40 {
            slow.sample(Duration::from_millis(300));
        }
        let wait = slow.wait().unwrap();
        assert!(wait > Duration::from_millis(290) && wait < Duration::from_millis(400), "{wait:?}");
        slow.sample(Duration::from_secs(60));
        assert_eq!(slow.wait(), Some(LONGEST_WAIT));
    }
}
