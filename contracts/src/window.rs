//! Admission windows: when a store may take in machines that its inventory does not name.
//!
//! The region says which windows there are, what the machines in them get, and how many places there are: each place is a
//! [`crate::store::StoreMachine`] with the selector [`crate::store::MachineSelector::Window`]. A store can open a window early or
//! again only where the region leaves that to it ([`Opening::ByStore`]), and can always close it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// The type of the event that says what became of a window.
pub const WINDOW_EVENT: &str = "dev.shelfboot.window.v1";

/// A window, as the region grants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionWindow {
    /// Unique over all stores. Its places are named `NAME-1`, `NAME-2` and so on.
    pub name: String,
    /// When it is open.
    pub opening: Opening,
    /// The only processor architectures that it is for, as image manifests write them (`x86_64`, `aarch64`); all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// The only beginnings of MAC addresses that it is for, lower case with colons (`52:54:00`); all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mac_prefixes: Vec<String>,
}

/// When a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opening {
    /// Until this time, UTC; it was opened by the region.
    Until(#[serde(with = "time::serde::rfc3339")] OffsetDateTime),
    /// When somebody in the store opens it with the store's PIN.
    ByStore {
        /// For so many minutes at a time at most.
        longest_minutes: u32,
    },
}

/// `POST /v1/window` of netboot: open or close a window. The answer is a [`WindowStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRequest {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The store's PIN.
    pub pin: String,
    /// Which window; the only one that the store may change when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// What to do with it.
    pub action: WindowAction,
}

/// What somebody in the store wants of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowAction {
    /// Open it, only where [`Opening::ByStore`].
    Open {
        /// For so many minutes; the longest that the region grants when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        minutes: Option<u32>,
        /// For so many machines; for all free places when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        machines: Option<u32>,
    },
    /// Close it. One that the region opened stays closed until the region changes it.
    Close,
}

/// How a window stands, in [`crate::status::StoreStatus::windows`] and as the answer to [`WindowRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowStatus {
    /// Its name.
    pub name: String,
    /// What the machines get.
    pub template: String,
    /// Since it is open: until when, UTC. `None` when it is closed.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub open_until: Option<OffsetDateTime>,
    /// Machines that it still takes in if it is, or were, open.
    pub places_left: u32,
    /// Places that machines have.
    pub places_taken: u32,
    /// For how many minutes the store may open it; `None` when only the region does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_may_open_minutes: Option<u32>,
}

/// What became of a window: the data of a [`WINDOW_EVENT`], whose subject is the machine, or the window's name where it is about
/// none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowEvent {
    /// The window's name.
    pub window: String,
    /// What happened.
    pub what: WindowChange,
    /// The place that was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Machines that it still takes in.
    pub places_left: u32,
    /// A sentence for people.
    pub message: String,
}

/// What happened to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowChange {
    /// Somebody in the store opened it.
    Opened,
    /// A machine took a place.
    Used,
    /// Somebody in the store closed it.
    Closed,
    /// Its time is over, or all its places are taken.
    Ended,
}

impl AdmissionWindow {
    /// The name of a place, counted from 1.
    #[must_use]
    pub fn place(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }
}

impl crate::event::Event<WindowEvent> {
    /// An event about a window. `subject` is a MAC address, or the window's name.
    #[must_use]
    pub fn of_window(id: Uuid, source: String, subject: String, time: OffsetDateTime, data: WindowEvent) -> Self {
        Self {
            specversion: "1.0".into(),
            id,
            source,
            kind: WINDOW_EVENT.into(),
            subject,
            time,
            datacontenttype: "application/json".into(),
            data,
        }
    }
}
