//! The machine's clock. A blank server may think that it is 1970, or 2038; certificates need the truth. The floor is when the image was
//! built, and in an installed system the last time that the region's TLS vouched for; above it the store's clock counts.

use crate::{durable, net::client::Netboot};
use anyhow::{Context, Result};
use contracts::assignment::TimeReply;
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_settime},
};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path, time::SystemTime};
use time::{Duration, OffsetDateTime};

/// The floor's file in the agent's folder on the state partition.
const FILE: &str = "clock.json";
/// Another time service may be at work in the installed system; what is nearer than this is left to it.
const LEFT_ALONE: Duration = Duration::seconds(30);

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(with = "time::serde::rfc3339")]
    floor: OffsetDateTime,
}

/// The time to set: the store's, never below the floor. `None` where `own` is near enough to leave it.
#[must_use]
pub fn choose(
    own: OffsetDateTime,
    store: OffsetDateTime,
    floor: OffsetDateTime,
    left_alone: Duration,
) -> Option<OffsetDateTime> {
    let wanted = store.max(floor);
    ((own - wanted).abs() > left_alone).then_some(wanted)
}

/// Takes the store's time, whatever the machine's own is. Returns what to say of it.
///
/// # Errors
/// When netboot does not answer, or the clock cannot be set.
pub async fn take(netboot: &Netboot, floor: OffsetDateTime) -> Result<String> {
    set_near(netboot, floor, Duration::ZERO).await
}

/// The same in an installed system, whose clock may be cared for already.
///
/// # Errors
/// As [`take`].
pub async fn correct(netboot: &Netboot, agents_folder: &Path) -> Result<String> {
    let floor = kept(agents_folder).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    set_near(netboot, floor, LEFT_ALONE).await
}

async fn set_near(netboot: &Netboot, floor: OffsetDateTime, left_alone: Duration) -> Result<String> {
    let reply: TimeReply = netboot.time().await?;
    let own = now();
    if let Some(time) = choose(own, reply.utc, floor, left_alone) {
        write(time)?;
    }
    Ok(format!("the clock was {} s off", (reply.utc.max(floor) - own).whole_seconds()))
}

/// Without anybody to ask, the machine's own clock has to do; but it is never below the floor.
///
/// # Errors
/// When the clock cannot be set.
pub fn at_least(floor: OffsetDateTime) -> Result<()> {
    if now() < floor { write(floor) } else { Ok(()) }
}

/// What is at least the time, as far as an installed system knows: kept from an earlier start, or when its image was built. It is
/// kept for the service, which cannot see the image's part in the initrd.
pub fn floor_of_installed(agents_folder: &Path, built_at: OffsetDateTime) -> OffsetDateTime {
    let kept = kept(agents_folder);
    if kept.is_none_or(|kept| kept < built_at) {
        // What was kept before may be lost, but never what is in the image.
        let _ = keep(agents_folder, built_at);
    }
    kept.map_or(built_at, |kept| kept.max(built_at))
}

/// The clock agreed with a certificate of the region: it is the floor from now on.
///
/// # Errors
/// When it cannot be written down; the floor stays as it was.
pub fn vouched_for(agents_folder: &Path) -> Result<()> {
    let now = now();
    // Two clocks may differ a little, and nothing is lost by a floor that is a day old.
    let floor = now - Duration::DAY;
    if kept(agents_folder).is_some_and(|kept| kept >= floor) { Ok(()) } else { keep(agents_folder, floor) }
}

fn kept(agents_folder: &Path) -> Option<OffsetDateTime> {
    let kept: Kept = serde_json::from_slice(&fs::read(agents_folder.join(FILE)).ok()?).ok()?;
    Some(kept.floor)
}

fn keep(agents_folder: &Path, floor: OffsetDateTime) -> Result<()> {
    durable::write(&agents_folder.join(FILE), &serde_json::to_vec(&Kept { floor })?, 0o644)
}

fn now() -> OffsetDateTime {
    SystemTime::now().into()
}

fn write(time: OffsetDateTime) -> Result<()> {
    let time = TimeSpec::new(time.unix_timestamp(), i64::from(time.nanosecond()));
    clock_settime(ClockId::CLOCK_REALTIME, time).context("setting the clock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const BUILT: OffsetDateTime = datetime!(2026-11-21 00:00 UTC);
    const STORE: OffsetDateTime = datetime!(2027-03-01 12:00 UTC);

    #[test]
    fn the_stores_clock_counts_above_the_floor() {
        let choose = |own, store| choose(own, store, BUILT, LEFT_ALONE);
        assert_eq!(choose(datetime!(1970-01-01 00:03 UTC), STORE), Some(STORE));
        assert_eq!(choose(datetime!(2038-02-01 00:00 UTC), STORE), Some(STORE), "backwards, but above the floor");
        assert_eq!(choose(STORE - LEFT_ALONE, STORE), None);
        let wrong_router = datetime!(1970-01-01 00:00 UTC);
        assert_eq!(choose(wrong_router, wrong_router), Some(BUILT));
        assert_eq!(choose(BUILT + Duration::HOUR, wrong_router), Some(BUILT));
    }

    #[test]
    fn the_floor_only_rises() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(floor_of_installed(folder.path(), BUILT), BUILT);
        assert_eq!(kept(folder.path()), Some(BUILT));
        let later = BUILT + Duration::DAY * 30;
        keep(folder.path(), later).unwrap();
        assert_eq!(floor_of_installed(folder.path(), BUILT), later, "an older image");
        assert_eq!(kept(folder.path()), Some(later));
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(floor_of_installed(folder.path(), BUILT), BUILT, "a damaged file");
    }
}
