//! Events on their way to the region: a bounded queue that never drops an outcome, and drops repeats by id.

use contracts::event::{Event, StepStatus};
use std::collections::{HashSet, VecDeque};
use uuid::Uuid;

/// Events that the queue holds. A journey makes some hundreds.
pub const MOST: usize = 4096;
/// Ids that are remembered, to drop repeats.
const REMEMBERED: usize = 4 * MOST;

/// The queue is full of outcomes: the sender has to keep its event and try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event queue is full of outcomes that the region has not taken yet")]
pub struct Full;

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Event>,
    seen: HashSet<Uuid>,
    order: VecDeque<Uuid>,
}

impl Outbox {
    /// True when an event of this id came before.
    #[must_use]
    pub fn knows(&self, id: &Uuid) -> bool {
        self.seen.contains(id)
    }

    /// Takes an event. False for a repeat, which is harmless.
    ///
    /// # Errors
    /// [`Full`] when everything in the queue is an outcome.
    pub fn push(&mut self, event: Event) -> Result<bool, Full> {
        if self.knows(&event.id) {
            return Ok(false);
        }
        if self.waiting.len() >= MOST {
            self.make_room()?;
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.seen.insert(event.id);
        self.order.push_back(event.id);
        self.waiting.push_back(event);
        Ok(true)
    }

    /// Drops the oldest event that says least: progress first, then the other ones that are no outcome.
    fn make_room(&mut self) -> Result<(), Full> {
        let progress = |e: &Event| e.data.status == StepStatus::Progress;
        let least =
            self.waiting.iter().position(progress).or_else(|| self.waiting.iter().position(|e| !e.is_outcome()));
        least.and_then(|at| self.waiting.remove(at)).map(drop).ok_or(Full)
    }

    /// The oldest events, to be sent.
    #[must_use]
    pub fn batch(&self, most: usize) -> Vec<Event> {
        self.waiting.iter().take(most).cloned().collect()
    }

    /// Forgets events that the region has taken.
    pub fn taken(&mut self, batch: &[Event]) {
        let ids: HashSet<Uuid> = batch.iter().map(|e| e.id).collect();
        self.waiting.retain(|event| !ids.contains(&event.id));
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{event::StepEvent, step::Step};
    use time::OffsetDateTime;

    fn event(status: StepStatus) -> Event {
        let data = StepEvent {
            step: Step::Install,
            status,
            attempt: None,
            message: String::new(),
            progress: None,
            eta_seconds: None,
            code: None,
        };
        Event::new(Uuid::new_v4(), "test", "02:00:00:00:00:01", OffsetDateTime::UNIX_EPOCH, data)
    }

    #[test]
    fn progress_makes_room_and_outcomes_never_do() {
        let mut outbox = Outbox::default();
        let outcome = event(StepStatus::Done);
        outbox.push(outcome.clone()).unwrap();
        for _ in 0..2 * MOST {
            outbox.push(event(StepStatus::Progress)).unwrap();
        }
        assert_eq!(outbox.len(), MOST);
        assert_eq!(outbox.batch(1), [outcome]);
        for _ in 1..MOST {
            outbox.push(event(StepStatus::Failed)).unwrap();
        }
        assert_eq!(outbox.push(event(StepStatus::Done)), Err(Full));
        assert_eq!(outbox.len(), MOST);
    }

    #[test]
    fn repeats_are_dropped_even_after_the_region_took_the_first() {
        let mut outbox = Outbox::default();
        let first = event(StepStatus::Done);
        assert!(outbox.push(first.clone()).unwrap());
        assert!(!outbox.push(first.clone()).unwrap());
        outbox.taken(std::slice::from_ref(&first));
        assert!(outbox.is_empty());
        assert!(!outbox.push(first).unwrap());
    }
}
