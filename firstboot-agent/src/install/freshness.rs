//! Whether a repository's metadata may be believed now, when it may have expired. Pure.
//!
//! Expiry protects from a mirror that shows an old state for ever (freeze). That needs a time that can be believed, and an installer has
//! none: its clock comes from the store's router. So what the store serves is held against the clock as it is, and timestamp and snapshot,
//! which somebody has to renew all the time, may be expired for as long as the boot image allows: a store whose line is down goes on
//! installing for that long, and not for ever. Root and targets end when they say. Where there is an authenticated time (the
//! registrar's), it decides, and nothing that it shows to be expired is believed.

use contracts::manifest::{Staleness, TrustFloor};
use time::OffsetDateTime;
use tough::{Repository, schema::Role};

/// When roles end, Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The root of trust.
    pub root: i64,
    /// The list of images.
    pub targets: i64,
    /// The earlier one of timestamp and snapshot.
    pub fresh: i64,
}

impl Ends {
    /// Those of a repository.
    #[must_use]
    pub fn of(repository: &Repository) -> Self {
        let fresh = repository.timestamp().signed.expires().min(repository.snapshot().signed.expires());
        Self {
            root: repository.root().signed.expires().as_second(),
            targets: repository.targets().signed.expires().as_second(),
            fresh: fresh.as_second(),
        }
    }
}

/// What is known of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// By this machine's clock, which anybody in the store's network may have set.
    pub now: OffsetDateTime,
    /// The latest time that somebody vouched for who can be believed, if anybody did.
    pub authenticated: Option<OffsetDateTime>,
}

/// Expired, and believed for a while yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale {
    /// Since when.
    pub since: i64,
    /// Until when.
    pub until: i64,
}

/// Expired, and not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Expired {
    /// A role that ends when it says.
    #[error("the repository's role {role} expired {}: its keeper has to sign it anew", moment(*.since))]
    Lasting {
        /// Which.
        role: &'static str,
        /// Since when.
        since: i64,
    },
    /// An authenticated time is later.
    #[error(
        "the repository's timestamp or snapshot expired {}, and by the region's own time that is past: the mirror is out of date, or \
         somebody is trying to pass off an old state",
        moment(*.since)
    )]
    Authenticated {
        /// Since when.
        since: i64,
    },
    /// For longer than the boot image allows.
    #[error(
        "the repository's timestamp or snapshot expired {}, and this boot image believes it for {days} days after that at most: the store \
         has not reached its image repository for too long",
        moment(*.since)
    )]
    TooOld {
        /// Since when.
        since: i64,
        /// What is allowed.
        days: u16,
    },
}

impl Expired {
    /// For programs, on the screen and the store page.
    pub const CODE: &'static str = "metadata-expired";
}

/// Whether this metadata may be believed; `Some` when it has expired and is believed all the same.
///
/// # Errors
/// [`Expired`].
pub fn check(ends: Ends, clock: Clock, floor: &TrustFloor) -> Result<Option<Stale>, Expired> {
    let authenticated = clock.authenticated.map(OffsetDateTime::unix_timestamp);
    // Time has passed since the image was built, whatever clocks say.
    let now = clock.now.max(floor.built_at).unix_timestamp().max(authenticated.unwrap_or(i64::MIN));
    for (role, since) in [("root", ends.root), ("targets", ends.targets)] {
        if now >= since {
            return Err(Expired::Lasting { role, since });
        }
    }
    let since = ends.fresh;
    if now < since {
        return Ok(None);
    }
    if authenticated.is_some_and(|time| time >= since) {
        return Err(Expired::Authenticated { since });
    }
    let days = floor.staleness.max_age_days.min(Staleness::MOST_DAYS);
    let until = since.saturating_add(i64::from(days) * 86_400).min(ends.root).min(ends.targets);
    if now < until { Ok(Some(Stale { since, until })) } else { Err(Expired::TooOld { since, days }) }
}

/// A moment for people: `2026-11-21 02:00 UTC`.
#[must_use]
pub fn moment(unix: i64) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(unix) else { return "long ago".into() };
    format!("{} {:02}:{:02} UTC", time.date(), time.hour(), time.minute())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::manifest::RoleVersions;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;
    const FRESH: i64 = 100 * DAY;
    const ENDS: Ends = Ends { root: 1000 * DAY, targets: 400 * DAY, fresh: FRESH };

    fn floor(days: u16) -> TrustFloor {
        let roles = RoleVersions { targets: 1, snapshot: 1, timestamp: 1 };
        let built_at = OffsetDateTime::from_unix_timestamp(50 * DAY).unwrap();
        TrustFloor { version: 1, built_at, roles, staleness: Staleness { max_age_days: days } }
    }

    fn at(seconds: i64, authenticated: Option<i64>) -> Clock {
        let time = |unix| OffsetDateTime::from_unix_timestamp(unix).unwrap();
        Clock { now: time(seconds), authenticated: authenticated.map(time) }
    }

    #[test]
    fn expired_metadata_is_believed_for_as_long_as_the_image_allows() {
        let until = FRESH + 7 * DAY;
        assert_eq!(check(ENDS, at(FRESH - 1, None), &floor(7)), Ok(None));
        assert_eq!(check(ENDS, at(FRESH, None), &floor(7)), Ok(Some(Stale { since: FRESH, until })));
        assert_eq!(check(ENDS, at(until - 1, None), &floor(7)), Ok(Some(Stale { since: FRESH, until })));
        let late = check(ENDS, at(until, None), &floor(7)).unwrap_err();
        assert_eq!(late, Expired::TooOld { since: FRESH, days: 7 });
        assert!(
            late.to_string().contains("expired 1970-04-11 00:00 UTC") && late.to_string().contains("7 days"),
            "{late}"
        );
        assert!(check(ENDS, at(FRESH, None), &floor(0)).is_err(), "an image that allows nothing");
        let most = FRESH + i64::from(Staleness::MOST_DAYS) * DAY;
        assert!(check(ENDS, at(most - 1, None), &floor(u16::MAX)).is_ok());
        assert!(check(ENDS, at(most, None), &floor(u16::MAX)).is_err(), "no image may allow more than that");
    }

    #[test]
    fn root_and_targets_end_when_they_say() {
        for (ends, role) in [(Ends { targets: FRESH, ..ENDS }, "targets"), (Ends { root: FRESH, ..ENDS }, "root")] {
            assert_eq!(check(ends, at(FRESH, None), &floor(30)), Err(Expired::Lasting { role, since: FRESH }));
        }
        let short = Ends { targets: FRESH + DAY, ..ENDS };
        assert_eq!(check(short, at(FRESH, None), &floor(30)).unwrap().unwrap().until, FRESH + DAY);
    }

    #[test]
    fn an_authenticated_time_decides_and_a_clock_cannot_go_below_it_or_below_the_build() {
        let early = at(0, Some(FRESH));
        assert_eq!(check(ENDS, early, &floor(30)), Err(Expired::Authenticated { since: FRESH }));
        // What was vouched for before the end says nothing about the time since.
        assert!(matches!(check(ENDS, at(FRESH, Some(FRESH - 1)), &floor(30)), Ok(Some(_))));
        let before_the_build = Ends { fresh: 49 * DAY, ..ENDS };
        assert_eq!(check(before_the_build, at(0, None), &floor(0)), Err(Expired::TooOld { since: 49 * DAY, days: 0 }));
    }

    proptest! {
        #[test]
        fn a_later_clock_never_makes_more_believed(
            fresh in 0..2000_i64, targets in 0..2000_i64, root in 0..2000_i64, days in 0..100_u16,
            now in 0..2000_i64, later in 0..500_i64, authenticated in proptest::option::of(0..2000_i64),
        ) {
            let ends = Ends { root: root * DAY, targets: targets * DAY, fresh: fresh * DAY };
            let time = authenticated.map(|days| days * DAY);
            let then = check(ends, at((now + later) * DAY, time), &floor(days));
            if then.is_ok() {
                prop_assert!(check(ends, at(now * DAY, time), &floor(days)).is_ok());
                prop_assert!(check(ends, at(now * DAY, None), &floor(days)).is_ok());
                // Never longer than the bound, and never past what lasts.
                prop_assert!(now + later < fresh + i64::from(days.max(1)) && now + later < root.min(targets));
            }
        }
    }
}
