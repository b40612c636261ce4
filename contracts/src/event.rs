//! What happened, as CloudEvents 1.0 (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>),
//! JSON event format. Ids make repeats harmless: a receiver that has seen an id ignores the event.

use crate::step::Step;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// The usual event type: a step of the journey moved. [`crate::window::WINDOW_EVENT`] is the other one.
pub const STEP_EVENT: &str = "dev.shelfboot.step.v1";

/// A CloudEvent, usually about one step of one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event<D = StepEvent> {
    /// Always `1.0`.
    pub specversion: String,
    /// Unique for ever; the key by which repeats are dropped.
    pub id: Uuid,
    /// Who says so: `agent`, `netboot/STORE` or `registrar`.
    pub source: String,
    /// [`STEP_EVENT`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The machine: the MAC address of its boot NIC in lower case with colons.
    pub subject: String,
    /// When it happened, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// What happened.
    pub data: D,
}

/// What moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepEvent {
    /// Which step.
    pub step: Step,
    /// How it moved.
    pub status: StepStatus,
    /// One attempt lasts from power-on to the next power-on; made by the agent, absent before it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Uuid>,
    /// A sentence for people.
    pub message: String,
    /// 0.0 to 1.0, on `progress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// Seconds that the step will still take, on `progress`, where a rate was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// A stable code for IT, on `failed` and `waiting`, for example `foreign-data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// How a step moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepStatus {
    /// It began.
    Started,
    /// It goes on; `progress` says how far.
    Progress,
    /// It cannot go on now and will be tried again.
    Waiting,
    /// It ended well.
    Done,
    /// It ended badly; `code` says why.
    Failed,
}

impl StepStatus {
    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl Event {
    /// Wraps what happened into an event.
    #[must_use]
    pub fn new(
        id: Uuid,
        source: impl Into<String>,
        subject: impl Into<String>,
        time: OffsetDateTime,
        data: StepEvent,
    ) -> Self {
        Self {
            specversion: "1.0".into(),
            id,
            source: source.into(),
            kind: STEP_EVENT.into(),
            subject: subject.into(),
            time,
            datacontenttype: "application/json".into(),
            data,
        }
    }

    /// True when the receiver must not lose it: the end of a step.
    #[must_use]
    pub fn is_outcome(&self) -> bool {
        matches!(self.data.status, StepStatus::Done | StepStatus::Failed)
    }
}
