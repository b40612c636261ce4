//! HTTP for firmware, agent and people on the store LAN.
//!
//! Plain HTTP on purpose: content is signed, and what must stay secret goes through the relay, end to end.

pub mod api;
mod files;
mod logs;
pub mod operation;
pub mod page;
pub(crate) mod sender;
pub mod serve;
pub mod window;

use crate::{
    proto::{
        dhcp::relayed::{Unknown, Way},
        mac::Mac,
    },
    shared::Shared,
};
use axum::{
    Json, Router,
    http::{Method, StatusCode},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Who is at an address, and how netboot knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The machine.
    pub mac: Mac,
    /// The relay that it is known by; `None` for a neighbour on the LAN.
    pub way: Option<Way>,
}

impl Peer {
    /// Who it is: as the LAN's neighbour table has it, else as the DHCP relays have it that the configuration names.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn who(self, shared: &Shared) -> Result<Who, Unknown> {
        if let Some(mac) = shared.neighbours.find(self.0.ip()) {
            return Ok(Who { mac, way: None });
        }
        let IpAddr::V4(address) = self.0.ip() else { return Err(Unknown::Nobody) };
        let behind = shared.lan.behind_relay(address)?;
        Ok(Who { mac: behind.mac, way: Some(behind.way) })
    }

    /// Its MAC address, where that is known.
    #[must_use]
    pub fn mac(self, shared: &Shared) -> Option<Mac> {
        self.who(shared).ok().map(|who| who.mac)
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

/// One call: a path, a method, and what it does to what this service keeps.
#[derive(Debug)]
pub struct Route {
    /// `GET` (which serves `HEAD` too) or `POST`.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
    /// What it may change; empty when nothing.
    pub changes: &'static str,
    handler: MethodRouter<Arc<Shared>>,
}

/// Every call besides the files. Nothing here wipes a disk, orders an install, or changes what the region has ordered; people
/// in the store can change admission windows, with the store's PIN, and nothing else.
#[must_use]
pub fn routes() -> Vec<Route> {
    let shows = |path, handler| Route { method: "GET", path, changes: "", handler };
    let takes = |path, changes, handler| Route { method: "POST", path, changes, handler };
    vec![
        shows("/", get(page::page)),
        shows("/page/style.css", get(page::style)),
        shows("/page/page.js", get(page::script)),
        shows("/page/icon.svg", get(page::icon)),
        shows("/page/live", get(page::live)),
        shows("/window", get(window::form)),
        takes("/window", "an admission window, with the PIN", post(window::submit)),
        takes("/v1/window", "an admission window, with the PIN", post(window::change)),
        shows("/v1/status", get(api::status)),
        shows("/v1/time", get(api::time)),
        takes("/v1/machines", "the ledger: the asking machine takes its entry", post(api::machines)),
        takes("/v1/events", "the ledger and the queue: what the telling machine did", post(api::events)),
        takes("/v1/logs", "the logs that are kept of the telling machine", post(logs::take)),
        takes("/v1/vouchers", "", post(api::vouchers)),
        shows("/v1/health", get(operation::health)),
        shows("/metrics", get(operation::metrics)),
    ]
}

/// All routes but those of files: see `files`.
pub fn router(shared: Arc<Shared>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, route| router.route(route.path, route.handler))
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&shared), operation::count))
        .with_state(shared)
}
