//! What an earlier build made and this one can use: whole folders, named by the hash of what made them.

use crate::files::{self, FileError, at};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// The cache folder, locked for one builder.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    // Held as long as the cache is in use: another builder would sweep our temporary folders.
    _lock: File,
}

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Another builder uses it.
    #[error("another image-builder uses the cache {}", .0.display())]
    Busy(PathBuf),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Cache {
    /// Opens and locks the cache, and sweeps what an interrupted build left.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        files::create_folder(&root.join("trees"))?;
        let root = fs::canonicalize(root).map_err(at("look at", root))?;
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(at("create", &lock_path))?;
        lock.try_lock().map_err(|_| CacheError::Busy(root.clone()))?;
        files::remove(&root.join("tmp"))?;
        files::create_folder(&root.join("tmp"))?;
        Ok(Self { root, _lock: lock })
    }

    /// Where the folder of this kind and key is, whether it exists or not.
    #[must_use]
    pub fn tree(&self, kind: &str, key: &str) -> PathBuf {
        self.root.join("trees").join(kind).join(key)
    }

    /// A fresh temporary folder on the cache's file system; it vanishes when dropped.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn temporary(&self) -> Result<TempDir, FileError> {
        let folder = self.root.join("tmp");
        TempDir::new_in(&folder).map_err(at("make a folder in", &folder))
    }

    /// Moves a finished folder to its place. The rename is what makes it count: half a tree is never found.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn publish(&self, finished: &Path, kind: &str, key: &str) -> Result<PathBuf, FileError> {
        let place = self.tree(kind, key);
        let folder = self.root.join("trees").join(kind);
        files::create_folder(&folder)?;
        files::remove(&place)?;
        fs::rename(finished, &place).map_err(at("move into place", &place))?;
        Ok(place)
    }
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
    fn leftovers_are_swept_and_a_second_builder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("tmp/half")).unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        assert!(!folder.path().join("tmp/half").exists());
        assert!(matches!(Cache::open(folder.path()), Err(CacheError::Busy(_))));
        let tree = cache.temporary().unwrap();
        let place = cache.publish(tree.path(), "tools", "k").unwrap();
        assert_eq!(place, cache.tree("tools", "k"));
        assert!(place.is_dir());
    }
}
