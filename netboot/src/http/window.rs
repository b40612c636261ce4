//! Letting spares in from the store: the form at `/window`, and `POST /v1/window` for programs. Both need the store's PIN, and
//! open or close an admission window: nothing else can be changed by people in the store.

use super::{ApiError, Peer, api, page};
use crate::{
    page::window::{self, Problem},
    pin::{PinError, form::Origin},
    shared::Shared,
    windows::ChangeError,
};
use axum::{
    Extension, Json,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use contracts::window::{WindowAction, WindowRequest, WindowStatus};
use std::{collections::HashMap, sync::Arc};
use time::OffsetDateTime;

type Service = State<Arc<Shared>>;

pub(crate) const LARGEST: usize = 4 << 10;
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `GET /window`: the form.
pub async fn form(
    State(shared): Service,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    show(&shared, peer, query.as_deref(), &headers, None)
}

fn show(shared: &Shared, peer: Peer, query: Option<&str>, headers: &HeaderMap, problem: Option<&Problem>) -> Response {
    let words = page::language(shared, query, headers).words();
    let token = shared.page.tokens.make(OffsetDateTime::now_utc(), peer.0.ip());
    let (windows, pin) = (shared.status().windows, shared.page.pin.is_set());
    page::shown(window::page(&shared.credential.store, &windows, pin, &token, problem, words))
}

/// Why nothing was changed.
#[derive(Debug)]
enum Refused {
    /// The form is not ours, or has lain too long.
    Form,
    /// It makes no sense.
    Bad,
    Pin(PinError),
    Change(ChangeError),
}

/// `POST /window`: what the form sends. When it worked, the browser goes on to the main page.
pub async fn submit(
    State(shared): Service,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = api::read(body, LARGEST).await?;
    let changed = submitted(&shared, peer, &headers, &bytes).await;
    let language = page::language(&shared, query.as_deref(), &headers);
    Ok(match changed {
        Ok(_) => (StatusCode::SEE_OTHER, [(header::LOCATION, format!("/?lang={}", language.tag()))]).into_response(),
        Err(refused) => {
            let (status, problem) = problem(&refused);
            tracing::warn!("{}: no window was changed from the page: {refused:?}", peer.0.ip());
            (status, show(&shared, peer, query.as_deref(), &headers, Some(&problem))).into_response()
        }
    })
}

async fn submitted(
    shared: &Arc<Shared>,
    peer: Peer,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<WindowStatus, Refused> {
    let fields: HashMap<String, String> = url::form_urlencoded::parse(body).into_owned().take(16).collect();
    let field = |name: &str| fields.get(name).map(String::as_str);
    let token = field("token").unwrap_or_default();
    let now = OffsetDateTime::now_utc();
    if !comes_from_us(shared, headers) || !shared.page.tokens.is_good(now, peer.0.ip(), token) {
        return Err(Refused::Form);
    }
    let number = |name: &str| field(name).map(|text| text.parse::<u32>()).transpose().map_err(|_| Refused::Bad);
    let action = match field("action") {
        Some("open") => WindowAction::Open { minutes: number("minutes")?, machines: number("machines")? },
        Some("close") => WindowAction::Close,
        _ => return Err(Refused::Bad),
    };
    shared.page.pin.check(peer.0.ip(), field("pin").unwrap_or_default()).await.map_err(Refused::Pin)?;
    let who = format!("{} with the store's PIN", peer.0.ip());
    shared.change_window(field("window").map(str::to_owned), action, &who).await.map_err(Refused::Change)
}

fn comes_from_us(shared: &Shared, headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = Origin { host: text(header::HOST), origin: text(header::ORIGIN), fetch_site: text(FETCH_SITE) };
    let (address, config) = (shared.address.to_string(), shared.config.now());
    let base = shared.base_url.strip_prefix("http://").unwrap_or_default();
    let mut own: Vec<&str> = vec![&address, base];
    own.extend(config.page.names.iter().map(String::as_str));
    origin.is_own(&own)
}

fn problem(refused: &Refused) -> (StatusCode, Problem) {
    let problem = |key| Problem { key, ..Problem::default() };
    match refused {
        Refused::Form => (StatusCode::FORBIDDEN, problem("window.expired")),
        Refused::Bad => (StatusCode::BAD_REQUEST, problem("window.cannot")),
        Refused::Pin(PinError::Wrong) => (StatusCode::FORBIDDEN, problem("window.wrong-pin")),
        Refused::Pin(PinError::NotSet) => (StatusCode::CONFLICT, problem("window.no-pin")),
        Refused::Pin(PinError::Wait(wait)) => {
            (StatusCode::TOO_MANY_REQUESTS, Problem { wait: *wait, ..problem("window.wait") })
        }
        Refused::Pin(PinError::Secret(_)) => {
            let code = Some("pin-unreadable");
            (StatusCode::INTERNAL_SERVER_ERROR, Problem { code, ..problem("window.failed") })
        }
        Refused::Change(ChangeError::Window(error)) => {
            (StatusCode::CONFLICT, Problem { code: Some(error.code()), ..problem("window.cannot") })
        }
        Refused::Change(ChangeError::Store(_)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, Problem { code: Some("ledger"), ..problem("window.failed") })
        }
    }
}

/// `POST /v1/window`: the same for programs, see [`WindowRequest`]. Another site cannot make a browser send `application/json`
/// without asking us first, and we never agree.
///
/// # Errors
/// `wrong-pin`, `too-many-tries`, `no-pin`, or why the window cannot be changed.
pub async fn change(
    State(shared): Service,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<WindowStatus>, ApiError> {
    let json = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let foreign = headers.contains_key(header::ORIGIN) && !comes_from_us(&shared, &headers);
    if !json || foreign {
        let message = "send the request as application/json, and from no other site's page";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", message));
    }
    let request: WindowRequest = contracts::read(&api::read(body, LARGEST).await?).map_err(|e| api::bad(&e))?;
    shared.page.pin.check(peer.0.ip(), &request.pin).await.map_err(|error| {
        let (status, code) = match &error {
            PinError::Wrong => (StatusCode::FORBIDDEN, "wrong-pin"),
            PinError::Wait(_) => (StatusCode::TOO_MANY_REQUESTS, "too-many-tries"),
            PinError::NotSet => (StatusCode::CONFLICT, "no-pin"),
            PinError::Secret(_) => (StatusCode::INTERNAL_SERVER_ERROR, "pin-unreadable"),
        };
        ApiError::new(status, code, error.to_string())
    })?;
    let who = format!("{} with the store's PIN", peer.0.ip());
    let changed = shared.change_window(request.window, request.action, &who).await;
    changed.map(Json).map_err(|error| match error {
        ChangeError::Window(error) => ApiError::new(StatusCode::CONFLICT, error.code(), error.to_string()),
        ChangeError::Store(error) => api::internal(&error),
    })
}
