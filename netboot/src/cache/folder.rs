//! The cache's folder: a repository that has what this store needs, and work under way.
//!
//! | path | content |
//! |---|---|
//! | `metadata` | a link to the generation that is served; exchanged by one rename |
//! | `.generations/N/` | the files of one version of the metadata, whole |
//! | `targets/`, `archives/` | as in any repository; what lies there is whole and was verified |
//! | `.partial/` | files that are being fetched, by digest, each with the tag of the server that it comes from |
//!
//! Names with a dot are not served.

use super::want::{Judge, Object};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Generations that are kept: the one that is served, and the one before it.
const KEPT_GENERATIONS: usize = 2;
/// Files that are looked at; a folder with more is not ours.
pub(crate) const MOST_FILES: usize = 100_000;

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub struct FolderError {
    /// Which operation.
    pub what: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl FolderError {
    /// True when the disk, a quota or a bound on file sizes is in the way.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self.source.kind(), StorageFull | QuotaExceeded | FileTooLarge)
    }
}

/// Adds what was done on what to an error.
pub fn at<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> FolderError + 'a {
    move |source| FolderError { what, path: path.to_owned(), source }
}

/// A file that lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Below the folder.
    pub path: String,
    /// Bytes that it takes.
    pub bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
}

impl Folder {
    /// Prepares it.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        for part in [".generations", ".partial", "targets", "archives"] {
            let part = path.join(part);
            fs::create_dir_all(&part).map_err(at("make the folder", &part))?;
        }
        let metadata = path.join("metadata");
        // A repository that something else synced is no cache: what lies in it stays, and is not mixed with ours.
        if fs::symlink_metadata(&metadata).is_ok_and(|found| found.is_dir()) {
            let source =
                io::Error::other("it is a folder that something else has synced; give the cache an empty folder");
            return Err(at("keep metadata in", &metadata)(source));
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The place of something.
    #[must_use]
    pub fn place(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// True when an object is here: files get their name only when they are whole and verified.
    #[must_use]
    pub fn has(&self, object: &Object) -> bool {
        fs::metadata(self.place(&object.path)).is_ok_and(|found| found.is_file() && found.len() == object.bytes)
    }

    /// Where an object lies while it is fetched.
    #[must_use]
    pub fn partial(&self, object: &Object) -> PathBuf {
        let digest = match &object.judge {
            Judge::Whole(digest) => hex::encode(digest),
            Judge::Chunks(archive) => archive.header_sha256.clone(),
        };
        self.place(".partial").join(digest)
    }

    /// A partial file that is whole and verified gets its name, durably.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn keep(&self, partial: &Path, object: &Object) -> Result<(), FolderError> {
        let place = self.place(&object.path);
        let file = File::open(partial).map_err(at("read", partial))?;
        file.sync_all().map_err(at("sync", partial))?;
        let above = place.parent().unwrap_or(&self.path);
        create_durably(above)?;
        fs::rename(partial, &place).map_err(at("put in place", &place))?;
        let _ = fs::remove_file(tag_of(partial));
        sync_folder(above)
    }

    /// A damaged file loses its name; what is good of it need not be fetched again.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn demote(&self, object: &Object) -> Result<(), FolderError> {
        let (place, partial) = (self.place(&object.path), self.partial(object));
        fs::rename(&place, &partial).map_err(at("take out of place", &place))?;
        sync_folder(place.parent().unwrap_or(&self.path))
    }

    /// Writes a small file that is verified, durably.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn keep_bytes(&self, bytes: &[u8], object: &Object) -> Result<(), FolderError> {
        let partial = self.partial(object);
        fs::write(&partial, bytes).map_err(at("write", &partial))?;
        self.keep(&partial, object)
    }

    /// Lets a complete set of metadata be the current one: it is written, synced and then linked to by one rename. Files of
    /// the generation before are kept in it, for readers who began with that.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn publish(&self, files: &BTreeMap<String, Vec<u8>>) -> Result<(), FolderError> {
        let generations = self.place(".generations");
        let next = self.generations()?.last().map_or(1, |last| last + 1);
        let (new, folder) = (generations.join(format!("{next}.new")), generations.join(next.to_string()));
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &new)(error)),
            _ => {}
        }
        fs::create_dir(&new).map_err(at("make the folder", &new))?;
        let mut all = self.versioned_files();
        all.extend(files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())));
        for (name, bytes) in &all {
            write_synced(&new.join(name), bytes)?;
        }
        sync_folder(&new)?;
        fs::rename(&new, &folder).map_err(at("put in place", &folder))?;
        sync_folder(&generations)?;
        let (link, metadata) = (self.place(".metadata.new"), self.place("metadata"));
        let _ = fs::remove_file(&link);
        // Not the C library's `symlink`: that is a system call of its own on some processors, and not an allowed one.
        let target = format!(".generations/{next}");
        nix::unistd::symlinkat(target.as_str(), nix::fcntl::AT_FDCWD, &link)
            .map_err(io::Error::from)
            .map_err(at("make a link (the cache needs a file system that has them, such as ext4) at", &link))?;
        fs::rename(&link, &metadata).map_err(at("put in place", &metadata))?;
        sync_folder(&self.path)?;
        self.remove_old_generations();
        Ok(())
    }

    /// Versioned files of the served generation that its own timestamp leads to; older ones go.
    fn versioned_files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut newest: BTreeMap<String, (u64, String)> = BTreeMap::new();
        let mut roots = Vec::new();
        for entry in fs::read_dir(self.place("metadata")).into_iter().flatten().flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let Some((version, role)) = contracts::repository::metadata_version(&name) else { continue };
            if role == "root" {
                roots.push(name);
            } else if newest.get(role).is_none_or(|(known, _)| *known < version) {
                newest.insert(role.to_owned(), (version, name));
            }
        }
        let names = roots.into_iter().chain(newest.into_values().map(|(_, name)| name));
        let read = |name: String| Some((name.clone(), fs::read(self.place("metadata").join(&name)).ok()?));
        names.filter_map(read).collect()
    }

    /// The numbers of the generations, in order.
    fn generations(&self) -> Result<Vec<u64>, FolderError> {
        let folder = self.place(".generations");
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at("look at", &folder))? {
            let name = entry.map_err(at("look at", &folder))?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }

    fn remove_old_generations(&self) {
        let Ok(mut all) = self.generations() else { return };
        all.truncate(all.len().saturating_sub(KEPT_GENERATIONS));
        for number in all {
            // One that stays takes some kilobytes, and goes the next time.
            let _ = fs::remove_dir_all(self.place(".generations").join(number.to_string()));
        }
    }

    /// Every file of targets, archives and partial files.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn list(&self) -> Result<Vec<Found>, FolderError> {
        use std::os::unix::fs::MetadataExt as _;
        let mut open: Vec<String> = ["targets", "archives", ".partial"].map(str::to_owned).to_vec();
        let mut found = Vec::new();
        while let Some(folder) = open.pop() {
            let place = self.place(&folder);
            for entry in fs::read_dir(&place).map_err(at("look at", &place))? {
                let entry = entry.map_err(at("look at", &place))?;
                let (Some(name), Ok(metadata)) = (entry.file_name().to_str().map(str::to_owned), entry.metadata())
                else {
                    continue;
                };
                let path = format!("{folder}/{name}");
                if metadata.is_dir() {
                    open.push(path);
                } else if found.len() < MOST_FILES {
                    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    // Blocks, and not the length: a file with a hole takes less, a small one more.
                    found.push(Found { path, bytes: (metadata.blocks() * 512).max(1), modified });
                }
            }
        }
        Ok(found)
    }

    /// Removes a file, and the folders above it that are empty then.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn remove(&self, path: &str) -> Result<(), FolderError> {
        let place = self.place(path);
        match fs::remove_file(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &place)(error)),
            _ => {}
        }
        for above in place.ancestors().skip(1).take_while(|above| above.parent() != Some(&self.path)) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Bytes that the disk has left for us.
    #[must_use]
    pub fn free(&self) -> Option<u64> {
        let found = nix::sys::statvfs::statvfs(&self.path).ok()?;
        #[expect(clippy::useless_conversion, reason = "32 bits wide on some targets")]
        Some(u64::from(found.blocks_available()).saturating_mul(u64::from(found.fragment_size())))
    }
}

/// Beside a partial file: the address and the tag that its bytes came with.
#[must_use]
pub fn tag_of(partial: &Path) -> PathBuf {
    partial.with_extension("tag")
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let mut file = File::create(path).map_err(at("write", path))?;
    file.write_all(bytes).map_err(at("write", path))?;
    file.sync_all().map_err(at("sync", path))
}

/// A folder and those above it, each entry synced.
fn create_durably(folder: &Path) -> Result<(), FolderError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        create_durably(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(at("make the folder", folder)(error));
            }
            _ => {}
        }
        sync_folder(above)?;
    }
    Ok(())
}

/// Makes renames in a folder durable.
///
/// # Errors
/// [`FolderError`].
pub fn sync_folder(folder: &Path) -> Result<(), FolderError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(at("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn metadata_is_exchanged_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Folder::open(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join("metadata").join(name)).ok();
        for version in 1..=4 {
            let (snapshot, text) = (format!("{version}.snapshot.json"), version.to_string());
            cache.publish(&files(&[(&snapshot, &text), ("timestamp.json", &text), ("1.root.json", "r")])).unwrap();
            assert_eq!(read("timestamp.json").unwrap(), text);
        }
        assert_eq!(read("3.snapshot.json").unwrap(), "3", "who began with the version before is served to the end");
        assert_eq!(read("2.snapshot.json"), None);
        assert_eq!(read("1.root.json").unwrap(), "r");
        assert_eq!(cache.generations().unwrap(), [3, 4]);
        // One that was cut off is in nobody's way.
        fs::create_dir(folder.path().join(".generations/5.new")).unwrap();
        fs::write(folder.path().join(".generations/5.new/timestamp.json"), "half").unwrap();
        Folder::open(folder.path()).unwrap().publish(&files(&[("timestamp.json", "5")])).unwrap();
        assert_eq!(read("timestamp.json").unwrap(), "5");
    }

    #[test]
    fn a_synced_repository_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("metadata")).unwrap();
        assert!(Folder::open(folder.path()).is_err());
    }

    #[test]
    fn partial_files_have_names_of_their_own() {
        let cache = Folder { path: "/c".into() };
        let target = Object::target("a/b/uki.efi", (1, [0xab; 32]));
        assert_eq!(cache.partial(&target), Path::new("/c/.partial").join("ab".repeat(32)));
    }
}
