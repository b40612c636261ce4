//! What the page keeps while the service runs.

use super::{
    html::{self, Shown},
    live::Places,
    words::Language,
};
use crate::{
    pin::{Pin, form::Tokens},
    shared::{Shared, lock},
};
use contracts::status::{CacheState, CacheStatus};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Pages that look at the same time share one look at the machines.
const FRESH: Duration = Duration::from_millis(500);

/// The page's own state.
#[derive(Debug)]
pub struct PageState {
    /// Ends live updates when the service ends.
    pub stop: CancellationToken,
    /// Places for live updates.
    pub places: Places,
    /// The store's PIN.
    pub pin: Pin,
    /// Tokens of our own forms.
    pub tokens: Tokens,
    rendered: Mutex<HashMap<Language, (Instant, Arc<str>)>>,
}

impl PageState {
    /// For a service that ends with `stop` and keeps its state in this folder.
    #[must_use]
    pub fn new(stop: CancellationToken, state: &Path) -> Self {
        let (pin, tokens) = (Pin::new(state), Tokens::new());
        Self { stop, places: Places::default(), pin, tokens, rendered: Mutex::default() }
    }
}

/// What there is to see now.
#[must_use]
pub fn look(shared: &Shared) -> Shown {
    let status = shared.status();
    // What is on its way is no problem; the page says how far it is.
    let on_its_way = |cache: &CacheStatus| matches!(cache.state, CacheState::Starting | CacheState::Fetching);
    let on_its_way = status.cache.as_ref().is_some_and(on_its_way);
    let problem = shared.boot.current().problem.clone();
    Shown { status, repository_problem: problem.filter(|_| !on_its_way) }
}

/// The part of the page that changes, not older than half a second.
#[must_use]
pub fn main_part(shared: &Shared, language: Language) -> Arc<str> {
    let mut rendered = lock(&shared.page.rendered);
    if let Some((at, html)) = rendered.get(&language)
        && at.elapsed() < FRESH
    {
        return Arc::clone(html);
    }
    let html: Arc<str> = html::main(&look(shared), language.words()).into();
    rendered.insert(language, (Instant::now(), Arc::clone(&html)));
    html
}
