//! `GET /v1/store/assignments` and `POST /v1/events`: stores.

use super::{Api, ApiError};
use crate::db::{EventRow, from_json};
use crate::identity::{self, Identity};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use contracts::store::{StoreAssignments, StoreMachine};
use serde::Deserialize;
use std::time::Duration;
use time::OffsetDateTime;

/// Below the half minute after which some middleboxes forget a silent connection.
const LONG_POLL: Duration = Duration::from_secs(25);
/// So many events make a batch of about half the largest body.
const MAX_EVENTS: usize = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct Cursor {
    after: Option<u64>,
}

pub(super) async fn assignments(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    cursor: Result<Query<Cursor>, QueryRejection>,
) -> Result<Response, ApiError> {
    let store = store(&api, &identity).await?;
    let Query(cursor) = cursor.map_err(|_| ApiError::bad_request("bad-query", "after needs a generation number"))?;
    let mut current = api.current.clone();
    let deadline = tokio::time::Instant::now() + LONG_POLL;
    loop {
        current.mark_unchanged();
        let document = assignments_of(&api, &store).await?;
        // Another number, not only a greater one: a registrar that lost its database counts from 1 again.
        if cursor.after != Some(document.generation) {
            return Ok(Json(document).into_response());
        }
        tokio::select! {
            changed = current.changed() => if changed.is_err() { return Ok(StatusCode::NO_CONTENT.into_response()) },
            () = tokio::time::sleep_until(deadline) => return Ok(StatusCode::NO_CONTENT.into_response()),
            () = api.stop.cancelled() => return Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }
}

async fn assignments_of(api: &Api, store: &str) -> Result<StoreAssignments, ApiError> {
    let inventory = api.current.borrow().inventory.clone();
    let epochs = api.db.epochs(store).await?;
    let machines = inventory.machines_of(store).iter().map(|machine| StoreMachine {
        name: machine.name.clone(),
        selector: machine.selector.clone(),
        image: machine.image.clone(),
        epoch: epochs.get(&machine.name).copied().unwrap_or(1),
    });
    let now = OffsetDateTime::now_utc();
    let mut orders = api.db.orders(store, now).await?;
    orders.extend(api.db.retire_orders(store, now).await?);
    let (retired, staging) = (api.db.retired(store).await?, api.db.staging(store, now).await?);
    let windows = inventory.windows_of(store).to_vec();
    Ok(api.db.number(store, machines.collect(), windows, orders, retired, staging).await?)
}

pub(super) async fn events(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let store = store(&api, &identity).await?;
    let values: Vec<serde_json::Value> = serde_json::from_slice(&body?)
        .map_err(|error| ApiError::bad_request("bad-document", format!("a JSON array of events is needed: {error}")))?;
    if values.len() > MAX_EVENTS {
        return Err(ApiError::too_large(format!("{} events; send at most {MAX_EVENTS} at a time", values.len())));
    }
    let read = |(index, value)| {
        from_json(value).map_err(|why| ApiError::bad_request("bad-event", format!("event {index} of the array: {why}")))
    };
    let rows: Vec<EventRow> = values.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    let new = api.db.keep_events(&store, &rows, OffsetDateTime::now_utc()).await?;
    tracing::debug!(store, sent = rows.len(), new, "events");
    Ok(StatusCode::NO_CONTENT)
}

/// The calling store. Its certificate is good for decades, so what counts is the key that is registered now: a
/// replaced credential stops working at once.
async fn store(api: &Api, identity: &Identity) -> Result<String, ApiError> {
    let Identity::Store { name, fingerprint } = identity else {
        return Err(ApiError::forbidden("this call is for stores, with a certificate from this registrar"));
    };
    match api.db.store_key(name).await? {
        Some(key) if identity::fingerprint(&key) == *fingerprint => Ok(name.clone()),
        Some(_) => Err(ApiError::forbidden(format!("store {name} has a newer credential than this one"))),
        None => Err(ApiError::forbidden(format!("store {name} is not registered here"))),
    }
}
