//! HTTP for firmware, agent and people on the store LAN.
//!
//! Plain HTTP on purpose: content is signed, and what must stay secret goes through the relay, end to end.

pub mod api;
mod files;
pub mod operation;
pub mod page;
mod sender;
pub mod serve;

use crate::{proto::mac::Mac, shared::Shared};
use axum::{
    Json, Router,
    http::{Method, StatusCode},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use std::{net::SocketAddr, sync::Arc};

/// The other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// The MAC address that the LAN shows for it.
    #[must_use]
    pub fn mac(self, shared: &Shared) -> Option<Mac> {
        shared.neighbours.find(self.0.ip())
    }
}

/// An error as every interface of Shelfboot has it.
#[derive(Debug)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// A stable code.
    pub code: &'static str,
    /// A sentence: what is wrong.
    pub message: String,
}

impl ApiError {
    /// Makes one.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.code, "message": self.message });
        (self.status, Json(body)).into_response()
    }
}

/// What is neither a file nor a call of the API.
async fn nothing(method: Method) -> ApiError {
    if matches!(method, Method::GET | Method::HEAD) {
        return ApiError::new(StatusCode::NOT_FOUND, "not-found", "there is nothing of this name");
    }
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "files can be fetched, nothing else")
}

/// All routes but those of files: see [`files`].
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/page/style.css", get(page::style))
        .route("/page/page.js", get(page::script))
        .route("/page/icon.svg", get(page::icon))
        .route("/page/live", get(page::live))
        .route("/v1/status", get(api::status))
        .route("/v1/time", get(api::time))
        .route("/v1/machines", post(api::machines))
        .route("/v1/events", post(api::events))
        .route("/v1/vouchers", post(api::vouchers))
        .route("/v1/health", get(operation::health))
        .route("/metrics", get(operation::metrics))
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&shared), operation::count))
        .with_state(shared)
}
