//! Waiting between tries: exponential backoff with jitter, bounded.

use std::time::Duration;

/// The wait before each next try.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    cap: Duration,
}

impl Backoff {
    /// Starts at `first` and doubles up to `cap`.
    #[must_use]
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { next: first, cap }
    }

    /// The next wait: between half and all of the current step, so that many machines that failed together do not
    /// come back together.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next.min(self.cap);
        self.next = step.saturating_mul(2);
        step.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_jitter_stays_within_half() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        for step in [1, 2, 4, 8, 8, 8] {
            let wait = backoff.next_wait();
            assert!(
                wait >= Duration::from_millis(step * 500) && wait <= Duration::from_secs(step),
                "{wait:?} at {step}"
            );
        }
    }
}
