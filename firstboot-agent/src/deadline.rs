//! How long a step may be silent. A step that gives no sign for that long has ended badly, with a reason, and is tried again.
//! One that cannot even be ended, because the kernel waits for a disk that does not answer, ends with a restart.

use contracts::step::Step;
use std::time::{Duration, Instant};

/// What a spare may take from power on to its cluster; after that the screen says that it is late.
pub const JOURNEY: Duration = Duration::from_secs(30 * 60);
/// How long a step that was ended may take to end.
pub const GRACE: Duration = Duration::from_secs(60);

/// The longest silence of a step. A step that tells how far it is begins anew with every word, so that a slow line to the
/// region is no reason to give up.
#[must_use]
pub const fn patience(step: Step) -> Duration {
    Duration::from_secs(match step {
        // All rounds over all network cards, with a switch that keeps its port silent (spanning tree).
        Step::PowerOn | Step::Netboot | Step::Network => 10 * 60,
        // A disk that is about to fail answers late: Linux gives a SCSI command 30 s, and repeats it.
        Step::Assign | Step::Plan | Step::Restart => 3 * 60,
        Step::Partition | Step::Install | Step::Verify => 5 * 60,
        // These have ends of their own, after ten minutes at most.
        Step::Enroll | Step::Join | Step::Ready => 15 * 60,
    })
}

/// The last sign of life of the step under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign {
    /// Which step.
    pub step: Step,
    /// When.
    pub at: Instant,
}

impl Sign {
    /// How long it may still be silent; nothing when its time is over.
    #[must_use]
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let left = patience(self.step).saturating_sub(now.saturating_duration_since(self.at));
        (left > Duration::ZERO).then_some(left)
    }

    /// It was to be ended, and did not end.
    #[must_use]
    pub fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) > patience(self.step) + GRACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_ends_a_step_and_then_the_machine() {
        for step in Step::ALL {
            let at = Instant::now();
            let sign = Sign { step, at };
            assert_eq!(sign.left(at), Some(patience(step)));
            assert_eq!(sign.left(at + patience(step)), None);
            assert!(!sign.is_stuck(at + patience(step) + GRACE));
            assert!(sign.is_stuck(at + patience(step) + GRACE + Duration::from_secs(1)));
        }
    }
}
