//! Events as they came, once each.

use super::{Db, DbError, millis, retirements, staging};
use contracts::event::{Event, StepEvent, StepStatus};
use contracts::staging::{STAGED_EVENT, StageRecord};
use contracts::step::Step;
use serde::Deserialize;
use sqlx::SqliteConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// An event is a few hundred bytes.
pub const MAX_EVENT_BYTES: usize = 16 * 1024;

/// One event, ready to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    id: Uuid,
    source: String,
    subject: String,
    time: OffsetDateTime,
    step: Option<String>,
    status: Option<String>,
    code: Option<String>,
    message: Option<String>,
    /// What a machine was found to be, where that is what it tells.
    staged: Option<StageRecord>,
    body: String,
}

/// What every CloudEvent has. Its data may be of a kind that this program does not know yet: an older registrar must
/// not make a newer store's event queue stand still.
#[derive(Deserialize)]
struct Envelope {
    id: Uuid,
    source: String,
    subject: String,
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    #[serde(default)]
    data: serde_json::Value,
}

/// Reads one CloudEvent.
///
/// # Errors
/// What is missing, for people.
pub fn from_json(value: &serde_json::Value) -> Result<EventRow, String> {
    let body = value.to_string();
    if body.len() > MAX_EVENT_BYTES {
        return Err(format!("it has {} bytes, at most {MAX_EVENT_BYTES} are taken", body.len()));
    }
    let envelope = Envelope::deserialize(value).map_err(|error| error.to_string())?;
    let text = |name: &str| envelope.data.get(name).and_then(|v| v.as_str()).map(str::to_owned);
    let is_staged = value.get("type").and_then(|kind| kind.as_str()) == Some(STAGED_EVENT);
    // A record of a newer shape is kept as an event, and no more.
    let staged = if is_staged { StageRecord::deserialize(&envelope.data).ok() } else { None };
    Ok(EventRow {
        staged,
        step: text("step"),
        status: text("status"),
        code: text("code"),
        message: text("message"),
        id: envelope.id,
        source: envelope.source,
        subject: envelope.subject,
        time: envelope.time,
        body,
    })
}

impl EventRow {
    /// An event that the registrar itself has to tell.
    #[must_use]
    pub fn own(
        mac: &str,
        attempt: Uuid,
        step: Step,
        status: StepStatus,
        code: Option<&str>,
        message: String,
        now: OffsetDateTime,
    ) -> Self {
        let data = StepEvent {
            step,
            status,
            attempt: Some(attempt),
            message,
            progress: None,
            eta_seconds: None,
            code: code.map(str::to_owned),
        };
        let event = Event::new(Uuid::new_v4(), "registrar", mac, now, data);
        let body = serde_json::to_value(&event).unwrap_or_default();
        Self {
            id: event.id,
            source: event.source,
            subject: event.subject,
            time: event.time,
            step: Some(step.to_string()),
            status: body["data"]["status"].as_str().map(str::to_owned),
            code: event.data.code,
            message: Some(event.data.message),
            staged: None,
            body: body.to_string(),
        }
    }
}

impl Db {
    /// Keeps events that a store delivered, and says how many were new. A repeat changes nothing.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn keep_events(&self, store: &str, events: &[EventRow], now: OffsetDateTime) -> Result<u64, DbError> {
        let mut transaction = self.write().await?;
        let mut new = 0;
        for event in events {
            if insert(&mut transaction, store, event, now).await? == 0 {
                continue;
            }
            new += 1;
            if let Some(record) = &event.staged {
                staging::keep(&mut transaction, store, &event.subject, record, now).await?;
            }
            if event.code.as_deref() == Some(retirements::DONE) {
                retirements::done(&mut transaction, store, &event.subject, event.message.as_deref(), now).await?;
            }
        }
        transaction.commit().await?;
        Ok(new)
    }

    /// How many events are kept, for one machine or all.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn count_events(&self, subject: Option<&str>) -> Result<i64, DbError> {
        let sql = "SELECT COUNT(*) FROM events WHERE ?1 IS NULL OR subject = ?1";
        Ok(sqlx::query_scalar(sql).bind(subject).fetch_one(&self.pool).await?)
    }

    /// The bodies of all events about one machine, the earliest first.
    ///
    /// # Errors
    /// [`DbError::Statement`], [`DbError::Damaged`].
    pub async fn events_of(&self, subject: &str) -> Result<Vec<serde_json::Value>, DbError> {
        let bodies: Vec<String> = sqlx::query_scalar("SELECT body FROM events WHERE subject = ? ORDER BY time, rowid")
            .bind(subject)
            .fetch_all(&self.pool)
            .await?;
        bodies.iter().map(|body| serde_json::from_str(body).map_err(|_| DbError::Damaged("events"))).collect()
    }
}

/// Inserts one event unless its id is known; 1 when it was new.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    store: &str,
    event: &EventRow,
    now: OffsetDateTime,
) -> Result<u64, DbError> {
    let sql = "INSERT OR IGNORE INTO events
               (id, store, source, subject, time, step, status, code, message, body, received_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let done = sqlx::query(sql)
        .bind(event.id.to_string())
        .bind(store)
        .bind(&event.source)
        .bind(&event.subject)
        .bind(millis(event.time))
        .bind(&event.step)
        .bind(&event.status)
        .bind(&event.code)
        .bind(&event.message)
        .bind(&event.body)
        .bind(millis(now))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}
