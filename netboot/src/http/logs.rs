//! `POST /v1/logs`: what a machine logged of an attempt.

use super::{
    ApiError, Peer,
    api::{READ_TIMEOUT, bad, internal, read},
};
use crate::{
    decision, logs,
    proto::mac::Mac,
    shared::{Shared, blocking, lock},
};
use axum::{Extension, body::Body, extract::State, http::StatusCode};
use contracts::logs::{LARGEST, LogBundle};
use std::sync::Arc;

/// Takes one. It is on the disk when this returns.
pub(super) async fn take(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let busy = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "others are sending their logs: try again");
    let place = tokio::time::timeout(READ_TIMEOUT, shared.logs.places.acquire()).await;
    let _place = place.map_err(|_| busy())?.map_err(|_| busy())?;
    let (mac, bundle) = logs::read(&read(body, LARGEST).await?).map_err(|e| bad(&e))?;
    let refused = |status, code, line: String| {
        decision::say(&shared, decision::Path::Logs, &mac.to_string(), false, code, &line);
        ApiError::new(status, code, line)
    };
    let seen = peer.mac(&shared);
    if !may_send(&shared, seen, mac, &bundle) {
        let seen = seen.map_or_else(|| "no neighbour".into(), |seen| seen.to_string());
        let line = format!("the log of {mac} is refused: {} is {seen} to this LAN", peer.0.ip());
        return Err(refused(StatusCode::FORBIDDEN, "not-your-machine", line));
    }
    if !shared.logs.may(mac) {
        let line = format!("the log of {mac} comes too soon after another one");
        return Err(refused(StatusCode::TOO_MANY_REQUESTS, "too-many-logs", line));
    }
    let end = &bundle.end;
    let step = end.step.map_or_else(|| "no step".into(), |step| step.to_string());
    let code = end.code.as_ref().map_or_else(String::new, |code| format!(" ({code})"));
    let line = format!(
        "keeps the log of its attempt {}, {}: {step} {}{code}",
        bundle.attempt,
        bundle.part.as_str(),
        end.status.as_str()
    );
    let keeper = Arc::clone(&shared);
    blocking(move || keeper.logs.keep(mac, &bundle)).await.map_err(|e| internal(&e))?;
    decision::say(&shared, decision::Path::Logs, &mac.to_string(), true, "log-kept", &line);
    Ok(StatusCode::NO_CONTENT)
}

/// A machine speaks of itself; or of an attempt under which it has asked what to do, and of which nobody else knows.
fn may_send(shared: &Shared, seen: Option<Mac>, mac: Mac, bundle: &LogBundle) -> bool {
    seen == Some(mac) || lock(&shared.board).is_reported(mac, bundle.attempt)
}
