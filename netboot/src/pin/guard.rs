//! Pauses between tries at the PIN: growing with each wrong one, per client and for all of them together. Pure.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Wrong tries of one client without a pause: fingers slip.
pub const FREE_PER_CLIENT: u32 = 3;
/// Of all clients together.
pub const FREE_IN_ALL: u32 = 8;
pub(crate) const LONGEST: Duration = Duration::from_secs(15 * 60);
/// After so long without a wrong try, they are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Clients that are remembered; beyond that the one that was wrong longest ago is forgotten. All of them together still count.
pub(crate) const MOST: usize = 256;

#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    wrong: u32,
    last: Option<Instant>,
}

impl Tries {
    /// How long to wait still.
    fn wait(&self, now: Instant, free: u32) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        (last + pause(self.wrong, free)).saturating_duration_since(now)
    }

    fn count(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) > FORGOTTEN_AFTER) {
            self.wrong = 0;
        }
        self.wrong = self.wrong.saturating_add(1);
        self.last = Some(now);
    }
}

/// 2, 4, 8 … seconds, at most a quarter of an hour.
fn pause(wrong: u32, free: u32) -> Duration {
    match wrong.saturating_sub(free) {
        0 => Duration::ZERO,
        more => Duration::from_secs(1 << more.min(10)).min(LONGEST),
    }
}

/// Who was wrong how often.
#[derive(Debug, Default)]
pub struct Guard {
    clients: HashMap<IpAddr, Tries>,
    all: Tries,
}

impl Guard {
    /// A try begins, and counts as wrong until [`Guard::was_right`].
    ///
    /// # Errors
    /// How long this client has to wait first.
    pub fn begin(&mut self, now: Instant, client: IpAddr) -> Result<(), Duration> {
        let own = self.clients.get(&client).copied().unwrap_or_default();
        let wait = own.wait(now, FREE_PER_CLIENT).max(self.all.wait(now, FREE_IN_ALL));
        if !wait.is_zero() {
            return Err(wait);
        }
        if self.clients.len() >= MOST && !self.clients.contains_key(&client) {
            let oldest = self.clients.iter().min_by_key(|(_, tries)| tries.last).map(|(client, _)| *client);
            oldest.and_then(|client| self.clients.remove(&client));
        }
        self.clients.entry(client).or_default().count(now);
        self.all.count(now);
        Ok(())
    }

    /// The try that began last was right: this client starts afresh, and the others keep what they have earned.
    pub fn was_right(&mut self, client: IpAddr) {
        self.clients.remove(&client);
        self.all.wrong = self.all.wrong.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn pauses_grow_to_a_quarter_of_an_hour() {
        let (mut guard, mut now) = (Guard::default(), Instant::now());
        let mut waited = Vec::new();
        for _ in 0..20 {
            if let Err(wait) = guard.begin(now, client(1)) {
                waited.push(wait.as_secs());
                now += wait;
                guard.begin(now, client(1)).unwrap();
            }
        }
        assert_eq!(waited[..4], [2, 4, 8, 16]);
        assert_eq!(waited.last(), Some(&900));
        now += FORGOTTEN_AFTER + Duration::from_secs(1);
        (0..=FREE_PER_CLIENT).for_each(|_| guard.begin(now, client(1)).unwrap());
        assert!(guard.begin(now, client(1)).is_err());
    }

    #[test]
    fn many_clients_share_one_limit() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        let passed = (0..10_000).filter(|n| guard.begin(now, client(*n)).is_ok()).count();
        assert_eq!(passed, FREE_IN_ALL as usize + 1);
        assert!(guard.clients.len() <= MOST);
    }

    #[test]
    fn who_is_right_starts_afresh_and_helps_no_attacker() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for _ in 0..100 {
            guard.begin(now, client(1)).unwrap();
            guard.was_right(client(1));
        }
        (0..=FREE_PER_CLIENT).for_each(|_| guard.begin(now, client(2)).unwrap());
        guard.begin(now, client(1)).unwrap();
        guard.was_right(client(1));
        assert!(guard.begin(now, client(2)).is_err(), "somebody else being right changes nothing");
    }

    proptest! {
        /// However the tries are spread, an hour sees few of them once the pauses have grown.
        #[test]
        fn a_day_of_guessing_stays_short(clients in proptest::collection::vec(0_u32..1000, 500), step in 1_u64..600) {
            let (mut guard, start) = (Guard::default(), Instant::now());
            let end = start + Duration::from_secs(24 * 3600);
            let (mut now, mut tries) = (start, 0);
            for n in clients.iter().cycle() {
                if now > end {
                    break;
                }
                tries += u32::from(guard.begin(now, client(*n)).is_ok());
                now += Duration::from_secs(step);
            }
            prop_assert!(tries <= FREE_IN_ALL + 12 + 24 * 4, "{tries}");
        }
    }
}
