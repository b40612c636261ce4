//! `GET /v1/status` and `GET /v1/health`: what netboot shows people and monitoring.

use crate::{event::StepStatus, step::Step, window::WindowStatus};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The store at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The store's name.
    pub store: String,
    /// netboot's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// Whether the region answered the last call.
    pub region_reachable: bool,
    /// Events that the region has not taken yet.
    pub events_waiting: usize,
    /// Events that the region would not take, kept for support.
    #[serde(default)]
    pub events_refused: usize,
    /// What this store lost or had to repair of its own state, for support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_problem: Option<String>,
    /// Admission windows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<WindowStatus>,
    /// DHCP servers that were heard on the LAN.
    #[serde(default)]
    pub dhcp_servers: Vec<String>,
    /// Machines that asked for something, the most recent first.
    pub machines: Vec<MachineStatus>,
}

/// Whether netboot can do its work now: the body of `GET /v1/health`, with HTTP status 200 when ready, else 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// [`crate::VERSION`].
    pub version: u32,
    /// True when a machine of this store that is switched on now would be installed.
    pub ready: bool,
    /// Why not; empty when ready.
    pub reasons: Vec<Reason>,
    /// What does not stop the work yet.
    #[serde(default)]
    pub warnings: Vec<Reason>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable code.
    pub code: String,
    /// A sentence: what is wrong, and what to do.
    pub message: String,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// MAC address, lower case with colons.
    pub mac: String,
    /// The inventory entry, where one matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Bytes of boot files served to this machine by TFTP and HTTP.
    pub boot_bytes: u64,
    /// Bytes below `/repo/` served to this machine.
    pub install_bytes: u64,
    /// True when its install permit is used up: the firmware gets no answer and goes to the disk.
    pub installed: bool,
    /// How often within the last hour it was given a boot image without an install that came of it.
    #[serde(default)]
    pub tries: u32,
    /// After so many tries its firmware gets no answer until then, UTC.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<OffsetDateTime>,
    /// When anything of it was last heard, by netboot's clock.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub heard: Option<OffsetDateTime>,
    /// How often its firmware began to ask for a boot server since an agent last spoke.
    #[serde(default)]
    pub firmware_starts: u32,
    /// How many boot images it was handed out whole since then.
    #[serde(default)]
    pub images_unheard: u32,
    /// How long its journey will still take; absent when none is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<Remaining>,
    /// The steps of the attempt under way or last ended, in order.
    pub steps: Vec<StepLine>,
}

/// How long a journey will still take: measured, or as long as earlier ones in this store took. Nothing is guessed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remaining {
    /// Seconds that the step under way will still take, from its own rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_seconds: Option<u64>,
    /// Seconds until `ready`, as the fastest and the slowest earlier journeys of this template took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journey_seconds: Option<(u64, u64)>,
    /// From how many earlier journeys that is known.
    pub earlier: u32,
    /// The step under way has taken longer than in any earlier journey.
    pub late: bool,
}

/// How one step stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Which.
    pub step: Step,
    /// How it stands.
    pub status: StepStatus,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// When it last moved.
    #[serde(with = "time::serde::rfc3339")]
    pub updated: OffsetDateTime,
    /// 0.0 to 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// Seconds that the step would still take when it last moved, where a rate was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// The latest sentence.
    pub message: String,
    /// The code, when it failed or waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}
