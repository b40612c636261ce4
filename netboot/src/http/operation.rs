//! For monitoring: `GET /metrics`, `GET /v1/health`, and the counting of requests.

use crate::{health, metrics, shared::Shared};
use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// `GET /metrics`.
pub async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let text = shared.metrics.text(&shared);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], text)
}

/// `GET /v1/health`: 200 when ready, else 503; the reasons are in the body either way.
pub async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let health = health::judge(&health::Facts::of(&shared));
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(health)).into_response()
}

/// Counts every request with its answer.
pub async fn count(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    shared.metrics.http(&path, response.status());
    response
}
