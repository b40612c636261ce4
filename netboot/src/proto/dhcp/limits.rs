//! How many packets are answered: token buckets, one per client and one for all. Both are far above what boot clients
//! send (each asks a few times in a minute), and keep a loop or a flood from taking the processor and the log.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Packets of one client: at once, and per second afterwards.
pub(crate) const CLIENT: Rate = Rate { burst: 20.0, per_second: 4.0 };
/// Packets of all clients. A boot storm of 300 machines has some thousand packets in its first second.
pub(crate) const TOTAL: Rate = Rate { burst: 20_000.0, per_second: 20_000.0 };
/// Clients that are counted one by one. Above that, those that have been quiet longest are forgotten.
pub(crate) const MOST: usize = 4096;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: f64,
    pub(crate) per_second: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, rate: Rate) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate.per_second).min(rate.burst);
        self.at = self.at.max(now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// The buckets.
#[derive(Debug)]
pub struct Limits<K> {
    clients: HashMap<K, Bucket>,
    total: Bucket,
}

impl<K: Hash + Eq + Copy> Limits<K> {
    /// Full buckets.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { clients: HashMap::new(), total: Bucket { tokens: TOTAL.burst, at: now } }
    }

    /// Whether this client's packet is to be looked at.
    pub fn allow(&mut self, now: Instant, client: K) -> bool {
        if self.clients.len() >= MOST && !self.clients.contains_key(&client) {
            self.forget(now);
        }
        let bucket = self.clients.entry(client).or_insert(Bucket { tokens: CLIENT.burst, at: now });
        bucket.take(now, CLIENT) && self.total.take(now, TOTAL)
    }

    /// Forgets whose bucket is full again; where that is nobody, the older half, so that this is not done for every packet.
    fn forget(&mut self, now: Instant) {
        let full = Duration::from_secs_f64(CLIENT.burst / CLIENT.per_second);
        self.clients.retain(|_, bucket| now.saturating_duration_since(bucket.at) < full);
        if self.clients.len() >= MOST {
            let mut times: Vec<_> = self.clients.values().map(|bucket| bucket.at).collect();
            let (_, middle, _) = times.select_nth_unstable(MOST / 2);
            let middle = *middle;
            self.clients.retain(|_, bucket| bucket.at > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_is_slowed_down_and_the_others_are_not() {
        let now = Instant::now();
        let mut limits = Limits::new(now);
        assert_eq!((0..100).filter(|_| limits.allow(now, 1)).count(), 20);
        assert!(limits.allow(now, 2));
        let later = now + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| limits.allow(later, 1)).count(), 4);
    }

    #[test]
    fn a_flood_of_made_up_clients_meets_the_total_and_takes_no_memory() {
        let now = Instant::now();
        let mut limits = Limits::new(now);
        let allowed = (0..50_000).filter(|client| limits.allow(now, *client)).count();
        assert_eq!(allowed, 20_000);
        assert!(limits.clients.len() <= MOST);
        let later = now + Duration::from_millis(100);
        assert_eq!((0..50_000).filter(|client| limits.allow(later, *client + 1_000_000)).count(), 2000);
    }
}
