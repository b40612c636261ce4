//! The repository: static files under The Update Framework, which any web server can serve.
//!
//! A reader never sees half of a publication: everything new has a new name, and `timestamp.json`, which leads to
//! all of it, is replaced last and by one rename.

use crate::{
    files::{self, FileError, at},
    keys::Keys,
};
use contracts::manifest::RoleVersions;
use std::{
    fs::{self, File},
    num::NonZeroU64,
    path::{Path, PathBuf},
};
use tough::{
    ExpirationEnforcement, FilesystemTransport, RepositoryLoader, TargetName, editor::RepositoryEditor, schema::Target,
};
use url::Url;

/// Why a repository could not be read or published.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Another builder publishes to it.
    #[error("another image-builder publishes to {}", .0.display())]
    Busy(PathBuf),
    /// What is there is not signed by these keys, or is damaged.
    #[error("the repository {} cannot be read with these keys", path.display())]
    Load {
        /// The repository.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// The new metadata could not be signed.
    #[error("cannot sign the repository's metadata")]
    Sign(#[source] Box<tough::error::Error>),
    /// A target of that name has other bytes already, and targets of an image never change.
    #[error("the repository has another {0} already")]
    Changed(String),
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

/// A repository, locked for one publisher.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    keys: Keys,
    current: Option<tough::Repository>,
    _lock: File,
}

/// A moment that many days ahead.
#[must_use]
pub fn days_from_now(days: i64) -> jiff::Timestamp {
    let seconds = jiff::Timestamp::now().as_second() + days * 86_400;
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

impl Repository {
    /// Opens and locks a repository, or an empty folder that is to become one. What is there is verified, except
    /// that it may have expired: publishing is what renews it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn open(folder: &Path, keys: Keys) -> Result<Self, RepositoryError> {
        for part in ["metadata", "targets", "archives"] {
            files::create_folder(&folder.join(part))?;
        }
        let folder = fs::canonicalize(folder).map_err(at("look at", folder))?;
        let lock_path = folder.join(".lock");
        let lock = File::create(&lock_path).map_err(at("create", &lock_path))?;
        lock.try_lock().map_err(|_| RepositoryError::Busy(folder.clone()))?;
        let current = match folder.join("metadata/timestamp.json").exists() {
            false => None,
            true => {
                let root = files::read(&keys.root_json())?;
                let loader = RepositoryLoader::new(&root, url(&folder, "metadata"), url(&folder, "targets"))
                    .transport(FilesystemTransport)
                    .expiration_enforcement(ExpirationEnforcement::Unsafe);
                let load = |source| RepositoryError::Load { path: folder.clone(), source: Box::new(source) };
                Some(loader.load().await.map_err(load)?)
            }
        };
        Ok(Self { folder, keys, current, _lock: lock })
    }

    /// The role versions that the next publication will have: the floor of whatever is published with it.
    #[must_use]
    pub fn next_versions(&self) -> RoleVersions {
        let Some(current) = &self.current else { return RoleVersions { targets: 1, snapshot: 1, timestamp: 1 } };
        RoleVersions {
            targets: current.targets().signed.version.get() + 1,
            snapshot: current.snapshot().signed.version.get() + 1,
            timestamp: current.timestamp().signed.version.get() + 1,
        }
    }

    /// True when a target of this name is there already.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let name = TargetName::new(name);
        self.current.as_ref().zip(name.ok()).is_some_and(|(r, name)| r.targets().signed.targets.contains_key(&name))
    }

    /// Publishes: plain files and targets first, then metadata, `timestamp.json` last. Older targets stay.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn publish(self, publication: &Publication, expiry: Expiry) -> Result<RoleVersions, RepositoryError> {
        let versions = self.next_versions();
        let sign = |source| RepositoryError::Sign(Box::new(source));
        let mut targets = Vec::new();
        for (name, file) in publication.fixed.iter().chain(&publication.replaceable) {
            targets.push((
                name,
                file,
                Target::from_path(file).await.map_err(|error| FileError {
                    action: "read",
                    path: file.clone(),
                    source: std::io::Error::other(error),
                })?,
            ));
        }
        self.refuse_changes(publication, &targets)?;
        for (path, file) in &publication.plain {
            files::publish(file, &self.folder.join(path))?;
        }
        for (name, file, target) in &targets {
            let place = format!("targets/{}.{name}", hex::encode(&target.hashes.sha256));
            files::publish(file, &self.folder.join(place))?;
        }

        let root_json = self.keys.root_json();
        let mut editor = match self.current {
            Some(current) => RepositoryEditor::from_repo(&root_json, current).await,
            None => RepositoryEditor::new(&root_json).await,
        }
        .map_err(sign)?;
        let version = |number: u64| NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN);
        editor.targets_version(version(versions.targets)).map_err(sign)?;
        editor.targets_expires(days_from_now(expiry.targets_days)).map_err(sign)?;
        editor.snapshot_version(version(versions.snapshot)).snapshot_expires(days_from_now(expiry.timestamp_days));
        editor.timestamp_version(version(versions.timestamp)).timestamp_expires(days_from_now(expiry.timestamp_days));
        for (name, _, target) in targets {
            editor.add_target(name.as_str(), target).map_err(sign)?;
        }
        let signed = editor.sign(&self.keys.publishing()).await.map_err(sign)?;
        let staged = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.folder);
        let staged = staged.map_err(at("make a folder in", &self.folder))?;
        signed.write(staged.path()).await.map_err(sign)?;
        let metadata = self.folder.join("metadata");
        files::publish(&root_json, &metadata.join("root.json"))?;
        let numbered = [
            "1.root.json".to_owned(),
            format!("{}.targets.json", versions.targets),
            format!("{}.snapshot.json", versions.snapshot),
            "timestamp.json".to_owned(),
        ];
        for name in numbered {
            files::publish(&staged.path().join(&name), &metadata.join(&name))?;
        }
        Ok(versions)
    }

    fn refuse_changes(
        &self,
        publication: &Publication,
        targets: &[(&String, &PathBuf, Target)],
    ) -> Result<(), RepositoryError> {
        let Some(current) = &self.current else { return Ok(()) };
        let fixed = |name: &String| publication.fixed.iter().any(|(other, _)| other == name);
        for (name, _, target) in targets {
            let known = TargetName::new(name.as_str()).ok();
            let known = known.and_then(|name| current.targets().signed.targets.get(&name));
            if fixed(name) && known.is_some_and(|known| known.hashes.sha256 != target.hashes.sha256) {
                return Err(RepositoryError::Changed((*name).clone()));
            }
        }
        Ok(())
    }
}

fn url(folder: &Path, part: &str) -> Url {
    #[expect(clippy::expect_used, reason = "the folder is absolute, and an absolute path always is a file URL")]
    Url::from_directory_path(folder.join(part)).expect("absolute path")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tough::IntoVec;

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
        let client =
            RepositoryLoader::new(&root, url(&place, "metadata"), url(&place, "targets")).load().await.unwrap();
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
        let second = Repository::open(&folder.path().join("repository"), keys).await;
        assert!(matches!(second, Err(RepositoryError::Busy(_))));
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
