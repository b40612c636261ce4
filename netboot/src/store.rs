//! What must outlive a restart: the region's assignments, the ledger and what the store did to windows, in one journal.
//!
//! Every change is on the disk before anyone sees it, so nothing is decided from what a power cut could take back. Reading
//! happens in memory.

use crate::{
    admission::{Local, WindowError},
    journal::{
        Journal, JournalError,
        format::{Change, Table},
    },
    proto::mac::Mac,
    roster::{Line, Roster},
};
use contracts::store::StoreAssignments;
use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
};
use time::OffsetDateTime;

const DOCUMENTS: Table = 1;
const LEDGER: Table = 2;
const WINDOWS: Table = 3;
const ASSIGNMENTS: &str = "assignments";

/// Why the state cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be made.
    #[error("cannot make the state folder {}", .0.display())]
    Folder(PathBuf, #[source] std::io::Error),
    /// Another process uses the folder.
    #[error("another netboot uses the state folder {}", .0.display())]
    InUse(PathBuf),
    /// The lock cannot be made.
    #[error("cannot lock the state folder {}", .0.display())]
    Lock(PathBuf, #[source] std::io::Error),
    /// The file cannot be read or written.
    #[error("the ledger cannot be used")]
    Journal(#[source] JournalError),
    /// A document cannot be written as JSON.
    #[error("the {0} cannot be written")]
    Content(&'static str, #[source] serde_json::Error),
}

/// The durable state, and its copy in memory.
#[derive(Debug)]
pub struct Store {
    /// One writer at a time: it reads, decides, commits, and only then changes the copy.
    journal: Mutex<Journal>,
    roster: RwLock<Roster>,
    problem: Option<String>,
    /// Held for as long as this lives; the kernel frees it however the process ends.
    _lock: File,
}

impl Store {
    /// Opens the state in a folder, making both where they are missing.
    ///
    /// # Errors
    /// [`StoreError`], for example when another process uses the folder. A damaged file is no error, see [`Store::problem`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|e| StoreError::Folder(folder.to_owned(), e))?;
        let lock = lock_folder(folder)?;
        let path = folder.join("ledger.journal");
        let (journal, recovery) = Journal::open(&path, OffsetDateTime::now_utc()).map_err(StoreError::Journal)?;
        let mut problems = Vec::new();
        if let Some(copy) = recovery.copy {
            problems.push(format!(
                "{} bytes of the ledger could not be read; the damaged file is kept as {}",
                recovery.damaged,
                copy.display()
            ));
        }
        let roster = read(&journal, &mut problems)?;
        for problem in &problems {
            tracing::error!("{problem}");
        }
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        Ok(Self { journal: Mutex::new(journal), roster: RwLock::new(roster), problem, _lock: lock })
    }

    /// What of the ledger could not be read when it was opened, in a sentence for IT.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Looks at the copy in memory.
    pub fn with<T>(&self, look: impl FnOnce(&Roster) -> T) -> T {
        look(&self.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a new document from the region: to the disk first.
    ///
    /// # Errors
    /// [`StoreError`]; then the old document stays in force.
    pub fn set_assignments(&self, document: StoreAssignments) -> Result<(), StoreError> {
        let mut journal = writer_of(&self.journal);
        let bytes = serde_json::to_vec(&document).map_err(|e| StoreError::Content("document", e))?;
        let mut changes = vec![Change::Put(DOCUMENTS, ASSIGNMENTS.into(), bytes)];
        // What the store did to windows that are gone, or that the region changed, counts no more.
        let stale = self.with(|roster| roster.stale_windows(&document));
        changes.extend(stale.iter().map(|name| Change::Delete(WINDOWS, name.clone())));
        journal.commit(&changes).map_err(StoreError::Journal)?;
        let mut roster = self.roster.write().unwrap_or_else(PoisonError::into_inner);
        roster.windows.retain(|name, _| !stale.contains(name));
        roster.assignments = Some(document);
        Ok(())
    }

    /// Changes a window, durably: `decide` sees what is so now.
    ///
    /// # Errors
    /// What `decide` objects to, inside; [`StoreError`] when it cannot be written down. Then nothing has changed.
    pub fn change_window(
        &self,
        decide: impl FnOnce(&Roster) -> Result<Local, WindowError>,
    ) -> Result<Result<Local, WindowError>, StoreError> {
        let mut journal = writer_of(&self.journal);
        let local = match self.with(decide) {
            Ok(local) => local,
            Err(error) => return Ok(Err(error)),
        };
        let bytes = serde_json::to_vec(&local).map_err(|e| StoreError::Content("window", e))?;
        journal.commit(&[Change::Put(WINDOWS, local.of.name.clone(), bytes)]).map_err(StoreError::Journal)?;
        let mut roster = self.roster.write().unwrap_or_else(PoisonError::into_inner);
        roster.windows.insert(local.of.name.clone(), local.clone());
        Ok(Ok(local))
    }

    /// Changes a line of the ledger: `decide` sees what is so now, and the line that it gives is on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has changed.
    pub fn change(&self, mac: Mac, decide: impl FnOnce(&Roster) -> Option<Line>) -> Result<Option<Line>, StoreError> {
        let mut journal = writer_of(&self.journal);
        let Some(line) = self.with(decide) else { return Ok(None) };
        let bytes = serde_json::to_vec(&line).map_err(|e| StoreError::Content("ledger line", e))?;
        journal.commit(&[Change::Put(LEDGER, mac.to_string(), bytes)]).map_err(StoreError::Journal)?;
        self.roster.write().unwrap_or_else(PoisonError::into_inner).ledger.insert(mac, line.clone());
        Ok(Some(line))
    }
}

fn writer_of(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks the folder for this process: two that write into one file would destroy it.
fn lock_folder(folder: &Path) -> Result<File, StoreError> {
    let failed = |e| StoreError::Lock(folder.to_owned(), e);
    let options = File::options().create(true).truncate(false).write(true).open(folder.join("lock"));
    let file = options.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Reads everything. What cannot be understood is left out, and said.
fn read(journal: &Journal, problems: &mut Vec<String>) -> Result<Roster, StoreError> {
    let mut roster = Roster::default();
    if let Some(bytes) = journal.get(DOCUMENTS, ASSIGNMENTS).map_err(StoreError::Journal)? {
        match contracts::read(&bytes) {
            Ok(document) => roster.assignments = Some(document),
            Err(error) => problems.push(format!("the region's assignments in the ledger are unreadable: {error}")),
        }
    }
    for key in journal.keys(LEDGER) {
        let bytes = journal.get(LEDGER, key).map_err(StoreError::Journal)?.unwrap_or_default();
        match (key.parse(), serde_json::from_slice(&bytes)) {
            (Ok(mac), Ok(line)) => {
                roster.ledger.insert(mac, line);
            }
            (_, Err(error)) => problems.push(format!("the ledger's line of {key} is unreadable: {error}")),
            (Err(error), _) => problems.push(format!("the ledger has a line of `{key}`: {error}")),
        }
    }
    for key in journal.keys(WINDOWS) {
        let bytes = journal.get(WINDOWS, key).map_err(StoreError::Journal)?.unwrap_or_default();
        match serde_json::from_slice(&bytes) {
            Ok(local) => drop(roster.windows.insert(key.to_owned(), local)),
            // It counts as never opened, or as the region has it.
            Err(error) => problems.push(format!("what was done to the window {key} is unreadable: {error}")),
        }
    }
    Ok(roster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admission::Asker,
        roster::{Progress, Standing},
    };
    use contracts::{
        assignment::ImageRef,
        store::{MachineSelector, StoreMachine},
    };

    const ASKER: Asker<'_> = Asker { now: OffsetDateTime::UNIX_EPOCH, architecture: None };

    #[test]
    fn an_installed_machine_stays_installed_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
        let machine = StoreMachine { name: "w1".into(), selector: MachineSelector::Any, image, epoch: 3 };
        let document = StoreAssignments {
            version: 1,
            store: "s".into(),
            generation: 9,
            machines: vec![machine],
            windows: vec![],
            orders: vec![],
            retired: vec![],
            staging: None,
        };
        {
            let store = Store::open(folder.path()).unwrap();
            assert_eq!(store.with(|r| r.standing(mac)), Standing::NoAssignments);
            store.set_assignments(document.clone()).unwrap();
            store.change(mac, |r| r.bind(mac, Progress::Installing, ASKER)).unwrap();
            let installed = || store.change(mac, |r| r.installed(mac, None, OffsetDateTime::UNIX_EPOCH)).unwrap();
            assert!(installed().is_some());
            assert!(installed().is_none(), "said twice, noted once");
        }
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.with(|r| r.assignments.clone()), Some(document));
        assert!(matches!(store.with(|r| r.standing(mac)), Standing::Listed { installed: true, .. }));
        assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse(_))), "one process at a time");
    }
    #[test]
    fn a_damaged_ledger_loses_one_line_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
        let entry = |n: u8| StoreMachine {
            name: format!("w{n}"),
            selector: MachineSelector::Mac(Mac([2, 0, 0, 0, 0, n]).to_string()),
            image: image.clone(),
            epoch: 1,
        };
        let machines = (1..=3).map(entry).collect();
        let document = StoreAssignments {
            version: 1,
            store: "s".into(),
            generation: 9,
            machines,
            windows: vec![],
            orders: vec![],
            retired: vec![],
            staging: None,
        };
        {
            let store = Store::open(folder.path()).unwrap();
            store.set_assignments(document).unwrap();
            for n in 1..=3 {
                let mac = Mac([2, 0, 0, 0, 0, n]);
                store.change(mac, |r| r.installed(mac, None, OffsetDateTime::UNIX_EPOCH)).unwrap();
            }
        }
        let path = folder.path().join("ledger.journal");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(17).position(|w| w == b"02:00:00:00:00:02").unwrap();
        // Twice: once in the document, once as the line's key.
        let at = at + 1 + bytes[at + 1..].windows(17).position(|w| w == b"02:00:00:00:00:02").unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.with(|r| r.ledger.len()), 2);
        assert!(store.with(|r| r.assignments.is_some()));
        let problem = store.problem().unwrap();
        assert!(problem.contains("bytes of the ledger could not be read") && problem.contains("damaged-"), "{problem}");
        drop(store);
        assert_eq!(Store::open(folder.path()).unwrap().problem(), None, "said once");
    }
}
