//! The leases on disk: one journal, one line per address. A grant is answered after its line is on the disk, so a
//! power cut never lets two machines have one address.

use crate::{
    journal::{
        Journal, JournalError,
        format::{Change, Table},
    },
    proto::dhcp::lease::table::{Client, Record},
};
use serde::{Deserialize, Serialize};
use std::{net::Ipv4Addr, path::Path, time::Duration};
use time::OffsetDateTime;

const LEASES: Table = 1;
/// Some twenty thousand grants. Clients wait while the file is written anew, so that is done seldom.
const SMALL: u64 = 4 << 20;
/// Some five thousand grants, between which no commit changes the file's length.
const RESERVE: u64 = 1 << 20;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    client: Client,
    /// Seconds since 1970, by this host's clock.
    granted: i64,
    seconds: u64,
}

impl Line {
    /// What is left of the lease. A clock that stands before the grant was set back, or lost its battery: then the whole
    /// lease counts, which is never too short.
    fn remaining(&self, now: i64) -> Duration {
        let gone = u64::try_from(now - self.granted).unwrap_or(0);
        Duration::from_secs(self.seconds.saturating_sub(gone))
    }
}

/// Why the leases cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The file.
    #[error("the leases cannot be used")]
    Journal(#[source] JournalError),
    /// A line cannot be written as JSON.
    #[error("the lease of {0} cannot be written")]
    Content(Ipv4Addr, #[source] serde_json::Error),
}

/// The file.
#[derive(Debug)]
pub struct LeaseStore {
    journal: Journal,
}

impl LeaseStore {
    /// Opens or makes `leases.journal` in the state folder, which the caller has locked.
    ///
    /// # Errors
    /// [`LeaseError::Journal`]. A damaged file is no error: whose lease is lost keeps its address by asking for it, and
    /// others find it in use by their probe.
    pub fn open(folder: &Path, now: OffsetDateTime) -> Result<Self, LeaseError> {
        let (journal, recovery) = Journal::open(&folder.join("leases.journal"), now).map_err(LeaseError::Journal)?;
        if let Some(copy) = recovery.copy {
            let damaged = recovery.damaged;
            tracing::error!("{damaged} bytes of the leases could not be read; the file is kept as {}", copy.display());
        }
        Ok(Self { journal: journal.with_room(SMALL, RESERVE) })
    }

    /// Every lease, with what is left of it at `now` (seconds since 1970). Lines that cannot be understood are left out.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn load(&self, now: i64) -> Result<Vec<Record>, LeaseError> {
        let mut records = Vec::new();
        for key in self.journal.keys(LEASES) {
            let value = self.journal.get(LEASES, key).map_err(LeaseError::Journal)?;
            let line = value.and_then(|bytes| serde_json::from_slice::<Line>(&bytes).ok());
            match (key.parse(), line) {
                (Ok(address), Some(line)) => {
                    records.push(Record { address, remaining: line.remaining(now), client: line.client });
                }
                _ => tracing::error!("the lease of {key} is unreadable: left out"),
            }
        }
        Ok(records)
    }

    /// Writes records together; they are on the disk when this returns.
    ///
    /// # Errors
    /// [`LeaseError`]; then nothing has changed.
    pub fn keep(&mut self, now: i64, records: &[Record]) -> Result<(), LeaseError> {
        let change = |record: &Record| {
            let line = Line { client: record.client.clone(), granted: now, seconds: record.remaining.as_secs() };
            let bytes = serde_json::to_vec(&line).map_err(|e| LeaseError::Content(record.address, e))?;
            Ok(Change::Put(LEASES, record.address.to_string(), bytes))
        };
        let changes: Vec<_> = records.iter().map(change).collect::<Result<_, LeaseError>>()?;
        self.journal.commit(&changes).map_err(LeaseError::Journal)
    }

    /// From here on the disk takes nothing.
    #[cfg(test)]
    pub(super) fn fill_disk(&mut self) {
        self.journal.fill_disk();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dhcp::{packet::Packet, samples::Sample};

    fn record(address: [u8; 4], seconds: u64) -> Record {
        let client = Client::of(&Packet::read(&Sample::edk2_pxe().bytes()).unwrap()).unwrap();
        Record { address: address.into(), client, remaining: Duration::from_secs(seconds) }
    }

    #[test]
    fn leases_come_back_with_what_is_left_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let open = || LeaseStore::open(folder.path(), OffsetDateTime::UNIX_EPOCH).unwrap();
        let mut store = open();
        assert_eq!(store.load(1000).unwrap(), []);
        store.keep(1000, &[record([10, 0, 0, 1], 600), record([10, 0, 0, 2], 60)]).unwrap();
        drop(store);
        let mut store = open();
        assert_eq!(store.load(1100).unwrap(), [record([10, 0, 0, 1], 500), record([10, 0, 0, 2], 0)]);
        assert_eq!(store.load(-5).unwrap()[0], record([10, 0, 0, 1], 600), "a clock that was set back");
        store.keep(1100, &[record([10, 0, 0, 1], 0)]).unwrap();
        assert_eq!(store.load(1100).unwrap()[0], record([10, 0, 0, 1], 0));
    }

    #[test]
    fn a_file_that_was_cut_off_or_damaged_loses_no_other_lease() {
        let folder = tempfile::tempdir().unwrap();
        let open = || LeaseStore::open(folder.path(), OffsetDateTime::UNIX_EPOCH).unwrap();
        let mut store = open();
        for last in 1..=3 {
            store.keep(1000, &[record([10, 0, 0, last], 600)]).unwrap();
        }
        drop(store);
        let path = folder.path().join("leases.journal");
        let mut whole = std::fs::read(&path).unwrap();
        whole.truncate(whole.iter().rposition(|byte| *byte != 0).unwrap() + 1);
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        assert_eq!(open().load(1000).unwrap().len(), 2, "the last one was never answered");
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(open().load(1000).unwrap().len(), 2, "the others are there");
    }
}
