//! What agents say: read, put in shape, noted in the ledger where it matters, and queued.

use crate::{
    outbox::{Offer, PutError, queue::Weight},
    proto::mac::Mac,
    shared::{Shared, lock},
    store::StoreError,
};
use contracts::{
    event::{Event, StepEvent, StepStatus},
    staging::STAGED_EVENT,
    step::Step,
};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use time::OffsetDateTime;

/// Sentences are for people, and chains of causes for IT. Longer ones are cut, in characters.
const LONGEST_MESSAGE: usize = 2000;
const LONGEST_CODE: usize = 64;

/// Why events were not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The queue did not take them.
    #[error(transparent)]
    Queue(#[from] PutError),
    /// The ledger cannot be written.
    #[error("the ledger cannot be written")]
    Store(#[source] StoreError),
}

/// An event as it came. What it is about may be of a kind that this program does not know yet: an older netboot must not
/// make a newer agent's queue stand still.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// The event.
    pub event: Event<Value>,
    /// What it says of a step, where it does.
    pub step: Option<StepEvent>,
}

/// Reads a batch.
///
/// # Errors
/// When it is no array of events.
pub fn read(bytes: &[u8]) -> Result<Vec<Incoming>, serde_json::Error> {
    let events: Vec<Event<Value>> = serde_json::from_slice(bytes)?;
    Ok(events.into_iter().map(incoming).collect())
}

fn incoming(mut event: Event<Value>) -> Incoming {
    let mut step = StepEvent::deserialize(&event.data).ok();
    if let Some(step) = &mut step {
        cut(&mut step.message, LONGEST_MESSAGE);
        if let Some(code) = &mut step.code {
            cut(code, LONGEST_CODE);
        }
        event.data = serde_json::to_value(&*step).unwrap_or_default();
    }
    cut(&mut event.source, LONGEST_CODE);
    cut(&mut event.kind, LONGEST_CODE);
    Incoming { event, step }
}

fn cut(text: &mut String, most: usize) {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
    }
}

/// What is said once is never dropped: the end of a step, that a machine is ready for the shelf, and what it was found to be.
fn weight(event: &Event<Value>, step: Option<&StepEvent>) -> Weight {
    match step {
        Some(step) if step.code.as_deref() == Some("retired") => Weight::Outcome,
        Some(step) => Weight::of(step.status),
        None if event.kind == STAGED_EVENT => Weight::Outcome,
        None => Weight::Other,
    }
}

/// Stamps a batch as received: its latest event is now, and the others keep their distance to it, because the
/// machine's clock may be years off. A distance that says that the clock was set in between does not count.
fn stamp(events: &mut [Incoming], now: OffsetDateTime) {
    const BELIEVABLE: time::Duration = time::Duration::minutes(10);
    let Some(latest) = events.iter().map(|e| e.event.time).max() else { return };
    for Incoming { event, .. } in events {
        let before = latest - event.time;
        event.time = if before <= BELIEVABLE { now - before } else { now };
    }
}

impl Shared {
    /// Takes events of an agent. They are on the disk, and an install that ended well is in the ledger, when this returns.
    ///
    /// # Errors
    /// [`IngestError`]: the agent keeps its events and sends them again.
    pub async fn ingest(self: &Arc<Self>, mut events: Vec<Incoming>) -> Result<(), IngestError> {
        let now = OffsetDateTime::now_utc();
        stamp(&mut events, now);
        let (mut offers, mut ready) = (Vec::new(), Vec::new());
        for Incoming { mut event, step } in events {
            let Ok(mac) = event.subject.parse::<Mac>() else {
                tracing::warn!("an event names no machine (subject `{}`): dropped", event.subject.escape_default());
                continue;
            };
            event.subject = mac.to_string();
            if let Some(step) = &step
                && (step.step, step.status) == (Step::Verify, StepStatus::Done)
            {
                self.note_verified(mac, step, now).await?;
            }
            if step.as_ref().is_some_and(|step| (step.step, step.status) == (Step::Ready, StepStatus::Done)) {
                ready.push(mac);
            }
            let weight = weight(&event, step.as_ref());
            match Offer::new(&event, Some(mac), weight) {
                Ok(offer) => offers.push(Offer { said: step.map(|step| (now, step)), ..offer }),
                Err(error) => tracing::warn!(%mac, code = "event-dropped", "{mac}: an event is dropped: {error}"),
            }
        }
        self.outbox.put(offers).await?;
        // The board knows it now.
        for mac in ready {
            self.learn(mac).await;
        }
        Ok(())
    }

    /// Whether somebody whose MAC address the LAN shows as `seen` may say this: about itself, or about a machine that has asked
    /// what to do under the attempt of which it speaks. Nobody else knows that attempt, and a machine with several cards, or with a
    /// bridge, may show another address than the one that it is known by.
    ///
    /// # Errors
    /// The subject that is another machine.
    pub fn may_speak(&self, seen: Mac, events: &[Incoming]) -> Result<(), String> {
        let allowed = |incoming: &&Incoming| {
            let Ok(mac) = incoming.event.subject.parse::<Mac>() else { return true };
            let attempt = incoming.step.as_ref().and_then(|step| step.attempt);
            mac == seen || attempt.is_some_and(|attempt| lock(&self.board).is_reported(mac, attempt))
        };
        match events.iter().find(|event| !allowed(event)) {
            None => Ok(()),
            Some(other) => Err(other.event.subject.clone()),
        }
    }

    /// Before the event is queued: when the agent hears that it was taken, the permit is used up.
    async fn note_verified(
        self: &Arc<Self>,
        mac: Mac,
        step: &StepEvent,
        now: OffsetDateTime,
    ) -> Result<(), IngestError> {
        let attempt = step.attempt;
        let noted = self.note_line(mac, move |roster| roster.installed(mac, attempt, now)).await;
        if noted.map_err(IngestError::Store)?.is_some() {
            tracing::info!(%mac, code = "installed", "{mac} has a verified image on its disk: its permit is used up");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn event(seconds: i64) -> Incoming {
        let data = serde_json::json!({ "step": "network", "status": "started", "message": "x".repeat(5000) });
        let time = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let event = Event {
            specversion: "1.0".into(),
            id: Uuid::new_v4(),
            source: "agent".into(),
            kind: contracts::event::STEP_EVENT.into(),
            subject: "02:00:00:00:00:01".into(),
            time,
            datacontenttype: "application/json".into(),
            data,
        };
        incoming(event)
    }

    #[test]
    fn a_batch_is_stamped_as_received_and_keeps_its_distances() {
        let at = |seconds: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let mut events = vec![event(3), event(1_000_000), event(1_000_007)];
        stamp(&mut events, at(5000));
        let times: Vec<_> = events.iter().map(|e| e.event.time).collect();
        assert_eq!(times, [at(5000), at(4993), at(5000)]);
    }

    #[test]
    fn long_sentences_are_cut_and_unknown_data_is_passed_on() {
        let cut = event(0);
        assert_eq!(cut.step.unwrap().message.len(), LONGEST_MESSAGE);
        assert_eq!(cut.event.data["message"].as_str().unwrap().len(), LONGEST_MESSAGE);
        let mut newer = serde_json::to_value(event(0).event).unwrap();
        newer["data"] = serde_json::json!({ "mood": 7 });
        let read = read(serde_json::to_string(&[newer]).unwrap().as_bytes()).unwrap();
        assert_eq!((read[0].step.clone(), read[0].event.data["mood"].as_i64()), (None, Some(7)));
        assert!(super::read(b"[1]").is_err());
    }
}
