//! Writes leases, and sends the answers that wait for them: in a thread of its own, so that a slow disk keeps nobody waiting who
//! needs it not. All leases that were granted while the disk was busy are one commit.

use super::{ears::Mouth, lease_store::LeaseStore};
use crate::proto::dhcp::{decide::Destination, lease::table::Record};
use std::{
    net::Ipv4Addr,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};
use time::OffsetDateTime;

/// Leases that wait for the disk. Beyond that the disk cannot follow, and clients ask again.
const MOST_WAITING: usize = 1024;
/// Leases in one commit.
const TOGETHER: usize = 256;

/// A lease, and the answer that leaves once it is on the disk; none for a lease that ended.
#[derive(Debug)]
pub struct Kept {
    /// What is kept.
    pub record: Record,
    /// What is sent then.
    pub answer: Option<(Vec<u8>, Destination)>,
}

/// Where leases are handed over.
#[derive(Debug)]
pub struct Handover(SyncSender<Kept>);

impl Handover {
    /// Never waits. A lease for which there is no room is given back: its answer must not be sent.
    ///
    /// # Errors
    /// The lease.
    pub fn give(&self, kept: Kept) -> Result<(), Box<Kept>> {
        self.0.try_send(kept).map_err(|error| match error {
            TrySendError::Full(kept) | TrySendError::Disconnected(kept) => Box::new(kept),
        })
    }
}

/// The thread's work.
#[derive(Debug)]
pub struct LeaseWriter {
    store: LeaseStore,
    mouth: Mouth,
    from: Ipv4Addr,
    waiting: Receiver<Kept>,
}

impl LeaseWriter {
    /// A writer that answers from this address, and where it gets its work.
    #[must_use]
    pub fn new(store: LeaseStore, mouth: Mouth, from: Ipv4Addr) -> (Handover, Self) {
        let (sender, waiting) = sync_channel(MOST_WAITING);
        (Handover(sender), Self { store, mouth, from, waiting })
    }

    /// Works until nobody can hand over any more, and everything is written.
    pub fn run(mut self) {
        while let Ok(first) = self.waiting.recv() {
            let mut batch = vec![first];
            batch.extend(self.waiting.try_iter().take(TOGETHER - 1));
            let (records, answers): (Vec<Record>, Vec<_>) = batch.into_iter().map(|k| (k.record, k.answer)).unzip();
            if let Err(error) = self.store.keep(OffsetDateTime::now_utc().unix_timestamp(), &records) {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "{} answers are not sent: their leases cannot be kept", records.len());
                continue;
            }
            for (bytes, destination) in answers.into_iter().flatten() {
                if let Err(error) = self.mouth.say(&bytes, self.from, destination) {
                    tracing::warn!("an answer to {destination} could not be sent: {error}");
                }
            }
        }
    }
}
