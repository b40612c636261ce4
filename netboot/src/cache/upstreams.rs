//! Which upstream to ask: in order of preference, past those that failed lately. Pure; time and chance come in.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// One that sent other bytes than were signed is broken or hostile, and neither passes in a minute.
const AFTER_A_LIE: Duration = Duration::from_secs(3600);
const LONGEST_AFTER_LIES: Duration = Duration::from_secs(24 * 3600);

/// What was wrong with an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It does not answer, breaks off, or answers with an error.
    Failed(String),
    /// It is older than what is here already, has expired, or lacks what its metadata names.
    Behind(String),
    /// It sent other bytes than were signed.
    Lied(String),
}

impl Fault {
    /// A sentence for the log and the status.
    #[must_use]
    pub fn message(&self) -> &str {
        let (Self::Failed(text) | Self::Behind(text) | Self::Lied(text)) = self;
        text
    }
}

#[derive(Debug, Clone, Default)]
struct Health {
    failures: u32,
    lies: u32,
    until: Option<Instant>,
    fault: Option<Fault>,
}

/// The upstreams by their place in the configuration.
#[derive(Debug, Clone)]
pub struct Upstreams {
    all: Vec<Health>,
}

impl Upstreams {
    /// So many, all well.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { all: vec![Health::default(); count] }
    }

    /// Another list: for each of its places, the place that the upstream had before, if it was there.
    #[must_use]
    pub fn rearranged(&self, before: &[Option<usize>]) -> Self {
        let one = |place: &Option<usize>| place.and_then(|place| self.all.get(place).cloned()).unwrap_or_default();
        Self { all: before.iter().map(one).collect() }
    }

    /// Those that may be asked now, in order of preference.
    #[must_use]
    pub fn usable(&self, now: Instant) -> Vec<usize> {
        let may = |health: &Health| health.until.is_none_or(|until| until <= now);
        self.all.iter().enumerate().filter(|(_, health)| may(health)).map(|(index, _)| index).collect()
    }

    /// How long until one may be asked; zero when one may be now.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        let left = |health: &Health| health.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        self.all.iter().map(left).min().unwrap_or(LONGEST)
    }

    /// It did what it was asked for.
    pub fn good(&mut self, index: usize) {
        if let Some(health) = self.all.get_mut(index) {
            // A liar that tells the truth once is not believed for good: its count stays.
            *health = Health { lies: health.lies, ..Health::default() };
        }
    }

    /// It did not. Gives how long it is left alone; `chance` is 0.0 to 1.0.
    pub fn bad(&mut self, index: usize, fault: Fault, now: Instant, chance: f64) -> Duration {
        let Some(health) = self.all.get_mut(index) else { return Duration::ZERO };
        let doubled = |first: Duration, times: u32, most: Duration| first.saturating_mul(1 << times.min(16)).min(most);
        let bound = if matches!(fault, Fault::Lied(_)) {
            health.lies += 1;
            doubled(AFTER_A_LIE, health.lies - 1, LONGEST_AFTER_LIES)
        } else {
            health.failures += 1;
            doubled(FIRST, health.failures - 1, LONGEST)
        };
        let wait = bound.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        health.until = Some(now + wait);
        health.fault = Some(fault);
        wait
    }

    /// What is wrong with one, if anything.
    #[must_use]
    pub fn fault(&self, index: usize) -> Option<&Fault> {
        self.all.get(index)?.fault.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Fault {
        Fault::Failed("no answer".into())
    }

    #[test]
    fn the_first_that_is_well_then_the_others_and_back_again() {
        let (mut all, now) = (Upstreams::new(3), Instant::now());
        assert_eq!(all.usable(now), [0, 1, 2]);
        let wait = all.bad(0, failed(), now, 1.0);
        assert_eq!((all.usable(now), wait), (vec![1, 2], FIRST));
        assert_eq!(all.usable(now + wait), [0, 1, 2], "it is asked again, and first");
        all.good(0);
        assert_eq!(all.fault(0), None);
    }

    #[test]
    fn a_liar_stays_one_when_the_list_is_another() {
        let (mut all, now) = (Upstreams::new(2), Instant::now());
        all.bad(1, Fault::Lied("other bytes".into()), now, 1.0);
        let other = all.rearranged(&[None, Some(1), Some(7)]);
        assert_eq!(other.usable(now), [0, 2]);
        assert_eq!(other.fault(1), all.fault(1));
    }

    #[test]
    fn waits_grow_to_a_bound_with_jitter() {
        let (mut all, now) = (Upstreams::new(1), Instant::now());
        let waits: Vec<_> = (0..20).map(|_| all.bad(0, failed(), now, 0.0)).collect();
        assert!(waits.windows(2).all(|w| w[0] <= w[1]) && waits[19] == LONGEST / 2, "{waits:?}");
        assert!(all.bad(0, failed(), now, 1.0) == LONGEST);
        assert_eq!(all.wait(now), LONGEST);
    }

    #[test]
    fn a_liar_is_left_alone_for_longer_and_longer_even_if_it_is_good_in_between() {
        let (mut all, now) = (Upstreams::new(1), Instant::now());
        let lie = || Fault::Lied("other bytes".into());
        let first = all.bad(0, lie(), now, 1.0);
        all.good(0);
        let second = all.bad(0, lie(), now, 1.0);
        assert!(first == AFTER_A_LIE && second == first * 2);
        assert!((0..9).map(|_| all.bad(0, lie(), now, 1.0)).all(|w| w <= LONGEST_AFTER_LIES));
    }
}
