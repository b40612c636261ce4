//! A staged rollout: which stores get an image before its channel names it. A TUF target, so that neither a mirror nor
//! a store's router can bring it forward.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// A rollout of one image on one channel. TUF target `rollouts/TEMPLATE/CHANNEL.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The machine template.
    pub template: String,
    /// The channel whose stores are asked.
    pub channel: String,
    /// The image that is rolled out. The channel itself goes on naming the one before, for all other stores.
    pub image_version: String,
    /// When the first ring begins.
    #[serde(with = "time::serde::rfc3339")]
    pub start: OffsetDateTime,
    /// Who gets it when; later rings add stores to the earlier ones.
    pub rings: Vec<Ring>,
    /// The hours of the day in which machines may be restarted; `None` is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// True stops it where it is: no further store begins.
    #[serde(default)]
    pub halted: bool,
}

/// One ring of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Hours after the start at which it begins.
    pub after_hours: u32,
    /// The share of all stores, 0 to 100. Which ones is worked out from their names, see [`Rollout::bucket`].
    #[serde(default)]
    pub percent: u8,
    /// Stores by name, whatever their share is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<String>,
}

/// Minutes after midnight, UTC. A window that ends before it begins goes over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// From this minute on, 0 to 1439.
    pub from_minute: u16,
    /// Up to before this minute, 0 to 1439.
    pub to_minute: u16,
}

/// Why a rollout makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RolloutError {
    /// No ring, or more than make sense.
    #[error("a rollout has 1 to 32 rings, not {0}")]
    Rings(usize),
    /// Not a share.
    #[error("{0} is no percentage")]
    Percent(u8),
    /// Later rings only add stores.
    #[error("ring {0} begins before the one in front of it, or has a smaller share")]
    Order(usize),
    /// Not a time of day.
    #[error("minute {0} is not within a day")]
    Minute(u16),
}

impl Rollout {
    /// TUF target name of the rollout on one channel of one template.
    #[must_use]
    pub fn target_name(template: &str, channel: &str) -> String {
        format!("rollouts/{template}/{channel}.json")
    }

    /// Holds the document against its own rules.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), RolloutError> {
        if !(1..=32).contains(&self.rings.len()) {
            return Err(RolloutError::Rings(self.rings.len()));
        }
        if let Some(ring) = self.rings.iter().find(|ring| ring.percent > 100) {
            return Err(RolloutError::Percent(ring.percent));
        }
        for (index, pair) in self.rings.windows(2).enumerate() {
            if pair[1].after_hours < pair[0].after_hours || pair[1].percent < pair[0].percent {
                return Err(RolloutError::Order(index + 2));
            }
        }
        let minutes = self.window.iter().flat_map(|window| [window.from_minute, window.to_minute]);
        minutes.into_iter().find(|minute| *minute > 1439).map_or(Ok(()), |minute| Err(RolloutError::Minute(minute)))
    }

    /// A store's place in the order of stores, 0 to 99. It differs from rollout to rollout, so that it is not always the
    /// same stores that go first: the first 8 bytes of SHA-256 over template, image version and store, each followed by
    /// a zero byte, as a big-endian number, modulo 100.
    #[must_use]
    pub fn bucket(&self, store: &str) -> u8 {
        let mut hasher = Sha256::new();
        for part in [&self.template, &self.image_version, store] {
            hasher.update(part);
            hasher.update([0]);
        }
        let number = hasher.finalize().iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        (number % 100) as u8
    }

    /// True when this store's machines are to have the image at this time.
    #[must_use]
    pub fn reaches(&self, store: &str, now: OffsetDateTime) -> bool {
        let elapsed = now - self.start;
        let begun = |ring: &&Ring| elapsed >= time::Duration::hours(i64::from(ring.after_hours));
        let chosen = |ring: &Ring| self.bucket(store) < ring.percent || ring.stores.iter().any(|name| name == store);
        !self.halted && self.rings.iter().filter(begun).any(chosen)
    }

    /// True when machines may be restarted for it at this time.
    #[must_use]
    pub fn is_open(&self, now: OffsetDateTime) -> bool {
        let Some(Window { from_minute, to_minute }) = self.window else { return true };
        let minute = u16::from(now.hour()) * 60 + u16::from(now.minute());
        if from_minute <= to_minute {
            (from_minute..to_minute).contains(&minute)
        } else {
            minute >= from_minute || minute < to_minute
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    const START: OffsetDateTime = datetime!(2026-11-21 02:00 UTC);

    fn rollout() -> Rollout {
        let ring = |after_hours, percent, stores: &[&str]| Ring {
            after_hours,
            percent,
            stores: stores.iter().map(|store| (*store).to_owned()).collect(),
        };
        Rollout {
            version: 1,
            template: "till".into(),
            channel: "stable".into(),
            image_version: "2".into(),
            start: START,
            rings: vec![ring(0, 0, &["store-0001"]), ring(24, 10, &[]), ring(72, 100, &[])],
            window: Some(Window { from_minute: 22 * 60, to_minute: 5 * 60 }),
            halted: false,
        }
    }

    #[test]
    fn named_stores_first_then_a_tenth_then_all() {
        let rollout = rollout();
        let reached = |hours| {
            let now = START + time::Duration::hours(hours);
            (0..1000).filter(|n| rollout.reaches(&format!("store-{n:04}"), now)).count()
        };
        assert_eq!((reached(-1), reached(0), reached(72)), (0, 1, 1000));
        assert!((70..130).contains(&reached(24)), "{}", reached(24));
        assert!(!Rollout { halted: true, ..rollout.clone() }.reaches("store-0001", START));
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        let at = |time| rollout().is_open(time);
        assert!(at(datetime!(2026-11-21 23:00 UTC)) && at(datetime!(2026-11-21 04:59 UTC)));
        assert!(!at(datetime!(2026-11-21 05:00 UTC)) && !at(datetime!(2026-11-21 12:00 UTC)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        rollout().check().unwrap();
        let refused = |change: fn(&mut Rollout)| {
            let mut rollout = rollout();
            change(&mut rollout);
            rollout.check().unwrap_err()
        };
        assert_eq!(refused(|r| r.rings.clear()), RolloutError::Rings(0));
        assert_eq!(refused(|r| r.rings[2].percent = 101), RolloutError::Percent(101));
        assert_eq!(refused(|r| r.rings[2].percent = 5), RolloutError::Order(3));
        assert_eq!(refused(|r| r.rings[0].after_hours = 30), RolloutError::Order(2));
        assert_eq!(
            refused(|r| r.window = Some(Window { from_minute: 0, to_minute: 1440 })),
            RolloutError::Minute(1440)
        );
    }

    proptest! {
        /// No store that was reached is left again while time goes on.
        #[test]
        fn a_rollout_only_grows(store in "[a-z0-9-]{1,12}", hours in 0i64..100, more in 0i64..100) {
            let (rollout, now) = (rollout(), START + time::Duration::hours(hours));
            if rollout.reaches(&store, now) {
                prop_assert!(rollout.reaches(&store, now + time::Duration::hours(more)));
            }
        }
    }
}
