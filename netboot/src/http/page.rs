//! The store page over HTTP: the page, its style and script, and live updates.

use super::{ApiError, Peer};
use crate::{
    page::{
        ICON, SCRIPT, SECURITY_POLICY, STYLE, html,
        live::Place,
        state::{look, main_part},
        words::Language,
    },
    shared::Shared,
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// An open page looks for news this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A page that hears nothing for twenty seconds says that it has lost its connection.
const PING_EVERY: Duration = Duration::from_secs(6);
/// Then the browser asks anew by itself: no place is held for ever.
const LONGEST_LIVE: Duration = Duration::from_secs(15 * 60);

/// Headers of every answer that a browser shows. The referrer policy leaves the `Origin` of our own forms in place.
const GUARDS: [(HeaderName, &str); 3] = [
    (header::CONTENT_SECURITY_POLICY, SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
];

/// `GET /`.
pub async fn page(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let words = language(&shared, query.as_deref(), &headers).words();
    shown(html::page(&look(&shared), words))
}

/// An answer with a page in it.
pub(super) fn shown(html: String) -> Response {
    let kind = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept-language"),
    ];
    (GUARDS, kind, html).into_response()
}

/// `GET /page/style.css`.
pub async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

/// `GET /page/page.js`.
pub async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

/// `GET /page/icon.svg`.
pub async fn icon() -> Response {
    asset("image/svg+xml", ICON)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    (GUARDS, [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=60")], text).into_response()
}

/// The language: what the address says, else what the browser wants, else what the configuration says.
pub(super) fn language(shared: &Shared, query: Option<&str>, headers: &HeaderMap) -> Language {
    let asked = value(query, "lang").and_then(|tag| Language::of_tag(&tag));
    let wanted = || Language::accepted(headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?);
    asked.or_else(wanted).unwrap_or(shared.config.now().page.language)
}

/// One value of a query. The server bounds the whole address.
fn value(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query?.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// `GET /page/live`: the part of the page that changes, as Server-Sent Events, each time that it has changed; with `once`, a
/// single time and as it is.
///
/// # Errors
/// `busy` when too many pages are open; those ask every ten seconds instead.
pub async fn live(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let language = language(&shared, query.as_deref(), &headers);
    if value(query.as_deref(), "once").is_some() {
        return Ok(shown(main_part(&shared, language).to_string()));
    }
    let Some(place) = shared.page.places.take(peer.0.ip()) else {
        let message = "too many pages are open; this one asks from time to time instead";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message));
    };
    let now = Instant::now();
    let updates = Updates { shared, language, _place: place, sent: None, spoke: now, end: now + LONGEST_LIVE };
    let body = Body::from_stream(stream::unfold(updates, |mut updates| async move {
        let bytes = updates.next().await?;
        Some((Ok::<_, Infallible>(bytes), updates))
    }));
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((GUARDS, kind, body).into_response())
}

/// One open page.
struct Updates {
    shared: Arc<Shared>,
    language: Language,
    _place: Place,
    sent: Option<Arc<str>>,
    spoke: Instant,
    end: Instant,
}

impl Updates {
    /// The next thing to send, `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.sent.is_some() {
                tokio::select! {
                    () = self.shared.page.stop.cancelled() => return None,
                    () = sleep(LOOK_EVERY) => {}
                }
            }
            let now = Instant::now();
            if now > self.end {
                return None;
            }
            let html = main_part(&self.shared, self.language);
            if self.sent.as_ref() != Some(&html) {
                // No line break is in it, see `escape`.
                let event = format!("event: page\ndata: {html}\n\n");
                (self.sent, self.spoke) = (Some(html), now);
                return Some(event.into());
            }
            if now - self.spoke >= PING_EVERY {
                self.spoke = now;
                return Some(Bytes::from_static(b"event: ping\ndata:\n\n"));
            }
        }
    }
}
