//! The repository: static files under The Update Framework, which any web server can serve.
//!
//! A reader never sees half of a publication: everything new has a new name, and `timestamp.json`, which leads to
//! all of it, is replaced last and by one rename. Each file is on the disk before the next one is begun, so that the
//! same holds after a power cut.

use crate::{
    files::{self, FileError, at},
    keys::{Keys, KeysError},
    repo::{
        chain::{self, Chain, TrustError},
        layout,
        source::{Source, SourceError},
    },
    signing::{self, SignError},
};
use contracts::manifest::RoleVersions;
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, TryLockError},
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tough::{
    TargetName,
    schema::{Hashes, Metafile, Root, Signed, Snapshot, Target, Targets, Timestamp},
};

/// The version of the TUF specification that metadata names.
const SPECIFICATION: &str = "1.0.0";

/// Why a repository could not be read or published.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Another builder publishes to it.
    #[error("another image-builder publishes to {}", .0.display())]
    Busy(PathBuf),
    /// What is there is not signed by these keys, or is damaged.
    #[error("the repository {} cannot be read with these keys: {file}: {message}", path.display())]
    Load {
        /// The repository.
        path: PathBuf,
        /// Which file of it.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// There is nothing to renew or change.
    #[error("{} is not a repository", .0.display())]
    Empty(PathBuf),
    /// The root of trust among the keys.
    #[error("{} cannot be the root of trust", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TrustError,
    },
    /// The repository has a root that the keys do not know.
    #[error("the repository has version {repository} of the root of trust, the keys have {keys}")]
    OldKeys {
        /// In the repository.
        repository: u64,
        /// Among the keys.
        keys: u64,
    },
    /// The new metadata could not be signed.
    #[error("cannot sign the repository's metadata")]
    Sign(#[source] SignError),
    /// A target's name cannot be used.
    #[error("{0:?} cannot be the name of a target")]
    Name(String),
    /// A target of that name has other bytes already, and targets of an image never change.
    #[error("the repository has another {0} already")]
    Changed(String),
    /// The repository cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The keys cannot be read.
    #[error("the keys cannot be used")]
    Keys(#[from] KeysError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// For how long metadata is believed.
#[derive(Debug, Clone, Copy)]
pub struct Expiry {
    /// Days of `targets.json`.
    pub targets_days: i64,
    /// Days of `snapshot.json` and `timestamp.json`.
    pub timestamp_days: i64,
}

/// What is published.
#[derive(Debug, Default)]
pub struct Publication {
    /// Targets that may never change once they are there: name and file.
    pub fixed: Vec<(String, PathBuf)>,
    /// Targets that a later publication may replace.
    pub replaceable: Vec<(String, PathBuf)>,
    /// Files below the repository's folder that are not targets, by path; authenticated by a target.
    pub plain: Vec<(String, PathBuf)>,
}

/// What a publication changes besides.
#[derive(Debug, Default)]
pub struct Changes {
    /// Names of targets that are no longer offered. Their bytes stay until `repo gc`.
    pub withdrawn: Vec<String>,
    /// No role gets a version below these.
    pub floor: Option<RoleVersions>,
}

/// A repository, locked for one publisher.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    keys: Keys,
    /// The roots among the keys, oldest first.
    roots: Vec<(Signed<Root>, Vec<u8>)>,
    current: Option<Chain>,
    _lock: File,
}

/// A moment that many days ahead.
#[must_use]
pub fn days_from_now(days: i64) -> jiff::Timestamp {
    let seconds = jiff::Timestamp::now().as_second() + days * 86_400;
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

/// Takes the lock of a repository's folder: one program changes it at a time.
/// Waits for another publisher: it holds the lock for seconds, and the kernel takes it from one that dies.
///
/// # Errors
/// [`RepositoryError::Busy`], or a file operation.
pub async fn lock(folder: &Path) -> Result<File, RepositoryError> {
    let path = folder.join(".lock");
    let lock = File::create(&path).map_err(at("create", &path))?;
    let begin = Instant::now();
    while let Err(error) = lock.try_lock() {
        match error {
            TryLockError::Error(error) => return Err(at("lock", &path)(error).into()),
            TryLockError::WouldBlock if begin.elapsed() > LONGEST_WAIT => {
                return Err(RepositoryError::Busy(folder.to_owned()));
            }
            TryLockError::WouldBlock => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    Ok(lock)
}

/// Every publisher has ended by then, on the slowest of machines.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Looking costs nothing, and nobody else waits for the answer: no backoff.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Repository {
    /// Opens and locks a repository, or an empty folder that is to become one. What is there is verified, except
    /// that it may have expired: publishing is what renews it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn open(folder: &Path, keys: Keys) -> Result<Self, RepositoryError> {
        for part in ["metadata", "targets", "archives"] {
            files::create_folder_durably(&folder.join(part))?;
        }
        let folder = fs::canonicalize(folder).map_err(at("look at", folder))?;
        let lock = lock(&folder).await?;
        let mut roots = Vec::new();
        for (_, path) in keys.roots()? {
            let bytes = files::read(&path)?;
            let root = chain::trusted(&bytes).map_err(|source| RepositoryError::Trust { path, source })?;
            roots.push((root, bytes));
        }
        let first = roots.first().map(|(root, _)| root.clone());
        let current = match first.filter(|_| folder.join(layout::TIMESTAMP).exists()) {
            None => None,
            Some(trusted) => {
                let chain = chain::walk(&Source::Folder(folder.clone()), trusted, jiff::Timestamp::now()).await?;
                if let Some(problem) = chain.problems.iter().find(|problem| problem.code != "expired") {
                    let (file, message) = (problem.file.clone(), problem.message.clone());
                    return Err(RepositoryError::Load { path: folder, file, message });
                }
                Some(chain)
            }
        };
        let newest = roots.last().map_or(0, |(root, _)| root.signed.version.get());
        if let Some(found) = current.as_ref().map(|chain| chain.root.signed.version.get()).filter(|v| *v > newest) {
            return Err(RepositoryError::OldKeys { repository: found, keys: newest });
        }
        Ok(Self { folder, keys, roots, current, _lock: lock })
    }

    /// The same, where there has to be a repository already.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn open_existing(folder: &Path, keys: Keys) -> Result<Self, RepositoryError> {
        if !folder.join(layout::TIMESTAMP).is_file() {
            return Err(RepositoryError::Empty(folder.to_owned()));
        }
        Self::open(folder, keys).await
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its targets by name.
    #[must_use]
    pub fn targets(&self) -> BTreeMap<String, Target> {
        self.current.as_ref().map(|chain| chain.all.clone()).unwrap_or_default()
    }

    /// The role versions that the next publication will have: the floor of whatever is published with it.
    #[must_use]
    pub fn next_versions(&self) -> RoleVersions {
        let current = self.current.as_ref();
        let next = |version: Option<NonZeroU64>| version.map_or(0, NonZeroU64::get) + 1;
        RoleVersions {
            targets: next(current.and_then(|chain| Some(chain.targets.as_ref()?.signed.version))),
            snapshot: next(current.and_then(|chain| Some(chain.snapshot.as_ref()?.signed.version))),
            timestamp: next(current.and_then(|chain| Some(chain.timestamp.as_ref()?.signed.version))),
        }
    }

    /// True when something expires before this moment, or a new root of trust waits to be published.
    #[must_use]
    pub fn needs_refresh(&self, moment: jiff::Timestamp) -> bool {
        let Some(current) = &self.current else { return true };
        let expires = |expires: Option<jiff::Timestamp>| expires.is_none_or(|expires| expires <= moment);
        expires(current.timestamp.as_ref().map(|role| role.signed.expires))
            || expires(current.snapshot.as_ref().map(|role| role.signed.expires))
            || self.roots.last().is_some_and(|(root, _)| root.signed.version > current.root.signed.version)
    }

    /// True when a target of this name is there already.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.current.as_ref().is_some_and(|chain| chain.all.contains_key(name))
    }

    /// Where a file below the repository's folder is.
    #[must_use]
    pub fn place(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Publishes: plain files and targets first, then metadata, `timestamp.json` last. Older targets stay.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn publish(self, publication: &Publication, expiry: Expiry) -> Result<RoleVersions, RepositoryError> {
        self.publish_with(publication, &Changes::default(), expiry).await
    }

    /// The same with more changes, all in one publication.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn publish_with(
        self,
        publication: &Publication,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<RoleVersions, RepositoryError> {
        let mut added = Vec::new();
        for (name, file) in publication.fixed.iter().chain(&publication.replaceable) {
            let target = Target::from_path(file).await;
            let target = target.map_err(|error| at("read", file)(std::io::Error::other(error)))?;
            added.push((name, file, target));
        }
        self.refuse_changes(publication, &added)?;
        for (path, file) in &publication.plain {
            files::publish(file, &self.folder.join(path))?;
        }
        for (name, file, target) in &added {
            let [first, second] = layout::target_paths(name, &hex::encode(&target.hashes.sha256));
            files::publish(file, &self.folder.join(&first))?;
            files::publish_link(&self.folder.join(first), &self.folder.join(second))?;
        }
        let mut all = self.signed_targets();
        for name in &changes.withdrawn {
            all.remove(&TargetName::new(name).map_err(|_| RepositoryError::Name(name.clone()))?);
        }
        for (name, _, target) in added {
            all.insert(TargetName::new(name).map_err(|_| RepositoryError::Name(name.clone()))?, target);
        }
        self.commit(Some(all), changes.floor, expiry).await
    }

    /// Signs `snapshot.json` and `timestamp.json` anew, so that readers go on believing what is there. The targets key
    /// is needed only when a new root of trust has replaced it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn refresh(self, expiry: Expiry) -> Result<RoleVersions, RepositoryError> {
        self.commit(None, None, expiry).await
    }

    /// Targets that `targets.json` itself names, without those of delegated roles.
    fn signed_targets(&self) -> HashMap<TargetName, Target> {
        let targets = self.current.as_ref().and_then(|chain| chain.targets.as_ref());
        targets.map(|targets| targets.signed.targets.clone()).unwrap_or_default()
    }

    async fn commit(
        self,
        all: Option<HashMap<TargetName, Target>>,
        floor: Option<RoleVersions>,
        expiry: Expiry,
    ) -> Result<RoleVersions, RepositoryError> {
        let Some((new, _)) = self.roots.last() else { return Err(RepositoryError::Empty(self.folder)) };
        let old = self.current.as_ref().map(|chain| &chain.root.signed);
        let signer = signing::Signer::new(&new.signed, old, self.keys.publishing()?);
        let least = floor.unwrap_or(RoleVersions { targets: 0, snapshot: 0, timestamp: 0 });
        let mut versions = self.next_versions();
        versions.snapshot = versions.snapshot.max(least.snapshot);
        versions.timestamp = versions.timestamp.max(least.timestamp);
        let version = |number: u64| NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN);

        let before = self.current.as_ref().and_then(|chain| chain.targets.as_ref());
        let kept = before.filter(|targets| all.is_none() && new.signed.verify_role(targets).is_ok());
        let mut writes = Vec::new();
        let mut meta = self.current.as_ref().and_then(|chain| Some(chain.snapshot.as_ref()?.signed.meta.clone()));
        let mut smooth = true;
        if let Some(kept) = kept {
            versions.targets = kept.signed.version.get();
        } else {
            versions.targets = versions.targets.max(least.targets);
            let (number, expires) = (version(versions.targets), days_from_now(expiry.targets_days));
            let mut targets = Targets::new(SPECIFICATION.into(), number, expires);
            if let Some(before) = before {
                targets.delegations.clone_from(&before.signed.delegations);
                targets._extra.clone_from(&before.signed._extra);
            }
            targets.targets = all.unwrap_or_else(|| self.signed_targets());
            let signed = signer.sign(targets).await.map_err(RepositoryError::Sign)?;
            smooth &= signed.for_old_readers;
            meta.get_or_insert_default().insert("targets.json".into(), describe(number, &signed.bytes));
            writes.push((format!("metadata/{number}.targets.json"), signed.bytes));
        }
        let expires = days_from_now(expiry.timestamp_days);
        let number = version(versions.snapshot);
        let mut snapshot = Snapshot::new(SPECIFICATION.into(), number, expires);
        snapshot.meta = meta.unwrap_or_default();
        let signed = signer.sign(snapshot).await.map_err(RepositoryError::Sign)?;
        smooth &= signed.for_old_readers;
        let described = describe(number, &signed.bytes);
        writes.push((format!("metadata/{number}.snapshot.json"), signed.bytes));
        let mut timestamp = Timestamp::new(SPECIFICATION.into(), version(versions.timestamp), expires);
        timestamp.meta = HashMap::from([("snapshot.json".into(), described)]);
        let signed = signer.sign(timestamp).await.map_err(RepositoryError::Sign)?;
        smooth &= signed.for_old_readers;
        let roots = self.new_roots();
        let timestamp = (layout::TIMESTAMP.to_owned(), signed.bytes);
        // When the new metadata satisfies the old root too, readers of either are served at every moment. Otherwise
        // (a key was revoked or lost) there is no such order, and a reader in between has to ask again.
        let last = if old.is_some() && smooth { [vec![timestamp], roots] } else { [roots, vec![timestamp]] };
        for (path, bytes) in writes.into_iter().chain(last.into_iter().flatten()) {
            files::publish_bytes(&bytes, &self.folder.join(path))?;
        }
        Ok(versions)
    }

    /// The roots that the repository lacks, in order, and `root.json`, which is the newest of them.
    fn new_roots(&self) -> Vec<(String, Vec<u8>)> {
        let known = self.current.as_ref().map_or(0, |chain| chain.root.signed.version.get());
        let new = self.roots.iter().filter(|(root, _)| root.signed.version.get() > known);
        let mut writes: Vec<_> =
            new.map(|(root, bytes)| (format!("metadata/{}.root.json", root.signed.version), bytes.clone())).collect();
        let newest = self.roots.last().map(|(_, bytes)| ("metadata/root.json".to_owned(), bytes.clone()));
        writes.extend(newest.filter(|(path, bytes)| fs::read(self.folder.join(path)).ok().as_ref() != Some(bytes)));
        writes
    }

    fn refuse_changes(
        &self,
        publication: &Publication,
        targets: &[(&String, &PathBuf, Target)],
    ) -> Result<(), RepositoryError> {
        let fixed = |name: &String| publication.fixed.iter().any(|(other, _)| other == name);
        for (name, _, target) in targets {
            if !layout::is_safe(name) {
                return Err(RepositoryError::Name((*name).clone()));
            }
            let known = self.current.as_ref().and_then(|chain| chain.all.get(*name));
            if fixed(name) && known.is_some_and(|known| known.hashes.sha256 != target.hashes.sha256) {
                return Err(RepositoryError::Changed((*name).clone()));
            }
        }
        Ok(())
    }
}

/// What a role says about another role's file.
fn describe(version: NonZeroU64, bytes: &[u8]) -> Metafile {
    use sha2::{Digest, Sha256};
    let hashes = Hashes { sha256: Sha256::digest(bytes).to_vec().into(), _extra: HashMap::new() };
    Metafile { length: Some(bytes.len() as u64), hashes: Some(hashes), version, _extra: HashMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tough::{FilesystemTransport, IntoVec, RepositoryLoader};
    use url::Url;

    const EXPIRY: Expiry = Expiry { targets_days: 365, timestamp_days: 30 };

    async fn publish(folder: &Path, keys: &Keys, fixed: &str, text: &str) -> Result<RoleVersions, RepositoryError> {
        let file = folder.join("content");
        fs::write(&file, text).unwrap();
        let repository = Repository::open(&folder.join("repository"), keys.clone()).await?;
        let publication = Publication {
            fixed: vec![(fixed.to_owned(), file.clone())],
            replaceable: vec![("channels/till/stable.json".to_owned(), file.clone())],
            plain: vec![("archives/x.bita".to_owned(), file)],
        };
        repository.publish(&publication, EXPIRY).await
    }

    #[tokio::test]
    async fn versions_grow_older_targets_stay_and_a_client_reads_both() {
        let folder = tempfile::tempdir().unwrap();
        let keys = crate::keys::init(&folder.path().join("keys")).await.unwrap();
        let first = publish(folder.path(), &keys, "images/till/1/manifest.json", "one").await.unwrap();
        let second = publish(folder.path(), &keys, "images/till/2/manifest.json", "two").await.unwrap();
        assert_eq!((first.targets, first.snapshot, first.timestamp), (1, 1, 1));
        assert_eq!((second.targets, second.snapshot, second.timestamp), (2, 2, 2));

        let place = fs::canonicalize(folder.path().join("repository")).unwrap();
        let root = fs::read(keys.root_json()).unwrap();
        let url = |part: &str| Url::from_directory_path(place.join(part)).unwrap();
        let loader = RepositoryLoader::new(&root, url("metadata"), url("targets")).transport(FilesystemTransport);
        let client = loader.load().await.unwrap();
        let expected = [
            ("images/till/1/manifest.json", "one"),
            ("images/till/2/manifest.json", "two"),
            ("channels/till/stable.json", "two"),
        ];
        for (name, text) in expected {
            let name = TargetName::new(name).unwrap();
            let bytes = client.read_target(&name).await.unwrap().unwrap().into_vec().await.unwrap();
            assert_eq!(bytes, text.as_bytes());
        }
        let left: Vec<_> = fs::read_dir(&place).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".new-")), "{left:?}");
    }

    #[tokio::test]
    async fn an_image_never_changes_and_one_publisher_works_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let keys = crate::keys::init(&folder.path().join("keys")).await.unwrap();
        publish(folder.path(), &keys, "images/till/1/manifest.json", "one").await.unwrap();
        let changed = publish(folder.path(), &keys, "images/till/1/manifest.json", "other").await;
        assert!(matches!(changed, Err(RepositoryError::Changed(_))));
        let held = Repository::open(&folder.path().join("repository"), keys.clone()).await.unwrap();
        assert!(held.has("images/till/1/manifest.json") && !held.has("images/till/2/manifest.json"));
        let place = folder.path().join("repository");
        let mut second = std::pin::pin!(Repository::open(&place, keys));
        let waiting = tokio::time::timeout(Duration::from_millis(300), second.as_mut()).await;
        assert!(waiting.is_err(), "the second one waits");
        drop(held);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn a_repository_of_other_keys_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keys = crate::keys::init(&folder.path().join("keys")).await.unwrap();
        publish(folder.path(), &keys, "images/till/1/manifest.json", "one").await.unwrap();
        let other = crate::keys::init(&folder.path().join("other")).await.unwrap();
        let refused = publish(folder.path(), &other, "images/till/2/manifest.json", "two").await;
        assert!(matches!(refused, Err(RepositoryError::Load { .. })));
    }
}
