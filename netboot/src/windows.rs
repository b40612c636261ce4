//! The shell around [`crate::admission`]: every use of a window, and its end, is one line in the log and an event for the region.

use crate::{
    admission::WindowError,
    proto::mac::Mac,
    shared::{Shared, blocking},
    store::StoreError,
};
use contracts::{
    event::Event,
    store::MachineSelector,
    window::{WindowAction, WindowChange, WindowEvent, WindowStatus},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a window was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It may not be.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// It cannot be written down.
    #[error("the ledger cannot be written")]
    Store(#[source] StoreError),
}

/// Tells of windows that end, until told to stop.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut open = open_now(&shared);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now_open = open_now(&shared);
        for name in open.difference(&now_open) {
            // What was closed by hand has been told.
            let by_hand = shared.store.with(|r| r.windows.get(name).is_some_and(|local| local.until.is_none()));
            if !by_hand {
                let full = status_of(&shared, name).is_some_and(|status| status.places_left == 0);
                let why = if full { "all its places are taken" } else { "its time is over" };
                shared.tell(name, WindowChange::Ended, None, None, format!("the window {name} has ended: {why}"));
            }
        }
        open = now_open;
    }
}

fn open_now(shared: &Shared) -> BTreeSet<String> {
    let windows = shared.store.with(|roster| roster.windows(OffsetDateTime::now_utc()));
    windows.into_iter().filter(|window| window.open_until.is_some()).map(|window| window.name).collect()
}

fn status_of(shared: &Shared, name: &str) -> Option<WindowStatus> {
    shared.store.with(|roster| roster.windows(OffsetDateTime::now_utc())).into_iter().find(|w| w.name == name)
}

impl Shared {
    /// Opens or closes a window. Whoever calls has made sure that somebody with the store's PIN wants it; `who` says from where,
    /// for the log. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing has changed.
    pub async fn change_window(
        self: &Arc<Self>,
        name: Option<String>,
        action: WindowAction,
        who: &str,
    ) -> Result<WindowStatus, ChangeError> {
        let now = OffsetDateTime::now_utc();
        let shared = Arc::clone(self);
        let changed =
            blocking(move || shared.store.change_window(|roster| roster.change_window(name.as_deref(), action, now)));
        let local = changed.await.map_err(ChangeError::Store)??;
        let name = &local.of.name;
        let status = status_of(self, name).ok_or_else(|| WindowError::Unknown(name.clone()))?;
        let (what, message) = match status.open_until {
            Some(until) => {
                let (hour, minute, _) = until.time().as_hms();
                let left = status.places_left;
                let text =
                    format!("{who} opened the window {name} until {hour:02}:{minute:02} UTC for {left} machines");
                (WindowChange::Opened, text)
            }
            None => (WindowChange::Closed, format!("{who} closed the window {name}")),
        };
        self.tell(name, what, None, None, message);
        Ok(status)
    }

    /// A machine has an entry that it did not have before: if that is a place in a window, the region hears of it.
    pub(crate) fn place_taken(&self, mac: Mac, entry: &str) {
        let window = self.store.with(|roster| {
            let mut all = roster.assignments.iter().flat_map(|document| &document.machines);
            match all.find(|machine| machine.name == entry).map(|machine| machine.selector.clone()) {
                Some(MachineSelector::Window(name)) => Some(name),
                _ => None,
            }
        });
        if let Some(window) = window {
            let message = format!("{mac} took the place {entry} of the window {window}");
            self.tell(&window, WindowChange::Used, Some(mac), Some(entry), message);
        }
    }

    fn tell(&self, window: &str, what: WindowChange, mac: Option<Mac>, place: Option<&str>, message: String) {
        let places_left = status_of(self, window).map_or(0, |status| status.places_left);
        tracing::info!(window, places_left, "{message}");
        let subject = mac.map_or_else(|| window.to_owned(), |mac| mac.to_string());
        let place = place.map(str::to_owned);
        let data = WindowEvent { window: window.to_owned(), what, place, places_left, message };
        let source = format!("netboot/{}", self.credential.store);
        let event = Event::of_window(Uuid::new_v4(), source, subject, OffsetDateTime::now_utc(), data);
        self.post(&event, mac);
    }
}
