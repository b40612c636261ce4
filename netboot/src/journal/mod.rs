//! A small durable map in one file: what must outlive SIGKILL and a power cut.
//!
//! A commit is one record at the end of the file (`format`), synced before anybody is told. Values stay in the file and are read
//! when they are wanted; keys and places are in memory. Behind the last record lie zeroes, so that most commits change no length:
//! then the disk has one write to do, and the file system none of its own. When most of the file is of the past it is written anew beside itself and
//! renamed. A damaged file gives back everything but what was hit; what it looked like is kept for support.

pub mod format;

use format::{Change, Table, TooLarge, record, scan, value_offsets};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// A file of less than this is never written anew, unless its owner says otherwise.
const SMALL: u64 = 256 << 10;
/// No journal of ours grows to this: what does is not one.
const LARGEST_FILE: u64 = 64 << 20;
/// Copies of damaged files that are kept.
const COPIES: usize = 2;
/// The file grows by zeroes up to the next multiple of this, unless its owner says otherwise.
const RESERVE: u64 = 64 << 10;
/// Changes in one record of a file that is written anew.
const AT_ONCE: usize = 256;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be opened or read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It cannot be written. Nothing has changed.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// A commit is too large.
    #[error("{} does not take this", .0.display())]
    TooLarge(PathBuf, #[source] TooLarge),
}

/// What had to be done to a file when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of a commit that was never finished. Nobody was told that it was.
    pub torn: u64,
    /// Bytes that cannot be read.
    pub damaged: u64,
    /// Where the damaged file was copied to.
    pub copy: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    length: u32,
}

/// The map.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    index: BTreeMap<(Table, String), Place>,
    /// Where the next record goes.
    end: u64,
    /// How long the file is: between `end` and this there are zeroes.
    length: u64,
    /// Bytes of values and keys that are not of the past.
    live: u64,
    /// The file's end is not known to be on the disk: it is written anew before anything else.
    doubtful: bool,
    /// A file of less than this is never written anew.
    small: u64,
    /// The file grows by zeroes up to the next multiple of this.
    reserve: u64,
    /// After a rewrite that failed, the next one waits for so many bytes.
    rewrite_at: u64,
}

impl Journal {
    /// Opens a journal, or makes an empty one.
    ///
    /// # Errors
    /// [`JournalError::Read`] or [`JournalError::Write`]; damage is no error.
    pub fn open(path: &Path, now: OffsetDateTime) -> Result<(Self, Recovery), JournalError> {
        let unreadable = |e| JournalError::Read(path.to_owned(), e);
        let unwritable = |e| JournalError::Write(path.to_owned(), e);
        let mut options = OpenOptions::new();
        // What machines said is nobody else's business on the router.
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut bytes = Vec::new();
        if length <= LARGEST_FILE {
            bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
        }
        let found = scan(&bytes);
        let behind = bytes[found.end..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut recovery = Recovery { torn: behind as u64, ..Recovery::default() };
        let mut journal = Self {
            path: path.to_owned(),
            file,
            index: BTreeMap::new(),
            end: 0,
            length,
            live: 0,
            doubtful: false,
            small: SMALL,
            reserve: RESERVE,
            rewrite_at: 0,
        };
        recovery.damaged = found.damaged.iter().map(|range| range.len() as u64).sum();
        if length > LARGEST_FILE || (found.end == 0 && length > 0) {
            // Nothing of it can be read: that is more than an unfinished commit.
            (recovery.damaged, recovery.torn) = (length, 0);
        }
        journal.end = found.end as u64;
        for change in found.found {
            let place = change.value.map(|v| Place { at: v.start as u64, length: v.len() as u32 });
            journal.note((change.table, change.key), place);
        }
        if recovery.damaged > 0 {
            recovery.copy = Some(keep_copy(path, now).map_err(unwritable)?);
            journal.rewrite().map_err(unwritable)?;
        } else if recovery.torn > 0 {
            journal.file.set_len(journal.end).and_then(|()| journal.file.sync_all()).map_err(unwritable)?;
            journal.length = journal.end;
        }
        if length == 0 {
            // A disk that takes nothing is found now, and not when the first machine has something to say.
            let begun = journal.commit(&[Change::Delete(0, String::new())]);
            if let Err(error) = begun.and_then(|()| sync_folder(path).map_err(unwritable)) {
                let _ = std::fs::remove_file(path);
                return Err(error);
            }
        }
        Ok((journal, recovery))
    }

    /// A file of less than `small` bytes is not written anew, and it grows by zeroes up to the next multiple of `reserve`: both take
    /// long on a busy disk, and whoever commits waits for them.
    #[must_use]
    pub fn with_room(mut self, small: u64, reserve: u64) -> Self {
        (self.small, self.reserve) = (small, reserve);
        self
    }

    /// Makes changes, all or none of them; they are on the disk when this returns.
    ///
    /// # Errors
    /// [`JournalError`]; then nothing has changed.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError> {
        if changes.is_empty() {
            return Ok(());
        }
        let record = record(changes).map_err(|e| JournalError::TooLarge(self.path.clone(), e))?;
        self.append(&record).map_err(|e| JournalError::Write(self.path.clone(), e))?;
        let start = self.end;
        self.end += record.len() as u64;
        for (change, offset) in changes.iter().zip(value_offsets(changes)) {
            match change {
                Change::Put(table, key, value) => {
                    let place = Place { at: start + offset as u64, length: value.len() as u32 };
                    self.note((*table, key.clone()), Some(place));
                }
                Change::Delete(table, key) => self.note((*table, key.clone()), None),
            }
        }
        if self.end > self.small.max(2 * self.live).max(self.rewrite_at)
            && let Err(error) = self.rewrite()
        {
            // The commit itself is safe; there is no room for a second file, most likely.
            self.rewrite_at = self.end + SMALL;
            tracing::warn!("{} grows, because it cannot be written anew: {error}", self.path.display());
        }
        Ok(())
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if self.doubtful {
            self.rewrite()?;
        }
        let (end, longer) = (self.end + record.len() as u64, self.longer(record));
        let written = match &longer {
            // Where there is no room for zeroes there may be some for the record.
            Some(longer) if self.file.write_all_at(longer, self.end).is_ok() => Ok(end.next_multiple_of(self.reserve)),
            _ => self.file.write_all_at(record, self.end).map(|()| end.max(self.length)),
        };
        match written.and_then(|length| self.file.sync_data().map(|()| length)) {
            Ok(length) => self.length = length,
            Err(error) => {
                // After a failed fsync Linux may have thrown the pages away and forgotten it: only a new file is certain.
                self.doubtful = true;
                let _ = self.file.set_len(self.end);
                return Err(error);
            }
        }
        Ok(())
    }

    /// From here on the disk takes nothing: a full device stands in. What was there before comes back.
    #[cfg(test)]
    pub(crate) fn fill_disk(&mut self) -> File {
        std::mem::replace(&mut self.file, OpenOptions::new().write(true).open("/dev/full").unwrap())
    }

    /// A record that does not fit into the file as it is, with zeroes behind it.
    fn longer(&self, record: &[u8]) -> Option<Vec<u8>> {
        let end = self.end + record.len() as u64;
        let room = usize::try_from(end.next_multiple_of(self.reserve) - self.end).ok().filter(|_| end > self.length)?;
        let mut bytes = Vec::with_capacity(room);
        bytes.extend_from_slice(record);
        bytes.resize(room, 0);
        Some(bytes)
    }

    /// A key's value.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, JournalError> {
        let Some(place) = self.index.get(&(table, key.to_owned())) else { return Ok(None) };
        self.read(*place).map(Some).map_err(|e| JournalError::Read(self.path.clone(), e))
    }

    fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.length as usize];
        self.file.read_exact_at(&mut bytes, place.at)?;
        Ok(bytes)
    }

    /// The keys of a table, in order.
    pub fn keys(&self, table: Table) -> impl Iterator<Item = &str> {
        let of = (table, String::new())..(table + 1, String::new());
        self.index.range(of).map(|((_, key), _)| key.as_str())
    }

    /// How many bytes of the file have content.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.end
    }

    /// Copies the file to a name of its own, for support: what is in it is not what it should be.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub fn keep_copy(&self, now: OffsetDateTime) -> Result<PathBuf, JournalError> {
        keep_copy(&self.path, now).map_err(|e| JournalError::Write(self.path.clone(), e))
    }

    fn note(&mut self, key: (Table, String), place: Option<Place>) {
        let weight = |key: &(Table, String), place: Place| 8 + key.1.len() as u64 + u64::from(place.length);
        let added = place.map_or(0, |place| weight(&key, place));
        let before = match place {
            Some(place) => self.index.insert(key.clone(), place),
            None => self.index.remove(&key),
        };
        self.live = self.live + added - before.map_or(0, |before| weight(&key, before));
    }

    /// Writes everything that is not of the past into a new file, and puts it in the old one's place.
    fn rewrite(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let _ = std::fs::remove_file(&beside);
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&beside)?;
        let (mut index, mut end) = (BTreeMap::new(), 0);
        let all: Vec<_> = self.index.iter().collect();
        for some in chunks(&all) {
            let change = |((table, key), place): &(&(Table, String), &Place)| {
                Ok(Change::Put(*table, key.clone(), self.read(**place)?))
            };
            let changes = some.iter().map(change).collect::<io::Result<Vec<_>>>()?;
            let record = record(&changes).map_err(io::Error::other)?;
            file.write_all(&record)?;
            for ((key, place), offset) in some.iter().zip(value_offsets(&changes)) {
                index.insert((*key).clone(), Place { at: end + offset as u64, length: place.length });
            }
            end += record.len() as u64;
        }
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        sync_folder(&self.path)?;
        (self.file, self.index, self.end, self.length) = (file, index, end, end);
        (self.doubtful, self.rewrite_at) = (false, 0);
        Ok(())
    }
}

/// Parts that fit a record.
fn chunks<'a>(all: &'a [(&'a (Table, String), &'a Place)]) -> Vec<&'a [(&'a (Table, String), &'a Place)]> {
    let (mut out, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, ((_, key), place)) in all.iter().enumerate() {
        let weight = 8 + key.len() + place.length as usize;
        if at > from && (bytes + weight > format::LARGEST / 2 || at - from >= AT_ONCE) {
            out.push(&all[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += weight;
    }
    out.push(&all[from..]);
    out.retain(|part| !part.is_empty());
    out
}

/// Copies a damaged file to a name of its own, and removes older copies.
fn keep_copy(path: &Path, now: OffsetDateTime) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!("{name}.damaged-");
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut older: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix)))
        .collect();
    older.sort();
    let surplus = (older.len() + 1).saturating_sub(COPIES);
    for path in older.iter().take(surplus) {
        std::fs::remove_file(path)?;
    }
    let copy = folder.join(format!("{prefix}{}", now.unix_timestamp()));
    std::fs::copy(path, &copy)?;
    File::open(&copy)?.sync_all()?;
    Ok(copy)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
