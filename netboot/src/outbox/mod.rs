//! Events on their way to the region: durable before anybody is told that they were taken, in order, and once.
//!
//! One thread owns the file. Calls that come while it waits for the disk share the next commit, so that a hundred machines that
//! talk at once cost one sync. With the events it keeps what the store page shows of their machines, in the same commit: after a
//! restart the page and the queue say the same.

pub mod queue;
pub(crate) mod record;
pub(crate) mod writer;

pub use record::{LARGEST_EVENT, read_back};

use crate::{
    board::Board,
    journal::{Journal, JournalError, format::Table},
    proto::mac::Mac,
};
use contracts::event::StepEvent;
use queue::{Full, Limits, Meta};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};
use time::OffsetDateTime;
use tokio::sync::{Notify, oneshot};

/// Events that wait, by their place.
const QUEUE: Table = 1;
/// Ids of delivered events, by their place.
const SENT: Table = 2;
/// What the store page shows, by MAC address.
const BOARD: Table = 3;
/// Outcomes that the region would not take, by their place.
const REFUSED: Table = 4;

/// Calls that wait for the thread. Beyond that callers are told to come again.
const CALLS: usize = 1024;

/// Why events were not taken: whoever sent them keeps them.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The queue is full.
    #[error(transparent)]
    Full(#[from] Full),
    /// Too many callers wait for the disk.
    #[error("the event queue has more to write down than the disk takes")]
    Busy,
    /// They cannot be written down.
    #[error("the event queue cannot be written: {0}")]
    Disk(String),
    /// The service is being stopped.
    #[error("the service is being stopped")]
    Closed,
}

/// An event that is to be queued.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What the queue has to know of it.
    pub meta: Meta,
    /// The event as it is sent, JSON.
    pub text: String,
    /// What the board has to hear of it, where that has not happened yet.
    pub said: Option<(OffsetDateTime, StepEvent)>,
}

/// An event that waits: its place, and its JSON.
pub type Waiting = (u64, String);

enum Call {
    Put(Vec<Offer>, Option<oneshot::Sender<Result<(), PutError>>>),
    Batch { most: usize, bytes: usize, reply: oneshot::Sender<Vec<Waiting>> },
    Delivered(Vec<u64>, oneshot::Sender<()>),
    Refused(u64, oneshot::Sender<()>),
    Close,
}

/// What others may know at any time.
#[derive(Debug, Default)]
struct Counters {
    waiting: AtomicUsize,
    refused: AtomicUsize,
}

/// The queue, for everybody who has something to say or to send.
#[derive(Debug)]
pub struct Outbox {
    calls: SyncSender<Call>,
    counters: Arc<Counters>,
    bell: Arc<Notify>,
    problem: Option<String>,
}

/// The other end of an [`Outbox`]: run it on a thread of its own.
#[derive(Debug)]
pub struct Writer {
    desk: writer::Desk,
    calls: Receiver<Call>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

impl Outbox {
    /// Opens the queue in a folder that this process has locked, and fills the board from it.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read or written. Damage is no error, see [`Outbox::problem`].
    pub fn open(folder: &Path, board: Arc<Mutex<Board>>, now: OffsetDateTime) -> Result<(Self, Writer), JournalError> {
        let path = folder.join("events.journal");
        let (journal, recovery) = Journal::open(&path, now)?;
        let counters = Arc::new(Counters::default());
        let bell = Arc::new(Notify::new());
        let (desk, lost) = writer::Desk::new(journal, board, Arc::clone(&counters), Arc::clone(&bell), now)?;
        let mut problem = None;
        if let Some(copy) = recovery.copy.or(lost) {
            let text = format!(
                "events for the region are lost: {} could not be read as a whole; the damaged file is kept as {}",
                path.display(),
                copy.display()
            );
            tracing::error!("{text}");
            problem = Some(text);
        } else if recovery.torn > 0 {
            tracing::info!(
                "the last commit of {} was cut off ({} bytes): nobody counts on it",
                path.display(),
                recovery.torn
            );
        }
        let (sender, calls) = sync_channel(CALLS);
        Ok((Self { calls: sender, counters, bell, problem }, Writer { desk, calls }))
    }

    /// What of the queue could not be read when it was opened, in a sentence for IT.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Queues events. They are on the disk when this returns.
    ///
    /// # Errors
    /// [`PutError`]: some may be on the disk, and are repeats when they come again.
    pub async fn put(&self, events: Vec<Offer>) -> Result<(), PutError> {
        let (reply, answer) = oneshot::channel();
        self.call(Call::Put(events, Some(reply)))?;
        answer.await.map_err(|_| PutError::Closed)?
    }

    /// Queues an event without waiting for the disk.
    ///
    /// # Errors
    /// [`PutError::Busy`] or [`PutError::Closed`].
    pub fn post(&self, event: Offer) -> Result<(), PutError> {
        self.call(Call::Put(vec![event], None))
    }

    /// The oldest events, to be sent.
    pub async fn batch(&self, most: usize, bytes: usize) -> Vec<Waiting> {
        let (reply, answer) = oneshot::channel();
        match self.call(Call::Batch { most, bytes, reply }) {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Forgets events that the region has taken.
    pub async fn delivered(&self, places: Vec<u64>) {
        let (reply, answer) = oneshot::channel();
        if self.call(Call::Delivered(places, reply)).is_ok() {
            let _ = answer.await;
        }
    }

    /// Puts an event aside that the region will not take: an outcome is kept for support.
    pub async fn refused(&self, place: u64) {
        let (reply, answer) = oneshot::channel();
        if self.call(Call::Refused(place, reply)).is_ok() {
            let _ = answer.await;
        }
    }

    /// Waits until something new is in the queue.
    pub async fn news(&self) {
        self.bell.notified().await;
    }

    /// How many events wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.counters.waiting.load(Ordering::Relaxed)
    }

    /// How many outcomes the region would not take.
    #[must_use]
    pub fn refused_kept(&self) -> usize {
        self.counters.refused.load(Ordering::Relaxed)
    }

    /// Ends the thread after what was asked of it.
    pub fn close(&self) {
        let _ = self.calls.send(Call::Close);
    }

    fn call(&self, call: Call) -> Result<(), PutError> {
        self.calls.try_send(call).map_err(|error| match error {
            TrySendError::Full(_) => PutError::Busy,
            TrySendError::Disconnected(_) => PutError::Closed,
        })
    }
}

impl Offer {
    /// An event about a step, as it is to be sent. `machine` is its subject.
    ///
    /// # Errors
    /// When it is larger than the region takes.
    pub fn new<D: serde::Serialize>(
        event: &contracts::event::Event<D>,
        machine: Option<Mac>,
        weight: queue::Weight,
    ) -> Result<Self, record::Unfit> {
        let text = record::write(event)?;
        let meta = Meta { id: event.id, machine, weight, bytes: text.len() };
        Ok(Self { meta, text, said: None })
    }
}

/// The queue's limits. Tests have smaller ones.
fn limits() -> Limits {
    Limits::default()
}

#[cfg(test)]
mod tests;
