//! Which machines get an answer that no inventory entry names: admission windows. Pure.
//!
//! The region says which windows there are and what a machine in them gets ([`contracts::window`]); the store opens some of them, and
//! closes any. A window's places are entries of the assignments: a machine that took one keeps it, in the ledger, after the window has
//! closed. So a window is used up by machines, ends by its time, and needs nobody who remembers to close it.

use crate::{proto::mac::Mac, roster::Roster};
use contracts::{
    store::{MachineSelector, StoreAssignments, StoreMachine},
    window::{AdmissionWindow, Opening, WindowAction, WindowStatus},
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// What somebody in the store did to a window. It counts for as long as the region leaves the window as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// The window, as it was then.
    pub of: AdmissionWindow,
    /// When, by the store's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Open until then; closed when absent.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    /// Open until so many places are taken.
    pub most_taken: u32,
}

/// Who asks, as far as windows care.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Now.
    pub now: OffsetDateTime,
    /// The machine's processor, where its firmware has said it.
    pub architecture: Option<&'a str>,
}

/// Why a window cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// There is none of this name.
    #[error("this store has no window {0}")]
    Unknown(String),
    /// Which one is meant?
    #[error("this store has no window that it may open")]
    None,
    /// Which one is meant?
    #[error("this store has several windows: name one of {0}")]
    Which(String),
    /// Only the region opens it.
    #[error("the window {0} is opened by the region alone")]
    NotYours(String),
    /// All places are taken.
    #[error("all places of the window {0} are taken")]
    Full(String),
    /// A number that makes no sense.
    #[error("a window is opened for 1 to {0} minutes")]
    Minutes(u32),
    /// A number that makes no sense.
    #[error("a window is opened for at least one machine")]
    Machines,
}

impl WindowError {
    /// A stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) | Self::None => "no-window",
            Self::Which(_) => "which-window",
            Self::NotYours(_) => "not-the-stores-window",
            Self::Full(_) => "window-full",
            Self::Minutes(_) | Self::Machines => "bad-number",
        }
    }
}

/// True when a window is for this machine, whenever it is open.
#[must_use]
pub fn fits(window: &AdmissionWindow, mac: Mac, architecture: Option<&str>) -> bool {
    let text = mac.to_string();
    let architectures = &window.architectures;
    let by_architecture =
        architectures.is_empty() || architecture.is_some_and(|a| architectures.iter().any(|w| w == a));
    let begins = |prefix: &String| {
        let prefix = prefix.to_ascii_lowercase().replace('-', ":");
        !prefix.is_empty() && text.starts_with(&prefix)
    };
    by_architecture && (window.mac_prefixes.is_empty() || window.mac_prefixes.iter().any(begins))
}

impl Roster {
    fn places<'a>(&'a self, window: &'a str) -> impl Iterator<Item = &'a StoreMachine> {
        let all = self.assignments.iter().flat_map(|document| &document.machines);
        all.filter(move |machine| matches!(&machine.selector, MachineSelector::Window(name) if name == window))
    }

    /// How many of a window's places machines have.
    #[must_use]
    pub fn places_taken(&self, window: &str) -> u32 {
        let taken = self.places(window).filter(|place| self.holder(place).is_some()).count();
        u32::try_from(taken).unwrap_or(u32::MAX)
    }

    fn local(&self, window: &AdmissionWindow) -> Option<&Local> {
        self.windows.get(&window.name).filter(|local| local.of == *window)
    }

    /// Until when a window is open, if it is.
    #[must_use]
    pub fn open_until(&self, window: &AdmissionWindow, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let taken = self.places_taken(&window.name);
        let free = self.places(&window.name).count() as u32 > taken;
        let until = match (window.opening, self.local(window)) {
            (Opening::Until(until), None) => Some(until),
            // Closed by the store.
            (Opening::Until(_), Some(_)) | (Opening::ByStore { .. }, None) => None,
            // A clock that was set back must not keep it open.
            (Opening::ByStore { .. }, Some(local)) => {
                local.until.filter(|_| taken < local.most_taken && now >= local.since)
            }
        };
        until.filter(|until| free && now < *until)
    }

    /// The free place that a machine may take now, if there is one.
    #[must_use]
    pub(crate) fn admitted<'a>(
        &'a self,
        machines: &'a [StoreMachine],
        mac: Mac,
        asker: Asker<'_>,
    ) -> Option<&'a StoreMachine> {
        let windows = &self.assignments.as_ref()?.windows;
        let open = |window: &&AdmissionWindow| {
            fits(window, mac, asker.architecture) && self.open_until(window, asker.now).is_some()
        };
        windows.iter().filter(open).find_map(|window| {
            let of_it =
                |m: &&StoreMachine| matches!(&m.selector, MachineSelector::Window(name) if *name == window.name);
            machines.iter().filter(of_it).find(|place| self.holder(place).is_none())
        })
    }

    /// How every window stands.
    #[must_use]
    pub fn windows(&self, now: OffsetDateTime) -> Vec<WindowStatus> {
        let all = self.assignments.iter().flat_map(|document| &document.windows);
        all.map(|window| self.window_status(window, now)).collect()
    }

    fn window_status(&self, window: &AdmissionWindow, now: OffsetDateTime) -> WindowStatus {
        let taken = self.places_taken(&window.name);
        let all = self.places(&window.name).count() as u32;
        let template = self.places(&window.name).next().map(|place| place.image.template.clone());
        let open_until = self.open_until(window, now);
        let most = self.local(window).filter(|_| open_until.is_some()).map_or(all, |local| local.most_taken.min(all));
        WindowStatus {
            name: window.name.clone(),
            template: template.unwrap_or_default(),
            open_until,
            places_left: most.saturating_sub(taken),
            places_taken: taken,
            store_may_open_minutes: match window.opening {
                Opening::ByStore { longest_minutes } => Some(longest_minutes),
                Opening::Until(_) => None,
            },
        }
    }

    /// What comes of somebody's wish to change a window: its name, and what to keep.
    ///
    /// # Errors
    /// [`WindowError`].
    pub fn change_window(
        &self,
        name: Option<&str>,
        action: WindowAction,
        now: OffsetDateTime,
    ) -> Result<Local, WindowError> {
        let all: &[AdmissionWindow] = self.assignments.as_ref().map_or(&[], |document| &document.windows);
        let window = match name {
            Some(name) => all.iter().find(|w| w.name == name).ok_or_else(|| WindowError::Unknown(name.to_owned()))?,
            None => only(all, |window| match action {
                WindowAction::Open { .. } => matches!(window.opening, Opening::ByStore { .. }),
                WindowAction::Close => self.open_until(window, now).is_some(),
            })?,
        };
        let taken = self.places_taken(&window.name);
        let closed = Local { of: window.clone(), since: now, until: None, most_taken: taken };
        let WindowAction::Open { minutes, machines } = action else { return Ok(closed) };
        let Opening::ByStore { longest_minutes } = window.opening else {
            return Err(WindowError::NotYours(window.name.clone()));
        };
        let minutes = minutes.unwrap_or(longest_minutes);
        if minutes == 0 || minutes > longest_minutes {
            return Err(WindowError::Minutes(longest_minutes));
        }
        let left = (self.places(&window.name).count() as u32).saturating_sub(taken);
        match machines.unwrap_or(left) {
            _ if left == 0 => Err(WindowError::Full(window.name.clone())),
            0 => Err(WindowError::Machines),
            wanted => {
                let until = Some(now + Duration::minutes(minutes.into()));
                Ok(Local { until, most_taken: taken + wanted.min(left), ..closed })
            }
        }
    }

    /// Names of windows that the store changed, and that this document has no more, or not like that.
    #[must_use]
    pub fn stale_windows(&self, document: &StoreAssignments) -> Vec<String> {
        let stale = |local: &&Local| !document.windows.contains(&local.of);
        self.windows.values().filter(stale).map(|local| local.of.name.clone()).collect()
    }
}

fn only(all: &[AdmissionWindow], may: impl Fn(&AdmissionWindow) -> bool) -> Result<&AdmissionWindow, WindowError> {
    let some: Vec<_> = all.iter().filter(|window| may(window)).collect();
    match some.as_slice() {
        [] => Err(WindowError::None),
        [window] => Ok(window),
        several => Err(WindowError::Which(several.iter().map(|w| w.name.as_str()).collect::<Vec<_>>().join(", "))),
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
