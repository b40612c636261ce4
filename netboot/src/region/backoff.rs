//! Waiting times that grow, with jitter: when a region comes back, thousands of stores must not call at once.

use rand::Rng;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The waiting time of one task.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// After a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// After a failure: between half and the whole of a bound that doubles.
    pub fn wait(&mut self, random: &mut impl Rng) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(LONGEST);
        bound.mul_f64(random.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_a_bound_and_starts_over() {
        let (mut backoff, mut random) = (Backoff::default(), rand::rng());
        let waits: Vec<_> = (0..12).map(|_| backoff.wait(&mut random)).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2);
        assert!(waits.iter().all(|w| *w <= LONGEST) && waits[11] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.wait(&mut random) <= FIRST);
    }
}
