//! Sends events on to the region, in order, until it has taken them.
//!
//! An event leaves the queue only after the region has said that it has it. What is sent twice because that word got lost is dropped
//! there by its id.

use super::{
    backoff::Backoff,
    client::{CallError, Region},
};
use crate::{boot_files::chain, shared::Shared};
use reqwest::{StatusCode, header};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const BATCH: usize = 100;
/// A registrar takes a MiB at once; a poor line should not have to.
const BATCH_BYTES: usize = 256 << 10;
const TIMEOUT: Duration = Duration::from_secs(20);
/// Events come in swarms: a short pause makes one call of them.
const GATHER: Duration = Duration::from_millis(200);

/// Runs until told to stop.
pub async fn run(shared: Arc<Shared>, region: Arc<Region>, stop: CancellationToken) {
    let (mut backoff, mut most) = (Backoff::default(), BATCH);
    loop {
        let batch = shared.outbox.batch(most, BATCH_BYTES).await;
        if batch.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = shared.outbox.news() => tokio::time::sleep(GATHER).await,
            }
            continue;
        }
        let texts: Vec<&str> = batch.iter().map(|(_, text)| text.as_str()).collect();
        let body = format!("[{}]", texts.join(","));
        let url = |base: &str| format!("{base}/v1/events");
        let send = |client: &reqwest::Client, base: &str| {
            let request = client.post(url(base)).header(header::CONTENT_TYPE, "application/json");
            request.body(body.clone()).timeout(TIMEOUT)
        };
        let called = tokio::select! {
            () = stop.cancelled() => return,
            called = region.call(send) => called,
        };
        let error = match called {
            Ok(_) => {
                tracing::debug!("the region has taken {} events", batch.len());
                shared.outbox.delivered(batch.into_iter().map(|(place, _)| place).collect()).await;
                (backoff, most) = (Backoff::default(), BATCH);
                continue;
            }
            Err(error) => error,
        };
        if is_about_the_events(&error) {
            // One event that the registrar will never take must not hold up all others for ever.
            if let [(place, text)] = batch.as_slice() {
                tracing::error!(
                    code = "event-refused",
                    "the region does not take this event, it is put aside: {text}: {}",
                    chain(&error)
                );
                shared.outbox.refused(*place).await;
            }
            most = (batch.len() / 2).max(1);
            continue;
        }
        let problem = chain(&error);
        if shared.quiet.due(Instant::now(), "events", &problem).is_some() {
            let waiting = shared.outbox.waiting();
            tracing::warn!(code = "events-wait", waiting, "{waiting} events wait for the region: {problem}");
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
