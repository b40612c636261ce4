//! How often a machine gets a boot image before its install has ended well. Pure.
//!
//! A power-on in which the machine fetches its boot image is a try. The first ones cost nothing: somebody may have plugged the machine
//! in again. Then each next one waits longer, because firmware that refuses an image begins anew for ever, and takes
//! it whole each time. The pause ends by itself: whatever was wrong may have been put right.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// Tries older than this do not count.
const WITHIN: Duration = Duration::HOUR;
/// Tries within that time without a pause.
pub const FREE: usize = 5;
/// From the beginning of a try to the next one, after [`FREE`] tries and more.
const PAUSES: [Duration; 6] = [
    Duration::seconds(30),
    Duration::minutes(1),
    Duration::minutes(2),
    Duration::minutes(4),
    Duration::minutes(8),
    LONGEST,
];
/// No pause is longer.
pub const LONGEST: Duration = Duration::minutes(15);
/// No more are kept. So many do not fit into the hour.
const MOST: usize = 32;

/// A machine's tries since its last install: when each power-on began, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tries(#[serde(with = "times")] Vec<OffsetDateTime>);

impl Tries {
    /// Those that count. One in the future was counted before the clock was set back: it would stand in the way for as long.
    fn recent(&self, now: OffsetDateTime) -> impl DoubleEndedIterator<Item = OffsetDateTime> + '_ {
        self.0.iter().copied().filter(move |at| *at <= now && now - *at < WITHIN)
    }

    /// How many there were within the last hour.
    #[must_use]
    pub fn count(&self, now: OffsetDateTime) -> usize {
        self.recent(now).count()
    }

    /// Counts the try that began with this power-on. False when it was counted before.
    pub fn begin(&mut self, power_on: OffsetDateTime) -> bool {
        if self.0.last() == Some(&power_on) {
            return false;
        }
        self.0.retain(|at| *at < power_on && power_on - *at < WITHIN);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(power_on);
        true
    }

    /// Until when the next try has to wait; `None` when it may begin now.
    #[must_use]
    pub fn paused_until(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let beyond = self.count(now).checked_sub(FREE)?;
        let until = self.recent(now).next_back()? + PAUSES[beyond.min(PAUSES.len() - 1)];
        (now < until).then_some(until)
    }

    /// Whether a machine's firmware is answered now, whose power-on began then: the try under way always goes on.
    #[must_use]
    pub fn may_go_on(&self, power_on: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
        power_on.is_some() && power_on == self.0.last().copied() || self.paused_until(now).is_none()
    }

    /// `third try within 10 minutes`, from the second one on.
    #[must_use]
    pub fn words(&self, now: OffsetDateTime) -> Option<String> {
        const NAMES: [&str; 9] = ["second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];
        let count = self.count(now);
        let first = self.recent(now).next()?;
        let nth = match NAMES.get(count.checked_sub(2)?) {
            Some(name) => (*name).to_owned(),
            None => format!("{count}th"),
        };
        let minutes = (now - first).whole_minutes() + 1;
        Some(format!("{nth} try within {minutes} minute{}", if minutes == 1 { "" } else { "s" }))
    }
}

mod times {
    use serde::{Deserialize, Deserializer, Serializer};
    use time::OffsetDateTime;

    /// Unix milliseconds: a ledger line has many.
    pub(super) fn serialize<S: Serializer>(times: &[OffsetDateTime], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(times.iter().map(|at| i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<OffsetDateTime>, D::Error> {
        let mut millis = Vec::<i64>::deserialize(from)?;
        millis.truncate(super::MOST);
        let time = |at: &i64| OffsetDateTime::from_unix_timestamp_nanos(i128::from(*at) * 1_000_000).ok();
        Ok(millis.iter().filter_map(time).collect())
    }
}

/// To the millisecond, as it is kept.
#[must_use]
pub fn to_the_millisecond(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_millisecond(time.millisecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::days(9000) + Duration::seconds(seconds)
    }

    #[test]
    fn firmware_that_begins_anew_for_ever_is_slowed_down_and_never_shut_out() {
        let (mut tries, mut now, mut begun) = (Tries::default(), 0, Vec::new());
        while now < 2 * 3600 {
            // It comes back every twenty seconds.
            if tries.may_go_on(None, at(now)) {
                tries.begin(at(now));
                begun.push(now);
            }
            now += 20;
        }
        assert_eq!(begun[..9], [0, 20, 40, 60, 80, 120, 180, 300, 540]);
        let of_an_hour = |from| begun.iter().filter(|t| (from..from + 3600).contains(*t)).count();
        assert_eq!(of_an_hour(0), 12);
        assert!((3600..7200).map(of_an_hour).all(|n| n <= 12));
        assert!(begun.windows(2).all(|pair| pair[1] - pair[0] <= 15 * 60 + 20));
    }

    #[test]
    fn tries_are_told_in_words() {
        let mut tries = Tries::default();
        assert_eq!(tries.words(at(0)), None);
        for (n, words) in
            [(0, None), (90, Some("second try within 2 minutes")), (590, Some("third try within 10 minutes"))]
        {
            assert!(tries.begin(at(n)));
            assert!(!tries.begin(at(n)), "the same power-on");
            assert_eq!(tries.words(at(n)).as_deref(), words);
        }
        assert_eq!(tries.words(at(3600)).as_deref(), Some("second try within 59 minutes"), "the first is an hour ago");
    }

    #[test]
    fn a_try_under_way_goes_on_however_many_there_were() {
        let mut tries = Tries::default();
        for n in 0..9 {
            tries.begin(at(n));
        }
        assert!(tries.may_go_on(Some(at(8)), at(9)));
        assert!(!tries.may_go_on(Some(at(9)), at(9)) && !tries.may_go_on(None, at(9)));
        assert!(tries.may_go_on(None, at(-5)), "the clock was set back");
    }

    proptest! {
        /// Whenever tries began, in whatever order the clock had them: no pause is longer than the longest, and nothing grows.
        #[test]
        fn the_pause_ends(begun in prop::collection::vec(-8000_i64..8000, 0..60), now in -8000_i64..8000) {
            let mut tries = Tries::default();
            for second in begun {
                tries.begin(at(second));
                prop_assert!(tries.0.len() <= MOST && tries.0.is_sorted());
            }
            if let Some(until) = tries.paused_until(at(now)) {
                prop_assert!(until > at(now) && until - at(now) <= LONGEST);
                prop_assert!(tries.paused_until(until).is_none());
            }
            let again: Tries = serde_json::from_slice(&serde_json::to_vec(&tries).unwrap()).unwrap();
            prop_assert_eq!(again, tries);
        }
    }
}
