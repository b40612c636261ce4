//! What must outlive a restart: the region's assignments and the ledger, in one redb file.
//!
//! Every change is committed to the disk before anyone sees it, so nothing is decided from what a power cut
//! could take back. Reading happens in memory.

use crate::{
    proto::mac::Mac,
    roster::{Line, Progress, Roster},
};
use contracts::store::StoreAssignments;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
};
use time::OffsetDateTime;

const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
const LEDGER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("ledger");
const ASSIGNMENTS: &str = "assignments";

/// Why the state cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be made.
    #[error("cannot make the state folder {}", .0.display())]
    Folder(PathBuf, #[source] std::io::Error),
    /// Another process has the file open.
    #[error("another netboot uses the state file {}", .0.display())]
    InUse(PathBuf),
    /// The file cannot be opened.
    #[error("cannot open the state file {}", .0.display())]
    Open(PathBuf, #[source] Box<redb::Error>),
    /// The disk does not take or give it.
    #[error("cannot open the state file {}", .0.display())]
    Disk(PathBuf, #[source] std::io::Error),
    /// What is in it cannot be read.
    #[error("the state file holds an unreadable {0}")]
    Content(&'static str, #[source] serde_json::Error),
    /// Reading failed.
    #[error("cannot read the state file")]
    Read(#[source] Box<redb::Error>),
    /// Writing failed: nothing has changed.
    #[error("cannot write the state file")]
    Write(#[source] Box<redb::Error>),
}

/// The durable state, and its copy in memory.
#[derive(Debug)]
pub struct Store {
    database: Database,
    /// One writer at a time: it reads, decides, commits, and only then changes the copy.
    writing: Mutex<()>,
    roster: RwLock<Roster>,
}

impl Store {
    /// Opens the state in a folder, making both where they are missing.
    ///
    /// # Errors
    /// [`StoreError`], for example when another process has the file open.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|e| StoreError::Folder(folder.to_owned(), e))?;
        let path = folder.join("netboot.redb");
        let database = open_database(&path)?;
        let roster = read(&database)?;
        Ok(Self { database, writing: Mutex::new(()), roster: RwLock::new(roster) })
    }

    /// Looks at the copy in memory.
    pub fn with<T>(&self, look: impl FnOnce(&Roster) -> T) -> T {
        look(&self.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a new document from the region: to the disk first.
    ///
    /// # Errors
    /// [`StoreError::Write`]; then the old document stays in force.
    pub fn set_assignments(&self, document: StoreAssignments) -> Result<(), StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = serde_json::to_vec(&document).map_err(|e| StoreError::Content("document", e))?;
        self.commit(DOCUMENTS, ASSIGNMENTS, &bytes)?;
        self.roster.write().unwrap_or_else(PoisonError::into_inner).assignments = Some(document);
        Ok(())
    }

    /// Gives a machine its entry, durably.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn bind(&self, mac: Mac, progress: Progress) -> Result<(), StoreError> {
        self.change(mac, |roster| roster.bind(mac, progress)).map(drop)
    }

    /// Notes a verified install, durably. True when that was news.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn set_installed(&self, mac: Mac, at: OffsetDateTime) -> Result<bool, StoreError> {
        self.change(mac, |roster| roster.installed(mac, at))
    }

    fn change(&self, mac: Mac, decide: impl FnOnce(&Roster) -> Option<Line>) -> Result<bool, StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = self.with(decide) else { return Ok(false) };
        let bytes = serde_json::to_vec(&line).map_err(|e| StoreError::Content("ledger line", e))?;
        self.commit(LEDGER, &mac.to_string(), &bytes)?;
        self.roster.write().unwrap_or_else(PoisonError::into_inner).ledger.insert(mac, line);
        Ok(true)
    }

    fn commit(&self, table: TableDefinition<'_, &str, &[u8]>, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let write = || -> Result<(), redb::Error> {
            // redb's default durability returns after fsync.
            let transaction = self.database.begin_write()?;
            transaction.open_table(table)?.insert(key, value)?;
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|e| StoreError::Write(Box::new(e)))
    }
}

/// Opens the file, or makes it whole or not at all: what a full disk leaves of a new file could never be opened.
fn open_database(path: &Path) -> Result<Database, StoreError> {
    let new = !path.exists();
    Database::create(path).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
        error => {
            if new {
                // It holds nothing yet.
                let _ = std::fs::remove_file(path);
            }
            match error {
                redb::DatabaseError::Storage(redb::StorageError::Io(source)) => {
                    StoreError::Disk(path.to_owned(), source)
                }
                error => StoreError::Open(path.to_owned(), Box::new(error.into())),
            }
        }
    })
}

fn read(database: &Database) -> Result<Roster, StoreError> {
    let raw = || -> Result<_, redb::Error> {
        // A write that opens both tables makes them in a new file.
        let transaction = database.begin_write()?;
        transaction.open_table(DOCUMENTS)?;
        transaction.open_table(LEDGER)?;
        transaction.commit()?;
        let transaction = database.begin_read()?;
        let document = transaction.open_table(DOCUMENTS)?.get(ASSIGNMENTS)?.map(|v| v.value().to_vec());
        let mut lines = Vec::new();
        for pair in transaction.open_table(LEDGER)?.iter()? {
            let (mac, line) = pair?;
            lines.push((mac.value().to_owned(), line.value().to_vec()));
        }
        Ok((document, lines))
    };
    let (document, lines) = raw().map_err(|e| StoreError::Read(Box::new(e)))?;
    let mut roster = Roster::default();
    if let Some(bytes) = document {
        roster.assignments = Some(serde_json::from_slice(&bytes).map_err(|e| StoreError::Content("document", e))?);
    }
    for (mac, bytes) in lines {
        if let Ok(mac) = mac.parse() {
            let line = serde_json::from_slice(&bytes).map_err(|e| StoreError::Content("ledger line", e))?;
            roster.ledger.insert(mac, line);
        }
    }
    Ok(roster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::Standing;
    use contracts::{
        assignment::ImageRef,
        store::{MachineSelector, StoreMachine},
    };

    #[test]
    fn an_installed_machine_stays_installed_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
        let machine = StoreMachine { name: "w1".into(), selector: MachineSelector::Any, image, epoch: 3 };
        let document =
            StoreAssignments { version: 1, store: "s".into(), generation: 9, machines: vec![machine], windows: vec![] };
        {
            let store = Store::open(folder.path()).unwrap();
            assert_eq!(store.with(|r| r.standing(mac)), Standing::NoAssignments);
            store.set_assignments(document.clone()).unwrap();
            store.bind(mac, Progress::Installing).unwrap();
            assert!(store.set_installed(mac, OffsetDateTime::UNIX_EPOCH).unwrap());
            assert!(!store.set_installed(mac, OffsetDateTime::UNIX_EPOCH).unwrap(), "said twice, noted once");
        }
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.with(|r| r.assignments.clone()), Some(document));
        assert!(matches!(store.with(|r| r.standing(mac)), Standing::Listed { installed: true, .. }));
        assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse(_))), "one process at a time");
    }
}
