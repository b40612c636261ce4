//! The repository's metadata: fetched from an upstream, verified by `tough` from the root of trust, and kept as the bytes
//! that were verified.

use super::fetch::{FetchError, Fetcher};
use contracts::repository;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use time::OffsetDateTime;
use tough::{
    Bytes, ExpirationEnforcement, FilesystemTransport, Repository, RepositoryLoader, Transport, TransportError,
    TransportErrorKind, TransportStream, schema::Role,
};
use url::Url;

use crate::shared::lock;

/// Bounds of `tough`'s own for metadata files.
pub(crate) const LARGEST: u64 = 10 << 20;

/// One target: its length and SHA-256.
pub type Listed = (u64, [u8; 32]);

/// Until when the roles are valid, Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The earlier one of root and targets: the keys' and the content's own dates.
    pub lasting: i64,
    /// The earlier one of timestamp and snapshot, which are renewed all the time.
    pub fresh: i64,
}

/// Whether metadata may be offered to machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is valid.
    Fresh,
    /// Timestamp or snapshot has expired, but not for longer than the policy allows.
    Stale {
        /// Since when, Unix time.
        since: i64,
        /// Until when the policy allows it, Unix time.
        until: i64,
    },
    /// It has expired, and is not offered.
    TooOld {
        /// Since when, Unix time.
        since: i64,
    },
}

impl Expiry {
    /// The dates of a repository.
    #[must_use]
    pub fn of(repository: &Repository) -> Self {
        let (root, targets) = (repository.root().signed.expires(), repository.targets().signed.expires());
        let (timestamp, snapshot) = (repository.timestamp().signed.expires(), repository.snapshot().signed.expires());
        Self { lasting: root.min(targets).as_second(), fresh: timestamp.min(snapshot).as_second() }
    }

    /// Whether it may be offered at this time, when expired timestamps and snapshots are for `stale`.
    #[must_use]
    pub fn freshness(&self, now: OffsetDateTime, stale: Duration) -> Freshness {
        let now = now.unix_timestamp();
        let until = self.fresh.saturating_add(i64::try_from(stale.as_secs()).unwrap_or(i64::MAX)).min(self.lasting);
        if now >= self.lasting {
            Freshness::TooOld { since: self.lasting.min(self.fresh) }
        } else if now < self.fresh {
            Freshness::Fresh
        } else if now < until {
            Freshness::Stale { since: self.fresh, until }
        } else {
            Freshness::TooOld { since: self.fresh }
        }
    }
}

/// A moment for people: `2026-11-21 02:00 UTC`.
#[must_use]
pub fn moment(unix: i64) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(unix) else { return "long ago".into() };
    format!("{} {:02}:{:02} UTC", time.date(), time.hour(), time.minute())
}

/// Metadata that `tough` believes.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Every file of it, by name below `metadata/`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// All targets whose names are safe as paths.
    pub targets: BTreeMap<String, Listed>,
    /// Its dates.
    pub expiry: Expiry,
    /// The version of its timestamp.
    pub version: u64,
    /// The version of its root.
    pub root_version: u64,
}

/// Why metadata is not believed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The line, not the content.
    #[error(transparent)]
    Fetch(FetchError),
    /// `tough` does not believe it.
    #[error("it does not verify")]
    Verify(#[source] Box<tough::error::Error>),
    /// What is kept here cannot be read or written.
    #[error("the folder of known metadata {0} cannot be used")]
    Datastore(String, #[source] std::io::Error),
}

impl MetadataError {
    /// True when it is older than what was seen before.
    #[must_use]
    pub fn is_rollback(&self) -> bool {
        use tough::error::Error;
        let Self::Verify(error) = self else { return false };
        matches!(**error, Error::OlderMetadata { .. } | Error::OlderSnapshotInTimestamp { .. })
    }
}

/// Fetches and verifies an upstream's metadata. `known` is what is here already: versioned files of the same name are
/// taken from there, since snapshot and timestamp hold them by digest.
///
/// # Errors
/// See [`MetadataError`].
pub async fn fetch(
    fetcher: &Fetcher,
    base: &Url,
    root: &[u8],
    datastore: &Path,
    known: &BTreeMap<String, Vec<u8>>,
) -> Result<Verified, MetadataError> {
    std::fs::create_dir_all(datastore).map_err(|e| MetadataError::Datastore(datastore.display().to_string(), e))?;
    forget_time(datastore);
    let transport = Recorder {
        fetcher: fetcher.clone(),
        base: base.clone(),
        known: Arc::new(known.clone()),
        files: Arc::default(),
        failed: Arc::default(),
    };
    let (files, failed) = (Arc::clone(&transport.files), Arc::clone(&transport.failed));
    // The address stands for the upstream: the transport looks at nothing but the file's name.
    let place = |folder: &str| base.join(folder).unwrap_or_else(|_| base.clone());
    let loader = RepositoryLoader::new(&root, place("metadata/"), place("targets/"))
        .transport(transport)
        .datastore(datastore)
        // What has expired is decided on with our own policy, see [`Expiry`].
        .expiration_enforcement(ExpirationEnforcement::Unsafe);
    let repository = match loader.load().await {
        Ok(repository) => repository,
        Err(error) => {
            return Err(match lock(&failed).take() {
                Some(error) => MetadataError::Fetch(error),
                None => MetadataError::Verify(Box::new(error)),
            });
        }
    };
    let mut files = std::mem::take(&mut *lock(&files));
    let root_version = repository.root().signed.version.get();
    // The root of trust itself, so that the chain can be followed by whoever starts from it.
    let trusted = serde_json::from_slice::<serde_json::Value>(root).ok();
    if let Some(version) = trusted.and_then(|root| root.pointer("/signed/version")?.as_u64()) {
        files.entry(format!("{version}.root.json")).or_insert_with(|| root.to_vec());
    }
    if let Some(newest) = files.get(&format!("{root_version}.root.json")).cloned() {
        files.insert("root.json".into(), newest);
    }
    Ok(verified(&repository, files, root_version))
}

fn verified(repository: &Repository, files: BTreeMap<String, Vec<u8>>, root_version: u64) -> Verified {
    let mut targets = BTreeMap::new();
    for (name, target) in repository.all_targets() {
        let digest: Result<[u8; 32], _> = target.hashes.sha256.as_ref().try_into();
        if let (true, Ok(digest)) = (repository::is_safe(name.raw()) && name.raw() == name.resolved(), digest) {
            targets.entry(name.raw().to_owned()).or_insert((target.length, digest));
        }
    }
    let version = repository.timestamp().signed.version.get();
    Verified { files, targets, expiry: Expiry::of(repository), version, root_version }
}

/// `tough` believes nothing when the clock has gone back. A router without a battery begins in 1970 after every power cut,
/// and with the line down it stays there: versions are remembered, which stops whoever goes back; times are not.
pub fn forget_time(datastore: &Path) {
    let _ = std::fs::remove_file(datastore.join("latest_known_time.json"));
}

/// Verifies what lies in a folder. `datastore` is where `tough` keeps what it saw; without, it sees it for the first time.
///
/// # Errors
/// See [`MetadataError`].
pub async fn open(folder: &Path, root: &[u8], datastore: Option<&Path>) -> Result<Verified, MetadataError> {
    let unreadable = |e| MetadataError::Datastore(folder.display().to_string(), e);
    let real = folder.join("metadata").canonicalize().map_err(unreadable)?;
    let url = |path: &Path| {
        let bad = || unreadable(std::io::ErrorKind::InvalidInput.into());
        Url::from_directory_path(path).map_err(|()| bad())
    };
    let (metadata, targets) = (url(&real)?, url(&folder.canonicalize().map_err(unreadable)?.join("targets"))?);
    let mut loader = RepositoryLoader::new(&root, metadata, targets)
        .transport(FilesystemTransport)
        .expiration_enforcement(ExpirationEnforcement::Unsafe);
    if let Some(datastore) = datastore {
        std::fs::create_dir_all(datastore).map_err(unreadable)?;
        forget_time(datastore);
        loader = loader.datastore(datastore);
    }
    let repository = loader.load().await.map_err(|error| MetadataError::Verify(Box::new(error)))?;
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(&real).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if let Some(name) = entry.file_name().to_str() {
            files.insert(name.to_owned(), std::fs::read(entry.path()).map_err(unreadable)?);
        }
    }
    let root_version = repository.root().signed.version.get();
    Ok(verified(&repository, files, root_version))
}

/// Fetches for `tough`, and keeps what it fetched.
#[derive(Debug, Clone)]
struct Recorder {
    fetcher: Fetcher,
    base: Url,
    known: Arc<BTreeMap<String, Vec<u8>>>,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    failed: Arc<Mutex<Option<FetchError>>>,
}

#[tough::async_trait]
impl Transport for Recorder {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
        let numbered = repository::metadata_version(&name).is_some() && !name.ends_with(".root.json");
        let known = self.known.get(&name).filter(|_| numbered).cloned();
        let bytes = match known {
            Some(bytes) => bytes,
            None => match self.fetcher.small(&self.base, &format!("metadata/{name}"), LARGEST).await {
                Ok(bytes) => bytes,
                // That is how the newest root is found.
                Err(FetchError::Missing(_)) => {
                    return Err(TransportError::new(TransportErrorKind::FileNotFound, url.as_str()));
                }
                Err(error) => {
                    let text = error.to_string();
                    *lock(&self.failed) = Some(error);
                    return Err(TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), text));
                }
            },
        };
        lock(&self.files).insert(name, bytes.clone());
        let stream = futures_util::stream::once(async move { Ok(Bytes::from(bytes)) });
        Ok(Box::pin(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_has_a_bound_and_the_content_has_none() {
        let expiry = Expiry { lasting: 1000, fresh: 100 };
        let at = |now, stale| {
            let now = OffsetDateTime::from_unix_timestamp(now).unwrap();
            expiry.freshness(now, Duration::from_secs(stale))
        };
        assert_eq!(at(99, 0), Freshness::Fresh);
        assert_eq!(at(100, 0), Freshness::TooOld { since: 100 });
        assert_eq!(at(100, 50), Freshness::Stale { since: 100, until: 150 });
        assert_eq!(at(149, 50), Freshness::Stale { since: 100, until: 150 });
        assert_eq!(at(150, 50), Freshness::TooOld { since: 100 });
        assert_eq!(at(999, 5000), Freshness::Stale { since: 100, until: 1000 });
        assert_eq!(at(1000, 5000), Freshness::TooOld { since: 100 }, "neither keys nor content outlive their dates");
    }
}
