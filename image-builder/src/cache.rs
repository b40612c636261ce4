//! What an earlier build made and this one can use: whole folders, named by the hash of what made them, and package files.
//!
//! Any number of builders share it. What is finished never changes and is moved into place by one rename; what is being made
//! lies in a scratch folder whose lock tells whether its maker still lives.

use crate::{
    files::{self, FileError, at},
    report::Reporter,
};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// A folder for work under way; it vanishes when dropped, or when somebody opens the cache after its maker died.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    lock_path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody takes the name again, so the order of the two does not matter.
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// The right to make the folder of one kind and key.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

impl Cache {
    /// Opens the cache, and sweeps what builders left that were killed.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(root: &Path) -> Result<Self, FileError> {
        for folder in ["trees", "tmp"] {
            files::create_folder(&root.join(folder))?;
        }
        let root = fs::canonicalize(root).map_err(at("look at", root))?;
        sweep(&root.join("tmp"))?;
        Ok(Self { root })
    }

    /// A folder of the cache by name.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the folder of this kind and key is, whether it exists or not.
    #[must_use]
    pub fn tree(&self, kind: &str, key: &str) -> PathBuf {
        self.root.join("trees").join(kind).join(key)
    }

    /// A fresh folder on the cache's file system.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn temporary(&self) -> Result<Scratch, FileError> {
        let above = self.root.join("tmp");
        loop {
            // The lock comes first: a folder without one is taken for a leftover.
            let named =
                tempfile::Builder::new().suffix(".lock").tempfile_in(&above).map_err(at("make a file in", &above))?;
            let (lock, lock_path) = named.keep().map_err(|error| at("keep a file in", &above)(error.error))?;
            // A sweeper that was faster removes the file; then another name is as good.
            if lock.try_lock().is_err() || !lock_path.exists() {
                continue;
            }
            let name = lock_path.file_stem().unwrap_or_default().to_owned();
            let folder = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&above);
            let folder = folder.map_err(at("make a folder in", &above))?;
            return Ok(Scratch { folder, lock_path, _lock: lock });
        }
    }

    /// Waits until nobody else makes the folder of this kind and key. The kernel gives the lock back when its holder dies,
    /// so there is no end to set.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn claim(&self, kind: &str, key: &str, reporter: &mut dyn Reporter) -> Result<Claim, FileError> {
        let folder = self.root.join("claims");
        files::create_folder(&folder)?;
        let path = folder.join(format!("{kind}-{key}"));
        let file = File::create(&path).map_err(at("create", &path))?;
        let mut waited = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Claim { _lock: file }),
                Err(TryLockError::Error(error)) => return Err(at("lock", &path)(error)),
                Err(TryLockError::WouldBlock) if !waited => {
                    reporter.line("another image-builder is making the same; waiting for it");
                    waited = true;
                }
                Err(TryLockError::WouldBlock) => {}
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Moves a finished folder to its place. The rename is what makes it count: half a tree is never found.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn publish(&self, finished: &Path, kind: &str, key: &str, _claim: &Claim) -> Result<PathBuf, FileError> {
        let place = self.tree(kind, key);
        files::create_folder(&self.root.join("trees").join(kind))?;
        files::remove(&place)?;
        fs::rename(finished, &place).map_err(at("move into place", &place))?;
        Ok(place)
    }
}

/// Removes scratch folders whose makers are gone.
fn sweep(folder: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(at("list", folder))? {
        let path = entry.map_err(at("list", folder))?.path();
        if path.extension().is_none_or(|extension| extension != "lock") {
            if !path.with_extension("lock").exists() {
                files::remove(&path)?;
            }
            continue;
        }
        match File::open(&path) {
            Ok(lock) if lock.try_lock().is_ok() => {
                files::remove(&path.with_extension(""))?;
                files::remove(&path)?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("open", &path)(error)),
        }
    }
    Ok(())
}

/// The default cache folder: `$SHELFBOOT_CACHE`, else `$XDG_CACHE_HOME/shelfboot`, else `~/.cache/shelfboot`.
#[must_use]
pub fn default_folder(variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(folder) = set("SHELFBOOT_CACHE") {
        return folder.into();
    }
    let base = set("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")));
    base.unwrap_or_else(|| "/var/cache".into()).join("shelfboot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_names_the_folder() {
        let with = |set: &'static [(&'static str, &'static str)]| {
            default_folder(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[("SHELFBOOT_CACHE", "/c"), ("HOME", "/h")]), Path::new("/c"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Path::new("/x/shelfboot"));
        assert_eq!(with(&[("SHELFBOOT_CACHE", ""), ("HOME", "/h")]), Path::new("/h/.cache/shelfboot"));
    }

    #[test]
    fn only_what_nobody_works_on_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("tmp/half")).unwrap();
        fs::create_dir_all(folder.path().join("tmp/killed")).unwrap();
        fs::write(folder.path().join("tmp/killed.lock"), "").unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let listed = || fs::read_dir(folder.path().join("tmp")).unwrap().count();
        assert_eq!(listed(), 0);
        let scratch = cache.temporary().unwrap();
        fs::write(scratch.path().join("work"), "").unwrap();
        Cache::open(folder.path()).unwrap();
        assert!(scratch.path().join("work").exists(), "a second builder leaves it alone");
        drop(scratch);
        assert_eq!(listed(), 0);
    }

    #[tokio::test]
    async fn a_tree_is_made_by_one_builder_at_a_time() {
        struct Lines(Vec<String>);
        impl Reporter for Lines {
            fn started(&mut self, _: usize, _: usize, _: &str) {}
            fn line(&mut self, line: &str) {
                self.0.push(line.to_owned());
            }
            fn done(&mut self, _: &str, _: f64, _: &str) {}
        }
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let (mut one, mut two) = (Lines(vec![]), Lines(vec![]));
        let claim = cache.claim("tools", "k", &mut one).await.unwrap();
        cache.claim("tools", "other", &mut two).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(50), cache.claim("tools", "k", &mut two)).await;
        assert!(waiting.is_err() && two.0.len() == 1 && one.0.is_empty());
        let tree = folder.path().join("tmp/tree");
        fs::create_dir(&tree).unwrap();
        assert!(cache.publish(&tree, "tools", "k", &claim).unwrap().is_dir());
        drop(claim);
        cache.claim("tools", "k", &mut two).await.unwrap();
    }
}
