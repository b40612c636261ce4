//! What may go so that something else has room: a pure plan.

use super::folder::Found;
use std::{collections::HashSet, time::SystemTime};

/// What is left alone of a disk, for the rest of the machine.
pub const RESERVE: u64 = 64 << 20;

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The most that the cache may take.
    pub most: Option<u64>,
    /// What the disk has left; `None` when it does not say.
    pub free: Option<u64>,
}

/// There is no room, whatever goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes that are wanted.
    pub needed: u64,
    /// Bytes that are missing when everything has gone that may go.
    pub missing: u64,
    /// True when it is the disk that is too small, and not `cacheSize`.
    pub disk: bool,
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |bytes: u64| bytes.div_ceil(1_000_000);
        let bound = if self.disk { "the cache's disk has too little room" } else { "`cacheSize` is too small" };
        write!(
            f,
            "{bound}: {} MB are to be fetched, and {} MB are missing although everything else was given up",
            mb(self.needed),
            mb(self.missing)
        )
    }
}

/// Which files have to go before `needed` more bytes are fetched: those that have not been used for longest, never one of
/// `kept`. Nothing goes when it would not help.
///
/// # Errors
/// [`NoRoom`].
pub fn plan(
    files: &[Found],
    kept: &HashSet<String>,
    used: impl Fn(&Found) -> SystemTime,
    needed: u64,
    room: Room,
) -> Result<Vec<String>, NoRoom> {
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    // How much too much there would be, by each of the two bounds.
    let over_most = room.most.map_or(0, |most| total.saturating_add(needed).saturating_sub(most));
    let over_disk = match room.free {
        Some(free) if needed > 0 => needed.saturating_add(RESERVE).saturating_sub(free),
        _ => 0,
    };
    let over = over_most.max(over_disk);
    let mut may: Vec<&Found> = files.iter().filter(|file| !kept.contains(&file.path)).collect();
    may.sort_by_key(|file| (used(file), file.path.clone()));
    let (mut gone, mut won) = (Vec::new(), 0u64);
    for file in may {
        if won >= over {
            break;
        }
        won += file.bytes;
        gone.push(file.path.clone());
    }
    if won >= over {
        return Ok(gone);
    }
    Err(NoRoom { needed, missing: over - won, disk: over_disk > over_most })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn file(path: &str, bytes: u64, age: u64) -> Found {
        Found { path: path.into(), bytes, modified: SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age) }
    }

    #[test]
    fn the_oldest_goes_first_and_what_is_assigned_never() {
        let files = [file("a", 100, 9), file("b", 100, 500), file("c", 100, 50)];
        let plan = |kept: &[&str], needed, most| {
            let kept = kept.iter().map(|name| (*name).to_owned()).collect();
            plan(&files, &kept, |file| file.modified, needed, Room { most: Some(most), free: None })
        };
        assert_eq!(plan(&[], 100, 400), Ok(vec![]));
        assert_eq!(plan(&[], 100, 399), Ok(vec!["b".to_owned()]));
        assert_eq!(plan(&["b"], 100, 399), Ok(vec!["c".to_owned()]));
        assert_eq!(plan(&["a", "b"], 200, 350), Err(NoRoom { needed: 200, missing: 50, disk: false }));
        let full = Room { most: None, free: Some(RESERVE) };
        let error = super::plan(&files, &HashSet::new(), |file| file.modified, 1000, full).unwrap_err();
        assert!(error.disk && error.to_string().contains("disk"), "{error}");
        assert_eq!(super::plan(&files, &HashSet::new(), |file| file.modified, 250, full).unwrap().len(), 3);
    }

    proptest! {
        #[test]
        fn no_more_goes_than_must_and_never_what_is_kept(
            files in proptest::collection::vec((1u64..1000, 0u64..999, any::<bool>()), 0..40),
            needed in 0u64..5000, most in proptest::option::of(0u64..20_000), free in proptest::option::of(0u64..5000),
        ) {
            let found: Vec<_> = files.iter().enumerate().map(|(n, (bytes, age, _))| file(&n.to_string(), *bytes, *age)).collect();
            let kept: HashSet<String> = found.iter().zip(&files).filter(|(_, (_, _, kept))| *kept).map(|(f, _)| f.path.clone()).collect();
            let room = Room { most, free: free.map(|free| free + RESERVE) };
            let fits = |gone: &[String]| {
                let won: u64 = found.iter().filter(|f| gone.contains(&f.path)).map(|f| f.bytes).sum();
                let total: u64 = found.iter().map(|f| f.bytes).sum();
                most.is_none_or(|most| total + needed <= most + won) && free.is_none_or(|free| needed <= free + won)
            };
            match plan(&found, &kept, |file| file.modified, needed, room) {
                Ok(gone) => {
                    prop_assert!(gone.iter().all(|path| !kept.contains(path)));
                    prop_assert!(fits(&gone));
                    if let Some((_, fewer)) = gone.split_last() {
                        prop_assert!(!fits(fewer));
                    }
                }
                Err(_) => {
                    let all: Vec<String> = found.iter().map(|f| f.path.clone()).filter(|path| !kept.contains(path)).collect();
                    prop_assert!(!fits(&all));
                }
            }
        }
    }
}
