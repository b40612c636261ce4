//! Which events wait, which make room, and which came before: pure, so that every rule can be tested in microseconds.
//!
//! Only what decisions need is in memory; the events themselves are in the journal.

use crate::proto::mac::Mac;
use contracts::event::StepStatus;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use uuid::Uuid;

/// Events that the queue holds. A journey makes some hundreds.
pub const MOST: usize = 8192;

/// What may be in the queue, and in the memory for repeats.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Events in all.
    pub events: usize,
    /// Their bytes in all.
    pub bytes: usize,
    /// Events of one machine: one that raves must not take the others' room.
    pub of_one_machine: usize,
    /// Ids of delivered events that are remembered, to drop repeats.
    pub remembered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: MOST, bytes: 4 << 20, of_one_machine: 2048, remembered: 4096 }
    }
}

/// How much an event matters when there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// How far something is: the next one says it again.
    Progress,
    /// Something began or waits.
    Other,
    /// Something ended. Never dropped.
    Outcome,
}

impl Weight {
    /// The weight of a step's event.
    #[must_use]
    pub const fn of(status: StepStatus) -> Self {
        match status {
            StepStatus::Progress => Self::Progress,
            StepStatus::Started | StepStatus::Waiting => Self::Other,
            StepStatus::Done | StepStatus::Failed => Self::Outcome,
        }
    }
}

/// What the queue knows of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The event's id.
    pub id: Uuid,
    /// The machine that it is about; `None` for the store itself.
    pub machine: Option<Mac>,
    /// How much it matters.
    pub weight: Weight,
    /// How many bytes it has as it is sent.
    pub bytes: usize,
}

/// There is no room, and everything that is in the way is an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event queue is full of outcomes that the region has not taken yet")]
pub struct Full;

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is a repeat: nothing to do.
    Repeat,
    /// It has this place.
    At {
        /// Its place. Later events have greater ones.
        place: u64,
        /// The events that made room for it, with their places.
        dropped: Vec<(u64, Meta)>,
    },
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    limits: Limits,
    next: u64,
    waiting: BTreeMap<u64, Meta>,
    /// The places in order of what they matter, of all machines and of each.
    by_weight: BTreeSet<(Weight, u64)>,
    per_machine: HashMap<Option<Mac>, BTreeSet<(Weight, u64)>>,
    bytes: usize,
    known: HashSet<Uuid>,
    delivered: VecDeque<(u64, Uuid)>,
}

impl Queue {
    /// An empty queue with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Puts back what was in the queue before a restart. The limits do not count here: nothing that was kept is lost.
    pub fn restore(&mut self, place: u64, meta: Meta) {
        self.next = self.next.max(place + 1);
        self.insert(place, meta);
    }

    /// Puts back the id of an event that was delivered before a restart. Gives the place of one that is forgotten for it.
    pub fn restore_delivered(&mut self, place: u64, id: Uuid) -> Option<u64> {
        self.next = self.next.max(place + 1);
        self.remember(place, id)
    }

    /// Takes an event.
    ///
    /// # Errors
    /// [`Full`]; then nothing has changed.
    pub fn offer(&mut self, meta: Meta) -> Result<Taken, Full> {
        if self.known.contains(&meta.id) {
            return Ok(Taken::Repeat);
        }
        let mut dropped = Vec::new();
        if self.per_machine.get(&meta.machine).is_some_and(|own| own.len() >= self.limits.of_one_machine) {
            dropped.push(self.least(Some(meta.machine), &dropped).ok_or(Full)?);
        }
        let freed = |queue: &Self, dropped: &[u64]| -> usize { dropped.iter().map(|at| queue.waiting[at].bytes).sum() };
        while self.waiting.len() - dropped.len() >= self.limits.events
            || self.bytes - freed(self, &dropped) + meta.bytes > self.limits.bytes
        {
            dropped.push(self.least(None, &dropped).ok_or(Full)?);
        }
        let dropped: Vec<_> = dropped.into_iter().filter_map(|place| Some((place, self.remove(place)?))).collect();
        for (_, meta) in &dropped {
            self.known.remove(&meta.id);
        }
        let place = self.next;
        self.next += 1;
        self.insert(place, meta);
        Ok(Taken::At { place, dropped })
    }

    /// The oldest event that says least and may go.
    fn least(&self, of: Option<Option<Mac>>, gone: &[u64]) -> Option<u64> {
        let all = match of {
            Some(machine) => self.per_machine.get(&machine)?,
            None => &self.by_weight,
        };
        let mut droppable = all.iter().take_while(|(weight, _)| *weight != Weight::Outcome);
        droppable.find(|(_, place)| !gone.contains(place)).map(|(_, place)| *place)
    }

    /// Takes back what [`Queue::offer`] did, after it could not be written down.
    pub fn undo(&mut self, place: u64, dropped: &[(u64, Meta)]) {
        if let Some(meta) = self.remove(place) {
            self.known.remove(&meta.id);
        }
        for (place, meta) in dropped {
            self.insert(*place, *meta);
        }
    }

    /// The region has taken it, or never will. Gives the place of a delivered event that is forgotten for it.
    pub fn deliver(&mut self, place: u64) -> Option<u64> {
        let meta = self.remove(place)?;
        self.remember(place, meta.id)
    }

    /// The places of the oldest events, at most so many, and so many bytes unless the first alone has more.
    #[must_use]
    pub fn batch(&self, most: usize, bytes: usize) -> Vec<u64> {
        let mut sum = 0;
        let fits = |(_, meta): &(&u64, &Meta)| {
            sum += meta.bytes;
            sum <= bytes || sum == meta.bytes
        };
        self.waiting.iter().take(most).take_while(fits).map(|(place, _)| *place).collect()
    }

    /// What is known of an event that waits.
    #[must_use]
    pub fn meta(&self, place: u64) -> Option<Meta> {
        self.waiting.get(&place).copied()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn insert(&mut self, place: u64, meta: Meta) {
        self.known.insert(meta.id);
        self.bytes += meta.bytes;
        self.by_weight.insert((meta.weight, place));
        self.per_machine.entry(meta.machine).or_default().insert((meta.weight, place));
        self.waiting.insert(place, meta);
    }

    fn remove(&mut self, place: u64) -> Option<Meta> {
        let meta = self.waiting.remove(&place)?;
        self.bytes -= meta.bytes;
        self.by_weight.remove(&(meta.weight, place));
        if let Some(own) = self.per_machine.get_mut(&meta.machine) {
            own.remove(&(meta.weight, place));
            if own.is_empty() {
                self.per_machine.remove(&meta.machine);
            }
        }
        Some(meta)
    }

    fn remember(&mut self, place: u64, id: Uuid) -> Option<u64> {
        self.known.insert(id);
        self.delivered.push_back((place, id));
        if self.delivered.len() <= self.limits.remembered {
            return None;
        }
        let (place, id) = self.delivered.pop_front()?;
        self.known.remove(&id);
        Some(place)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
