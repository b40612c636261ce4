//! Sends events on to the region, in order, until it has taken them.

use super::{
    backoff::Backoff,
    client::{CallError, Region},
};
use crate::{
    boot_files::chain,
    shared::{Shared, lock},
};
use reqwest::StatusCode;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const BATCH: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(20);
/// Events come in swarms: a short pause makes one call of them.
const GATHER: Duration = Duration::from_millis(200);

/// Runs until told to stop.
pub async fn run(shared: Arc<Shared>, region: Arc<Region>, stop: CancellationToken) {
    let (mut backoff, mut most) = (Backoff::default(), BATCH);
    loop {
        let batch = lock(&shared.outbox).batch(most);
        if batch.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = shared.outbox_bell.notified() => tokio::time::sleep(GATHER).await,
            }
            continue;
        }
        let url = |base: &str| format!("{base}/v1/events");
        let called = region.call(|client, base| client.post(url(base)).json(&batch).timeout(TIMEOUT));
        let called = tokio::select! {
            () = stop.cancelled() => return,
            called = called => called,
        };
        let error = match called {
            Ok(_) => {
                lock(&shared.outbox).taken(&batch);
                (backoff, most) = (Backoff::default(), BATCH);
                continue;
            }
            Err(error) => error,
        };
        if is_about_the_events(&error) {
            // One event that the registrar will never take must not hold up all others for ever.
            if let [event] = batch.as_slice() {
                tracing::error!("the region does not take the event {event:?}, it is dropped: {}", chain(&error));
                lock(&shared.outbox).taken(&batch);
            }
            most = (batch.len() / 2).max(1);
            continue;
        }
        let problem = chain(&error);
        if shared.quiet.due(Instant::now(), "events", &problem).is_some() {
            tracing::warn!("{} events wait for the region: {problem}", lock(&shared.outbox).len());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.wait(&mut rand::rng())) => {}
        }
    }
}

/// True when the registrar objects to the content, and not to the store or the moment.
fn is_about_the_events(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Refused {
            status: StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE,
            ..
        }
    )
}
