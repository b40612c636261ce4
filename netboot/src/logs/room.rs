//! Which bundles give way to a new one, and how often one is taken: pure.

use super::Key;
use crate::proto::mac::Mac;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

/// Bundles of one machine.
pub const MOST_PER_MACHINE: usize = 8;
/// Bytes of one machine.
pub const BYTES_PER_MACHINE: u64 = 2 << 20;
/// Bundles in all.
pub const MOST: usize = 256;
/// Bytes in all.
pub const BYTES: u64 = 16 << 20;
/// The same machine may send again after this long.
pub const PAUSE: Duration = Duration::from_secs(2);
/// In all, so many at once …
pub const BURST: u32 = 32;
/// … and then one in each such time: a router's flash wears out.
pub const EVERY: Duration = Duration::from_secs(2);

/// What is kept of one bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of its file.
    pub bytes: u64,
    /// When it came.
    pub at: SystemTime,
}

/// Who has to go before `bytes` of `new` are kept: first the oldest of the machine itself, when it has more than its share, then the
/// oldest of whichever machine holds most. So one machine that sends nonsense pushes out its own.
#[must_use]
pub fn give_way(kept: &BTreeMap<Key, Kept>, new: Key, bytes: u64) -> Vec<Key> {
    let mut left: BTreeMap<Key, Kept> =
        kept.iter().filter(|(key, _)| **key != new).map(|(key, one)| (*key, *one)).collect();
    let mut gone = Vec::new();
    loop {
        let mut of_machine: BTreeMap<Mac, (usize, u64)> = BTreeMap::from([(new.mac, (1, bytes))]);
        for (key, one) in &left {
            let (count, sum) = of_machine.entry(key.mac).or_default();
            (*count, *sum) = (*count + 1, *sum + one.bytes);
        }
        let (own_count, own_sum) = of_machine[&new.mac];
        let sum: u64 = of_machine.values().map(|(_, sum)| sum).sum();
        let from = if own_count > MOST_PER_MACHINE || own_sum > BYTES_PER_MACHINE {
            new.mac
        } else if left.len() + 1 > MOST || sum > BYTES {
            // The new one itself always fits, so somebody is left.
            let most = of_machine.iter().filter(|(mac, _)| left.keys().any(|key| key.mac == **mac));
            let Some((mac, _)) = most.max_by_key(|(_, (_, sum))| *sum) else { return gone };
            *mac
        } else {
            return gone;
        };
        let oldest = left.iter().filter(|(key, _)| key.mac == from).min_by_key(|(_, one)| one.at);
        let Some(oldest) = oldest.map(|(key, _)| *key) else { return gone };
        left.remove(&oldest);
        gone.push(oldest);
    }
}

/// How often bundles are taken.
#[derive(Debug)]
pub struct Pace {
    free: u32,
    since: Instant,
    last: BTreeMap<Mac, Instant>,
}

impl Pace {
    /// Begins with everything free.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { free: BURST, since: now, last: BTreeMap::new() }
    }

    /// Whether this machine may send one now. Only machines within their pause are remembered, no more than [`BURST`] and
    /// what came since.
    pub fn may(&mut self, now: Instant, mac: Mac) -> bool {
        let periods = now.saturating_duration_since(self.since).as_millis() / EVERY.as_millis();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.free = self.free.saturating_add(periods).min(BURST);
        self.since += EVERY.saturating_mul(periods).min(now.saturating_duration_since(self.since));
        self.last.retain(|_, at| now.saturating_duration_since(*at) < PAUSE);
        if self.free == 0 || self.last.contains_key(&mac) {
            return false;
        }
        self.free -= 1;
        self.last.insert(mac, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::logs::{LARGEST, LogPart};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn key(machine: u8, attempt: u128) -> Key {
        Key { mac: Mac([2, 0, 0, 0, 0, machine]), attempt: Uuid::from_u128(attempt), part: LogPart::Installer }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_machine_that_holds_most_gives_way() {
        let mut kept = BTreeMap::new();
        for attempt in 0..8 {
            kept.insert(key(1, attempt), Kept { bytes: 100, at: at(attempt as u64) });
        }
        kept.insert(key(2, 0), Kept { bytes: 100, at: at(0) });
        assert_eq!(give_way(&kept, key(1, 9), 100), [key(1, 0)], "its own oldest");
        assert_eq!(give_way(&kept, key(1, 3), 500), [], "the same attempt again takes its own place");
        assert_eq!(give_way(&kept, key(3, 0), 500), []);
    }

    #[test]
    fn nobody_sends_without_a_pause() {
        let now = Instant::now();
        let (mut pace, mac) = (Pace::new(now), |n: u32| Mac([2, 0, 0, 0, (n >> 8) as u8, n as u8]));
        assert!(pace.may(now, mac(0)) && !pace.may(now, mac(0)));
        let others = (1..1000).filter(|n| pace.may(now, mac(*n))).count();
        assert_eq!(others, BURST as usize - 1);
        let later = now + Duration::from_secs(60);
        assert!(pace.may(later, mac(0)));
        assert_eq!((1..1000).filter(|n| pace.may(later, mac(*n))).count(), 29);
        assert!(pace.last.len() <= BURST as usize);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_it_stays_bounded_and_the_new_one_is_kept(
            sent in prop::collection::vec((0..80_u8, 0..40_u128, 1..LARGEST as u64), 1..600),
        ) {
            let mut kept = BTreeMap::new();
            for (seconds, (machine, attempt, bytes)) in sent.into_iter().enumerate() {
                let new = key(machine, attempt);
                for gone in give_way(&kept, new, bytes) {
                    prop_assert!(kept.remove(&gone).is_some());
                }
                kept.insert(new, Kept { bytes, at: at(seconds as u64) });
                let own = kept.iter().filter(|(key, _)| key.mac == new.mac);
                let (count, sum) = own.fold((0, 0), |(count, sum), (_, one)| (count + 1, sum + one.bytes));
                prop_assert!(count <= MOST_PER_MACHINE && (sum <= BYTES_PER_MACHINE));
                prop_assert!(kept.len() <= MOST && kept.values().map(|one| one.bytes).sum::<u64>() <= BYTES);
            }
        }
    }
}
