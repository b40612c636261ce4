//! Keeps the database small, once an hour while the server runs.

use crate::chain;
use crate::db::{Db, MOST_EVENTS_PER_STORE, Removed};
use std::time::Duration;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(3600);

/// Starts it; it ends with `stop`.
pub fn start(db: Db, keep: time::Duration, stop: CancellationToken) {
    tokio::spawn(async move {
        loop {
            match db.remove_old(OffsetDateTime::now_utc(), keep, MOST_EVENTS_PER_STORE).await {
                Ok(removed) if removed == Removed::default() => {}
                Ok(Removed { events, enrollments }) => tracing::info!(events, enrollments, "old records were removed"),
                // The next hour tries again; nothing waits for it.
                Err(error) => tracing::error!(error = chain(&error), "old records could not be removed"),
            }
            if tokio::time::timeout(EVERY, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    });
}
