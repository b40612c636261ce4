//! What this store needs of a repository, and when: pure functions of signed metadata, assignments and rollouts.

use super::metadata::Listed;
use contracts::{
    assignment::ImageRef,
    manifest::{Archive, Channel, ImageManifest},
    repository,
    rollout::Rollout,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, time::Duration};
use time::OffsetDateTime;

/// The registrar's CA certificates are needed whatever is installed.
pub const REGISTRAR_CA: &str = "region/registrar-ca.pem";
/// Documents are small; a larger one is none.
pub const LARGEST_DOCUMENT: u64 = 1 << 20;
/// Stores that hear of a version when it is nearly due spread their fetching over at most this.
const LATE_SPREAD: Duration = Duration::from_secs(1800);

/// How the bytes of an object are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judge {
    /// A target: the SHA-256 of all of it.
    Whole([u8; 32]),
    /// An archive: header and chunks.
    Chunks(Box<Archive>),
}

/// One file that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Below the repository, under the name by which `tough` asks for it.
    pub path: String,
    /// Another name of it, which some servers have only.
    pub other: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// How it is judged.
    pub judge: Judge,
}

impl Object {
    /// A target of this name.
    #[must_use]
    pub fn target(name: &str, (bytes, digest): Listed) -> Self {
        let [other, path] = repository::target_paths(name, &hex::encode(digest));
        let other = Some(other).filter(|other| *other != path);
        Self { path, other, bytes, judge: Judge::Whole(digest) }
    }

    fn archive(archive: &Archive) -> Self {
        Self {
            path: archive.path.clone(),
            other: None,
            bytes: archive.bytes,
            judge: Judge::Chunks(Box::new(archive.clone())),
        }
    }
}

/// An image that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The template.
    pub template: String,
    /// The version.
    pub version: String,
    /// From when on it is to be fetched; `None` is now, because machines are given it now.
    pub due: Option<OffsetDateTime>,
    /// All that it consists of; what is installed last comes first: who finds the boot image finds everything.
    pub objects: Vec<Object>,
}

/// The documents that say what an assignment means: its channel and its rollout, as far as they are listed.
#[must_use]
pub fn documents(image: &ImageRef, targets: &BTreeMap<String, Listed>) -> Vec<String> {
    let names =
        [Channel::target_name(&image.template, &image.channel), Rollout::target_name(&image.template, &image.channel)];
    names.into_iter().filter(|name| targets.contains_key(name)).collect()
}

/// All that an image consists of.
///
/// # Errors
/// What is missing, in words.
pub fn objects(manifest: &ImageManifest, targets: &BTreeMap<String, Listed>) -> Result<Vec<Object>, String> {
    let mut objects = vec![Object::archive(&manifest.archive)];
    let name = ImageManifest::target_name(&manifest.template, &manifest.image_version);
    // The boot image last: it is what begins an installation.
    let mut names: Vec<&str> = manifest.targets();
    names.reverse();
    for name in names.into_iter().chain([name.as_str()]) {
        let listed = targets.get(name).ok_or_else(|| format!("the repository has no target {name}"))?;
        let object = Object::target(name, *listed);
        if !objects.contains(&object) {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// When a rollout brings its image to this store; `None` when no ring does, or it is halted.
#[must_use]
pub fn reaches_at(rollout: &Rollout, store: &str) -> Option<OffsetDateTime> {
    if rollout.halted {
        return None;
    }
    let bucket = rollout.bucket(store);
    let ring = rollout.rings.iter().find(|ring| bucket < ring.percent || ring.stores.iter().any(|name| name == store));
    ring.and_then(|ring| rollout.start.checked_add(time::Duration::hours(i64::from(ring.after_hours))))
}

/// A store's place within the time over which fetching is spread, 0.0 to 1.0: the same for the same version, another one
/// for the next.
#[must_use]
pub fn place(store: &str, template: &str, version: &str) -> f64 {
    let mut hasher = Sha256::new();
    for part in ["prefetch", store, template, version] {
        hasher.update(part);
        hasher.update([0]);
    }
    let number = hasher.finalize().iter().take(4).fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
    f64::from(number) / f64::from(u32::MAX)
}

/// When to fetch what is announced for `reach`, first seen at `seen`: in the time `spread` that ends `lead` before it. Who
/// hears of it too late for that fetches soon, but not in the same minute as everybody else.
#[must_use]
pub fn fetch_at(
    reach: OffsetDateTime,
    seen: OffsetDateTime,
    place: f64,
    lead: Duration,
    spread: Duration,
) -> OffsetDateTime {
    let minus =
        |time: OffsetDateTime, span: Duration| time.checked_sub(time::Duration::try_from(span).unwrap_or_default());
    let planned = minus(reach, lead).and_then(|end| minus(end, spread.mul_f64(1.0 - place)));
    match planned {
        Some(planned) if planned >= seen => planned,
        _ => {
            let left = Duration::try_from(reach - seen).unwrap_or_default();
            seen + (left / 2).min(LATE_SPREAD).mul_f64(place)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::rollout::Ring;
    use proptest::prelude::*;
    use time::macros::datetime;

    const SEEN: OffsetDateTime = datetime!(2026-11-21 02:00 UTC);

    #[test]
    fn a_store_is_reached_by_its_ring() {
        let ring = |after_hours, percent, stores: &[&str]| Ring {
            after_hours,
            percent,
            stores: stores.iter().map(|store| (*store).to_owned()).collect(),
        };
        let rollout = Rollout {
            version: 1,
            template: "till".into(),
            channel: "stable".into(),
            image_version: "2".into(),
            start: SEEN,
            rings: vec![ring(0, 0, &["pilot"]), ring(24, 50, &[])],
            window: None,
            halted: false,
        };
        assert_eq!(reaches_at(&rollout, "pilot"), Some(SEEN));
        let others: Vec<_> = (0..100).map(|n| reaches_at(&rollout, &format!("store-{n}"))).collect();
        assert!(others.iter().all(|at| at.is_none_or(|at| at == SEEN + time::Duration::hours(24))));
        let reached = others.iter().flatten().count();
        assert!((25..75).contains(&reached), "{reached}");
        assert_eq!(reaches_at(&Rollout { halted: true, ..rollout }, "pilot"), None);
    }

    #[test]
    fn thousands_of_stores_do_not_fetch_in_the_same_minute() {
        for reach in [SEEN + time::Duration::days(7), SEEN + time::Duration::hours(1)] {
            let mut minutes = BTreeMap::<i64, u32>::new();
            for store in 0..5000 {
                let place = place(&format!("store-{store:04}"), "till", "2");
                let at = fetch_at(reach, SEEN, place, Duration::from_secs(86400), Duration::from_secs(86400));
                *minutes.entry(at.unix_timestamp() / 60).or_default() += 1;
            }
            let most = minutes.values().max().copied().unwrap_or_default();
            assert!(most < if minutes.len() > 1000 { 20 } else { 250 }, "{most} in one of {} minutes", minutes.len());
        }
    }

    proptest! {
        /// It is never before the announcement, and always before the start where that is possible.
        #[test]
        fn announced_versions_come_in_time(
            ahead in -100_000i64..2_000_000, place in 0.0f64..=1.0, lead in 0u64..400_000, spread in 0u64..400_000,
        ) {
            let reach = SEEN + time::Duration::seconds(ahead);
            let at = fetch_at(reach, SEEN, place, Duration::from_secs(lead), Duration::from_secs(spread));
            prop_assert!(at >= SEEN);
            prop_assert!(at <= reach.max(SEEN));
        }
    }
}
