//! `repo gc`: what nobody can ask for any more goes, and what somebody may still be fetching stays.
//!
//! Needed are the current metadata with all that it leads to, every root, and whatever was current at some moment within
//! the grace period: a reader that began then may not be through yet.

use super::{
    Problem, chain,
    chain::Chain,
    content::{self, Content, Document},
    layout,
    source::{Source, SourceError},
};
use crate::{
    files::{self, FileError, at},
    repository::{self, RepositoryError},
};
use serde::Serialize;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};
use tough::schema::{Root, Signed, Targets};

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// What is needed cannot be worked out.
    #[error("the repository is damaged: {}: {}", .0.file, .0.message)]
    Damaged(Problem),
    /// The lock.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The metadata cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// One file that goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Garbage {
    /// Path below the repository.
    pub path: String,
    /// Bytes that are won; 0 where another name of the same file stays or went before.
    pub bytes: u64,
}

/// A file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    path: String,
    bytes: u64,
    inode: (u64, u64),
    modified: SystemTime,
}

/// Removes what nobody needs, or only says what that is. Holds the repository's lock.
///
/// # Errors
/// See [`GcError`].
pub async fn collect(
    folder: &Path,
    trusted: Signed<Root>,
    grace: Duration,
    dry_run: bool,
    now: SystemTime,
) -> Result<Vec<Garbage>, GcError> {
    let _lock = repository::lock(folder).await?;
    let source = Source::Folder(folder.to_owned());
    let chain = chain::walk(&source, trusted, jiff::Timestamp::try_from(now).unwrap_or(jiff::Timestamp::MAX)).await?;
    if let Some(problem) = chain.problems.iter().find(|problem| problem.code != "expired") {
        return Err(GcError::Damaged(problem.clone()));
    }
    let found = list(folder)?;
    let mut needed = current(folder, &chain)?;
    needed.extend(recent(folder, &chain, &found, grace, now));
    let garbage = decide(found, &needed);
    if !dry_run {
        // Metadata first: nothing that is still there leads to what is gone.
        for entry in &garbage {
            files::remove(&folder.join(&entry.path))?;
        }
        remove_empty(folder)?;
    }
    Ok(garbage)
}

/// What the current metadata leads to.
fn current(folder: &Path, chain: &Chain) -> Result<BTreeSet<String>, GcError> {
    let mut needed: BTreeSet<String> = chain.files.iter().map(|(path, _)| path.clone()).collect();
    for (name, target) in &chain.all {
        needed.extend(layout::target_paths(name, &hex::encode(&target.hashes.sha256)));
        if !name.starts_with("images/") || !name.ends_with("/manifest.json") {
            continue;
        }
        let (bytes, problems) = content::check_target(folder, name, target);
        let damaged = |message: String| GcError::Damaged(Problem::new(name, "document", message));
        let bytes = bytes.ok_or_else(|| {
            problems.into_iter().next().map_or_else(|| damaged("it cannot be read".into()), GcError::Damaged)
        })?;
        match content::read_document(name, &bytes) {
            Some(Ok(Document::Manifest(manifest))) => drop(needed.insert(manifest.archive.path)),
            Some(Err(message)) => return Err(damaged(message)),
            _ => {}
        }
    }
    Ok(needed)
}

/// What older versions lead to that were current at some moment within the grace period: until the file of the next
/// version was written.
fn recent(folder: &Path, chain: &Chain, found: &[Found], grace: Duration, now: SystemTime) -> BTreeSet<String> {
    let mut roles: BTreeMap<&str, BTreeMap<u64, &Found>> = BTreeMap::new();
    for file in found {
        let name = file.path.strip_prefix("metadata/").unwrap_or_default();
        if let Some((version, role)) = layout::metadata_version(name) {
            roles.entry(role).or_default().insert(version, file);
        }
    }
    let begin = now.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    let current = |role: &str| chain.roles.iter().find(|state| state.role == role).map_or(0, |state| state.version);
    let mut needed = BTreeSet::new();
    for (role, versions) in &roles {
        for pair in versions.iter().zip(versions.iter().skip(1)) {
            let ((version, file), (next, superseded)) = pair;
            // A version above the current one was never current: its publisher was killed.
            if *next > current(role) || *version > current(role) || superseded.modified < begin {
                continue;
            }
            needed.insert(file.path.clone());
            let targets = fs::read(folder.join(&file.path)).ok();
            let targets = targets.and_then(|bytes| serde_json::from_slice::<Signed<Targets>>(&bytes).ok());
            for (name, target) in targets.iter().flat_map(|targets| &targets.signed.targets) {
                needed.extend(layout::target_paths(name.raw(), &hex::encode(&target.hashes.sha256)));
                if name.raw().ends_with("/manifest.json")
                    && let (Some(bytes), _) = content::check_target(folder, name.raw(), target)
                    && let Some(Ok(Document::Manifest(manifest))) = content::read_document(name.raw(), &bytes)
                {
                    needed.insert(manifest.archive.path);
                }
            }
        }
    }
    needed
}

/// What goes, metadata first. Roots never go: each is a step on the way of a reader who was away for long.
fn decide(found: Vec<Found>, needed: &BTreeSet<String>) -> Vec<Garbage> {
    let stays = |file: &Found| {
        let name = file.path.strip_prefix("metadata/").unwrap_or_default();
        needed.contains(&file.path)
            || name == "root.json"
            || layout::metadata_version(name).is_some_and(|(_, role)| role == "root")
    };
    let (kept, gone): (Vec<Found>, Vec<Found>) = found.into_iter().partition(stays);
    let mut counted: BTreeSet<(u64, u64)> = kept.iter().map(|file| file.inode).collect();
    let mut garbage: Vec<Garbage> = gone
        .into_iter()
        .map(|file| Garbage { bytes: if counted.insert(file.inode) { file.bytes } else { 0 }, path: file.path })
        .collect();
    garbage.sort_by_key(|entry| (!entry.path.starts_with("metadata/"), entry.path.clone()));
    garbage
}

/// Every file below the three folders, and what a killed publisher left beside them. Links are not followed.
fn list(folder: &Path) -> Result<Vec<Found>, FileError> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = Vec::new();
    let mut open: Vec<String> = ["metadata", "targets", "archives"].map(str::to_owned).to_vec();
    for entry in fs::read_dir(folder).map_err(at("look at", folder))? {
        let name = entry.map_err(at("look at", folder))?.file_name();
        open.extend(name.to_str().filter(|name| name.starts_with(files::NEW_PREFIX)).map(str::to_owned));
    }
    while let Some(path) = open.pop() {
        let place = folder.join(&path);
        let metadata = match fs::symlink_metadata(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(at("look at", &place))?,
        };
        if metadata.is_dir() {
            for entry in fs::read_dir(&place).map_err(at("look at", &place))? {
                // A name that is no text cannot be one of ours.
                if let Some(name) = entry.map_err(at("look at", &place))?.file_name().to_str() {
                    open.push(format!("{path}/{name}"));
                }
            }
            continue;
        }
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Found { path, bytes: metadata.len(), inode: (metadata.dev(), metadata.ino()), modified });
    }
    Ok(found)
}

/// Removes folders below `targets/` that hold nothing any more, and those of killed publishers.
fn remove_empty(folder: &Path) -> Result<(), FileError> {
    let mut open = vec![folder.join("targets"), folder.join("metadata"), folder.join("archives")];
    let mut folders = Vec::new();
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(&place).map_err(at("look at", &place))? {
            let entry = entry.map_err(at("look at", &place))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
                folders.push(entry.path());
            }
        }
    }
    // The deepest first; one that still holds something stays.
    for place in folders.iter().rev() {
        let _ = fs::remove_dir(place);
    }
    Ok(())
}

/// Images that are no longer to be offered when each template keeps its newest `keep` versions: never one that a channel
/// or a rollout names.
#[must_use]
pub fn outdated(content: &Content, keep: usize) -> Vec<(String, String)> {
    let mut named: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (name, channel) in &content.channels {
        named.extend(name.split('/').nth(1).map(|template| (template, channel.image_version.as_str())));
    }
    named.extend(content.rollouts.values().map(|rollout| (rollout.template.as_str(), rollout.image_version.as_str())));
    let mut templates: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for manifest in content.manifests.values() {
        templates.entry(&manifest.template).or_default().push(&manifest.image_version);
    }
    let mut gone = Vec::new();
    for (template, mut versions) in templates {
        versions.sort_by(|one, two| compare_versions(two, one));
        let old = versions.into_iter().skip(keep).filter(|version| !named.contains(&(template, *version)));
        gone.extend(old.map(|version| (template.to_owned(), version.to_owned())));
    }
    gone
}

/// The order of versions: numbers as numbers, words as words, and what follows a `~` comes before what has none (UAPI
/// Version Format Specification, in as far as names of images can differ).
#[must_use]
pub fn compare_versions(one: &str, two: &str) -> Ordering {
    fn parts(version: &str) -> Vec<(u8, u128, &str)> {
        let mut parts = Vec::new();
        let mut rest = version;
        while let Some(first) = rest.chars().next() {
            let same = |c: char| {
                if first.is_ascii_digit() {
                    c.is_ascii_digit()
                } else {
                    c.is_ascii_alphabetic() && first.is_ascii_alphabetic()
                }
            };
            let end = rest.find(|c: char| !same(c)).unwrap_or(rest.len()).max(first.len_utf8());
            let (part, left) = rest.split_at(end);
            match first {
                '~' => parts.push((0, 0, "")),
                _ if first.is_ascii_digit() => parts.push((3, part.parse().unwrap_or(u128::MAX), "")),
                _ if first.is_ascii_alphabetic() => parts.push((2, 0, part)),
                _ => {}
            }
            rest = left;
        }
        // Where one ends and the other goes on, `~` is less than the end, and everything else is more.
        parts.push((1, 0, ""));
        parts
    }
    // Two that differ in separators only are still two.
    parts(one).cmp(&parts(two)).then_with(|| one.cmp(two))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_in_order() {
        let mut versions = ["2026.11.21.090000", "2026.9.1", "1.0~rc1", "1.0", "1.0.1", "1.10", "1.9", "1.0b"];
        versions.sort_by(|one, two| compare_versions(one, two));
        assert_eq!(versions, ["1.0~rc1", "1.0", "1.0b", "1.0.1", "1.9", "1.10", "2026.9.1", "2026.11.21.090000"]);
    }

    #[test]
    fn another_name_of_a_file_that_stays_wins_nothing() {
        let file = |path: &str, inode| Found {
            path: path.into(),
            bytes: 10,
            inode: (1, inode),
            modified: SystemTime::UNIX_EPOCH,
        };
        let found = vec![file("targets/a", 1), file("targets/b", 1), file("targets/c", 2), file("targets/d", 2)];
        let found = [found, vec![file("metadata/3.root.json", 4), file("metadata/3.targets.json", 5)]].concat();
        let garbage = decide(found, &BTreeSet::from(["targets/a".to_owned()]));
        let rows: Vec<_> = garbage.iter().map(|entry| (entry.path.as_str(), entry.bytes)).collect();
        assert_eq!(rows, [("metadata/3.targets.json", 10), ("targets/b", 0), ("targets/c", 10), ("targets/d", 0)]);
    }

    proptest! {
        #[test]
        fn versions_have_one_order(one in "[a-c0-2.~-]{0,8}", two in "[a-c0-2.~-]{0,8}", three in "[a-c0-2.~-]{0,8}") {
            prop_assert_eq!(compare_versions(&one, &two), compare_versions(&two, &one).reverse());
            prop_assert_eq!(compare_versions(&one, &two) == Ordering::Equal, one == two);
            if compare_versions(&one, &two).is_le() && compare_versions(&two, &three).is_le() {
                prop_assert!(compare_versions(&one, &three).is_le());
            }
        }
    }
}
