//! The thread that owns the file.

use super::{
    BOARD, Call, Counters, Offer, PutError, QUEUE, REFUSED, SENT, Waiting, Writer, limits,
    queue::{Meta, Queue, Taken, Weight},
    record::{key, place, read_back},
};
use crate::{
    board::Board,
    journal::{Journal, JournalError, format::Change},
    proto::mac::Mac,
    shared::lock,
};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

/// Calls that share a commit, and bytes of their events.
const CALLS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 1 << 20;
/// netboot's own events that are kept in memory while the disk takes nothing.
const UNSAID: usize = 512;
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// Outcomes that the region would not take.
pub(crate) const MOST_REFUSED: usize = 64;

/// What the thread works on.
#[derive(Debug)]
pub(super) struct Desk {
    journal: Journal,
    queue: Queue,
    board: Arc<Mutex<Board>>,
    counters: Arc<Counters>,
    bell: Arc<Notify>,
    /// netboot's own events that could not be written down yet: nobody else keeps them.
    unsaid: Vec<Offer>,
}

type Reply = Option<oneshot::Sender<Result<(), PutError>>>;

/// What a commit changed in memory, to take it back.
type Done = (u64, Vec<(u64, Meta)>);

impl Writer {
    /// Works until it is closed, or nobody is left who could call.
    pub fn run(self) {
        let Self { mut desk, calls } = self;
        loop {
            let first = if desk.unsaid.is_empty() {
                calls.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                calls.recv_timeout(TRY_AGAIN)
            };
            let call = match first {
                Ok(call) => Some(call),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !desk.work(call, &calls) {
                return;
            }
        }
    }
}

impl Desk {
    /// Reads the file back. What cannot be understood is taken out of it; then there is a copy of the file as it was.
    pub(super) fn new(
        journal: Journal,
        board: Arc<Mutex<Board>>,
        counters: Arc<Counters>,
        bell: Arc<Notify>,
        now: OffsetDateTime,
    ) -> Result<(Self, Option<PathBuf>), JournalError> {
        let mut desk = Self { journal, queue: Queue::new(limits()), board, counters, bell, unsaid: Vec::new() };
        let (mut changes, mut unreadable) = (Vec::new(), false);
        let keys = |table| desk.journal.keys(table).map(str::to_owned).collect::<Vec<_>>();
        for sent in keys(SENT) {
            let value = desk.journal.get(SENT, &sent)?.unwrap_or_default();
            match (place(&sent), std::str::from_utf8(&value).ok().and_then(|text| Uuid::parse_str(text).ok())) {
                (Ok(place), Some(id)) => {
                    let forgotten = desk.queue.restore_delivered(place, id);
                    changes.extend(forgotten.map(|place| Change::Delete(SENT, key(place))));
                }
                _ => changes.push(Change::Delete(SENT, sent)),
            }
        }
        // What the region would not take is tried once more: it may know better since.
        let tables =
            [QUEUE, REFUSED].map(|table| desk.journal.keys(table).map(|key| (table, key.to_owned())).collect());
        for (table, waiting) in tables.into_iter().flat_map(|keys: Vec<_>| keys) {
            let value = desk.journal.get(table, &waiting)?.unwrap_or_default();
            match read_back(&waiting, &value) {
                Ok((place, meta)) => desk.queue.restore(place, meta),
                Err(error) => {
                    unreadable = true;
                    tracing::error!("an event in the queue cannot be understood: {error}");
                    changes.push(Change::Delete(table, waiting));
                    continue;
                }
            }
            if table == REFUSED {
                changes.extend([Change::Delete(REFUSED, waiting.clone()), Change::Put(QUEUE, waiting, value)]);
            }
        }
        for machine in keys(BOARD) {
            let value = desk.journal.get(BOARD, &machine)?.unwrap_or_default();
            let restored = machine.parse().ok().is_some_and(|mac| lock(&desk.board).restore(mac, &value));
            if !restored {
                changes.push(Change::Delete(BOARD, machine));
            }
        }
        let copy = if unreadable { Some(desk.journal.keep_copy(now)?) } else { None };
        desk.journal.commit(&changes)?;
        desk.count();
        Ok((desk, copy))
    }

    /// Does what was asked, and what else came meanwhile. False at the end.
    fn work(&mut self, first: Option<Call>, calls: &Receiver<Call>) -> bool {
        let (mut puts, mut others, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut go_on = true;
        let mut next = first;
        while let Some(call) = next.take() {
            match call {
                Call::Put(events, reply) => {
                    bytes += events.iter().map(|event| event.text.len()).sum::<usize>();
                    puts.push((events, reply));
                }
                Call::Close => go_on = false,
                other => others.push(other),
            }
            if puts.len() < CALLS_AT_ONCE && bytes < BYTES_AT_ONCE {
                next = calls.try_recv().ok();
            }
        }
        let unsaid = std::mem::take(&mut self.unsaid);
        if !unsaid.is_empty() {
            puts.insert(0, (unsaid, None));
        }
        self.put(puts);
        for call in others {
            match call {
                Call::Batch { most, bytes, reply } => drop(reply.send(self.batch(most, bytes))),
                Call::Delivered(places, reply) => {
                    self.delivered(&places);
                    self.count();
                    let _ = reply.send(());
                }
                Call::Refused(place, reply) => {
                    self.refused(place);
                    self.count();
                    let _ = reply.send(());
                }
                Call::Put(..) | Call::Close => {}
            }
        }
        go_on
    }

    fn put(&mut self, puts: Vec<(Vec<Offer>, Reply)>) {
        if puts.is_empty() {
            return;
        }
        let (mut changes, mut done, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        let (mut machines, mut own) = (BTreeSet::new(), Vec::new());
        for (events, reply) in puts {
            let mut outcome = Ok(());
            for event in events {
                let result = self.take(&event, &mut changes, &mut done);
                machines.extend(event.meta.machine);
                match result {
                    Ok(_) if reply.is_none() => own.push(event),
                    Ok(true) => {
                        if let (Some((at, said)), Some(mac)) = (&event.said, event.meta.machine) {
                            lock(&self.board).agent_said(*at, mac, said);
                        }
                    }
                    Ok(false) => {}
                    Err(full) => {
                        if reply.is_none() {
                            tracing::error!("an event of netboot's own is lost: {full}: {}", event.text);
                        }
                        outcome = Err(full);
                        break;
                    }
                }
            }
            replies.push((reply, outcome));
        }
        self.keep_board(&machines, &mut changes);
        let committed = self.journal.commit(&changes);
        if let Err(error) = &committed {
            for (place, dropped) in done.iter().rev() {
                self.queue.undo(*place, dropped);
            }
            // Nobody else has them.
            own.truncate(UNSAID);
            tracing::error!("{} events cannot be written down: {}", done.len(), crate::boot_files::chain(error));
            self.unsaid = own;
        } else if !done.is_empty() {
            self.bell.notify_one();
        }
        // Whoever is told may look at once.
        self.count();
        for (reply, outcome) in replies {
            let Some(reply) = reply else { continue };
            let outcome = match &committed {
                Ok(()) => outcome.map_err(PutError::Full),
                Err(error) => Err(PutError::Disk(crate::boot_files::chain(error))),
            };
            let _ = reply.send(outcome);
        }
    }

    /// Takes one event into the queue. False for a repeat.
    fn take(&mut self, event: &Offer, changes: &mut Vec<Change>, done: &mut Vec<Done>) -> Result<bool, super::Full> {
        match self.queue.offer(event.meta)? {
            Taken::Repeat => Ok(false),
            Taken::At { place, dropped } => {
                for (at, meta) in &dropped {
                    tracing::debug!("an event ({:?}) makes room in the queue", meta.weight);
                    changes.push(Change::Delete(QUEUE, key(*at)));
                }
                changes.push(Change::Put(QUEUE, key(place), event.text.clone().into_bytes()));
                done.push((place, dropped));
                Ok(true)
            }
        }
    }

    /// Writes down what the store page shows of these machines, and forgets machines that it shows no more.
    fn keep_board(&self, machines: &BTreeSet<Mac>, changes: &mut Vec<Change>) {
        let board = lock(&self.board);
        for mac in machines {
            if let Some(text) = board.saved(*mac) {
                changes.push(Change::Put(BOARD, mac.to_string(), text.into_bytes()));
            }
        }
        let gone = self.journal.keys(BOARD).filter(|key| key.parse().is_ok_and(|mac| !board.has(mac)));
        changes.extend(gone.map(|key| Change::Delete(BOARD, key.to_owned())));
    }

    fn batch(&self, most: usize, bytes: usize) -> Vec<Waiting> {
        let mut batch = Vec::new();
        for place in self.queue.batch(most, bytes) {
            match self.journal.get(QUEUE, &key(place)) {
                Ok(Some(text)) => batch.push((place, String::from_utf8_lossy(&text).into_owned())),
                Ok(None) => {}
                Err(error) => {
                    // In order or not at all.
                    tracing::error!("the event queue cannot be read: {}", crate::boot_files::chain(&error));
                    break;
                }
            }
        }
        batch
    }

    fn delivered(&mut self, places: &[u64]) {
        let mut changes = Vec::new();
        for place in places {
            let Some(meta) = self.queue.meta(*place) else { continue };
            changes.push(Change::Delete(QUEUE, key(*place)));
            changes.push(Change::Put(SENT, key(*place), meta.id.to_string().into_bytes()));
            changes.extend(self.queue.deliver(*place).map(|forgotten| Change::Delete(SENT, key(forgotten))));
        }
        self.forget(&changes);
    }

    fn refused(&mut self, place: u64) {
        let Some(meta) = self.queue.meta(place) else { return };
        let mut changes = vec![Change::Delete(QUEUE, key(place))];
        if meta.weight == Weight::Outcome
            && let Ok(Some(text)) = self.journal.get(QUEUE, &key(place))
        {
            let kept: Vec<_> = self.journal.keys(REFUSED).map(str::to_owned).collect();
            let surplus = (kept.len() + 1).saturating_sub(MOST_REFUSED);
            changes.extend(kept.into_iter().take(surplus).map(|key| Change::Delete(REFUSED, key)));
            changes.push(Change::Put(REFUSED, key(place), text));
        }
        changes.extend(self.queue.deliver(place).map(|forgotten| Change::Delete(SENT, key(forgotten))));
        self.forget(&changes);
    }

    /// Takes delivered events out of the file. Where that fails they are sent once more after a restart, and the region
    /// drops them by their ids.
    fn forget(&mut self, changes: &[Change]) {
        if let Err(error) = self.journal.commit(changes) {
            tracing::error!("delivered events stay in the file: {}", crate::boot_files::chain(&error));
        }
    }

    fn count(&self) {
        self.counters.waiting.store(self.queue.len(), Ordering::Relaxed);
        self.counters.refused.store(self.journal.keys(REFUSED).count(), Ordering::Relaxed);
    }
}
