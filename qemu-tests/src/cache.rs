//! Things that take minutes to make are made once, outside the checkout, and named by the hash of what made them.
//! A changed recipe is another key, so nothing in here is ever stale or updated in place.

use crate::hint::coded;
use anyhow::{Context as _, Result};
use contracts::exit::Code;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// The folder that holds everything that is made once.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// What came out of [`Cache::make`].
#[derive(Debug, Clone)]
pub struct Entry {
    /// The complete entry.
    pub path: PathBuf,
    /// True when it was there already.
    pub reused: bool,
}

impl Cache {
    /// `$SHELFBOOT_CACHE`, else `$XDG_CACHE_HOME/shelfboot`, else `~/.cache/shelfboot`.
    ///
    /// # Errors
    /// When no such variable is set, or the folder cannot be made.
    pub fn from_environment() -> Result<Self> {
        let root =
            root_from(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)).ok_or_else(|| {
                let message = "none of SHELFBOOT_CACHE, XDG_CACHE_HOME and HOME is set";
                coded(Code::Host, message, "set SHELFBOOT_CACHE to a folder with some gigabytes of room")
            })?;
        Self::at(&root)
    }

    /// A cache in this folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("making the cache folder {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("resolving {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder below the cache that is not keyed (kept state, run folders). Made when missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// Returns the entry `kind/KEY`, made by `make` in a temporary folder if it is not there yet. Two processes
    /// that want the same entry: the second waits for the first.
    ///
    /// # Errors
    /// When `make` fails, or the folder cannot be written.
    pub fn make(&self, kind: &str, key: &Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<Entry> {
        let folder = self.folder(kind)?;
        let path = folder.join(key.hex());
        if path.exists() {
            return Ok(Entry { path, reused: true });
        }
        let lock_path = folder.join(format!(".{}.lock", key.hex()));
        let lock = File::create(&lock_path).with_context(|| format!("making {}", lock_path.display()))?;
        lock.lock().with_context(|| format!("locking {}", lock_path.display()))?;
        if path.exists() {
            return Ok(Entry { path, reused: true });
        }
        let temporary = folder.join(format!(".{}.part", key.hex()));
        remove_tree(&temporary)?;
        fs::create_dir(&temporary).with_context(|| format!("making {}", temporary.display()))?;
        make(&temporary)?;
        fs::rename(&temporary, &path).with_context(|| format!("naming {}", path.display()))?;
        let _ = fs::remove_file(&lock_path);
        Ok(Entry { path, reused: false })
    }

    /// Removes all but the `keep` newest entries of a kind.
    ///
    /// # Errors
    /// When entries cannot be listed or removed.
    pub fn prune(&self, kind: &str, keep: usize) -> Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.folder(kind)?).with_context(|| format!("listing {kind} in the cache"))? {
            let entry = entry.with_context(|| format!("listing {kind} in the cache"))?;
            // Locks and entries in the making begin with a dot.
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                entries
                    .push((entry.metadata().and_then(|m| m.modified()).context("asking for an entry's age")?, entry));
            }
        }
        entries.sort_by_key(|(age, _)| *age);
        let surplus = entries.len().saturating_sub(keep);
        entries.into_iter().take(surplus).try_for_each(|(_, entry)| remove_tree(&entry.path()))
    }

    /// A new folder for one run; only the `keep` newest are kept.
    ///
    /// # Errors
    /// When folders cannot be made or removed.
    pub fn run_folder(&self, name: &str, keep: usize) -> Result<PathBuf> {
        let runs = self.folder("runs")?;
        let now = time::OffsetDateTime::now_utc();
        let stamp = time::macros::format_description!("[year][month][day]-[hour][minute][second].[subsecond digits:6]");
        let mut path = runs.join(format!("{}-{name}", now.format(stamp).context("writing a time")?));
        while path.exists() {
            path.as_mut_os_string().push("x");
        }
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        let mut old: Vec<PathBuf> = fs::read_dir(&runs)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
        // The names begin with the time, so their order is the order of the runs.
        old.sort();
        let surplus = old.len().saturating_sub(keep);
        for folder in old.into_iter().take(surplus) {
            remove_tree(&folder)?;
        }
        Ok(path)
    }
}

fn root_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("SHELFBOOT_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|p| p.join("shelfboot")))
        .or_else(|| variable("HOME").map(|p| p.join(".cache/shelfboot")))
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error)
            .with_context(|| format!("removing {} (parts of it may belong to a subordinate user id)", path.display())),
    }
}

/// The hash of everything that decides what an entry contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A key over these inputs, in this order.
    pub fn of<I: AsRef<[u8]>>(inputs: impl IntoIterator<Item = I>) -> Self {
        let mut hasher = Sha256::new();
        for input in inputs {
            let bytes = input.as_ref();
            // The length first: otherwise ("ab", "c") and ("a", "bc") were the same key.
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        }
        Self(hex::encode(hasher.finalize())[..24].to_owned())
    }

    /// The key as it appears in file names.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_wins() {
        let only = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v))
        };
        assert_eq!(root_from(only(&[("HOME", "/h"), ("SHELFBOOT_CACHE", "/s")])), Some("/s".into()));
        assert_eq!(root_from(only(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")])), Some("/x/shelfboot".into()));
        assert_eq!(root_from(only(&[("HOME", "/h")])), Some("/h/.cache/shelfboot".into()));
        assert_eq!(root_from(only(&[])), None);
    }

    #[test]
    fn keys_do_not_run_together() {
        assert_ne!(Key::of(["ab", "c"]), Key::of(["a", "bc"]));
        assert_eq!(Key::of(["ab", "c"]), Key::of(["ab", "c"]));
    }

    #[test]
    fn an_entry_is_made_once_and_never_half() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let key = Key::of(["x"]);
        assert!(cache.make("kind", &key, |_| anyhow::bail!("no")).is_err());
        let first = cache.make("kind", &key, |p| Ok(fs::write(p.join("f"), "1")?)).unwrap();
        let second = cache.make("kind", &key, |_| panic!("made twice")).unwrap();
        assert!(!first.reused && second.reused);
        assert_eq!(fs::read_to_string(second.path.join("f")).unwrap(), "1");
    }

    #[test]
    fn old_runs_are_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let runs: Vec<_> = (0..4).map(|_| cache.run_folder("t", 2).unwrap()).collect();
        assert_eq!(runs.iter().map(|r| r.exists()).collect::<Vec<_>>(), [false, false, true, true]);
    }
}
