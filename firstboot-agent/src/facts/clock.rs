//! Whether the machine's own clock can be believed. A blank server may think that it is 1970, or 2038.

use super::System;
use contracts::{
    facts::{Clock, ClockVerdict},
    manifest::TrustFloor,
};
use time::{Duration, OffsetDateTime};

/// An image that is older than this is no measure for a clock any more, but nobody installs one.
const LATEST: Duration = Duration::days(3653);

pub(super) fn read(system: &System) -> Clock {
    let rtc = system.number("sys/class/rtc/rtc0/since_epoch").and_then(|n| i64::try_from(n).ok());
    let rtc = rtc.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let floor = std::fs::read(system.path("etc/shelfboot/trust.json")).ok();
    let floor = floor.and_then(|bytes| contracts::read::<TrustFloor>(&bytes).ok()).map(|floor| floor.built_at);
    Clock { rtc, floor, verdict: verdict(rtc, floor) }
}

fn verdict(rtc: Option<OffsetDateTime>, floor: Option<OffsetDateTime>) -> ClockVerdict {
    match rtc.zip(floor) {
        None => ClockVerdict::Unknown,
        Some((rtc, floor)) if rtc < floor => ClockVerdict::TooEarly,
        Some((rtc, floor)) if rtc - floor > LATEST => ClockVerdict::TooLate,
        Some(_) => ClockVerdict::Plausible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_clock_is_held_against_the_image() {
        let floor = Some(datetime!(2026-11-21 00:00 UTC));
        for (rtc, expected) in [
            (Some(datetime!(1970-01-01 00:03 UTC)), ClockVerdict::TooEarly),
            (Some(datetime!(2026-11-20 23:59 UTC)), ClockVerdict::TooEarly),
            (Some(datetime!(2026-11-21 00:00 UTC)), ClockVerdict::Plausible),
            (Some(datetime!(2031-01-01 00:00 UTC)), ClockVerdict::Plausible),
            (Some(datetime!(2038-01-19 03:14 UTC)), ClockVerdict::TooLate),
            (None, ClockVerdict::Unknown),
        ] {
            assert_eq!(verdict(rtc, floor), expected, "{rtc:?}");
        }
        assert_eq!(verdict(floor, None), ClockVerdict::Unknown);
    }
}
