//! The calls, as an axum router. Who calls is known from TLS before a request is read.

mod enrollments;
mod error;
mod recovery;
mod store;

pub use error::ApiError;

use crate::broker::Brokers;
use crate::db::Db;
use crate::identity::Identity;
use crate::inventory_watch::Current;
use crate::joins::Joins;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A batch of a thousand events is below this.
const MAX_BODY: usize = 1024 * 1024;
/// Longer than any long poll or join; whoever sends its body more slowly than this is cut off.
const WHOLE_REQUEST: Duration = Duration::from_secs(60);

/// What the calls work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    /// The database.
    pub db: Db,
    /// The inventory, as it is now.
    pub current: watch::Receiver<Current>,
    /// Who checks and brokers joins.
    pub brokers: Arc<Brokers>,
    /// Joins under way.
    pub joins: Joins,
    /// Ends long polls when the server stops.
    pub stop: CancellationToken,
}

/// All calls. Requests must carry an [`Identity`] as an extension; [`for_caller`] puts it there.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/enrollments", post(enrollments::enroll))
        .route("/v1/enrollments/{id}", get(enrollments::show))
        .route("/v1/recovery-keys", post(recovery::keep))
        .route("/v1/store/assignments", get(store::assignments))
        .route("/v1/events", post(store::events))
        .fallback(|| async { ApiError::not_found("there is no such call here") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(axum::middleware::from_fn(bounded))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}

/// The router for one connection, whose other end is known.
pub fn for_caller(router: &Router, identity: Identity) -> Router {
    router.clone().layer(Extension(identity))
}

async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(WHOLE_REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::timeout().into_response(),
    }
}
