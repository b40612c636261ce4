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
    /// The cache of the image repository; absent where something else syncs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheStatus>,
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

/// How the cache of the image repository stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// In a word.
    pub state: CacheState,
    /// In a sentence, for people: what is done, or what is wrong.
    pub message: String,
    /// False where there is no disk for a cache, and images are streamed through from the region.
    pub on_disk: bool,
    /// The version of the metadata that machines are served, by its timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Until when that metadata is valid.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<OffsetDateTime>,
    /// When an upstream was last heard to have nothing newer than this.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub checked: Option<OffsetDateTime>,
    /// Bytes that the cache takes.
    pub bytes: u64,
    /// The most that it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_most: Option<u64>,
    /// What is being fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetching: Option<Fetching>,
    /// The images that this store needs.
    #[serde(default)]
    pub images: Vec<CachedImage>,
    /// Where it is mirrored from, in order of preference.
    #[serde(default)]
    pub upstreams: Vec<UpstreamStatus>,
}

/// The cache in a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheState {
    /// Nothing is known yet.
    #[default]
    Starting,
    /// Everything that is assigned is here.
    Complete,
    /// Something is being fetched.
    Fetching,
    /// Something is missing, and no upstream delivers it now.
    Waiting,
    /// Everything is here, but what it is verified by has expired; policy allows it for a while.
    Stale,
    /// What it is verified by has expired: nothing is offered.
    Expired,
    /// The disk is too small, or cannot be written.
    Full,
}

/// A transfer from an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fetching {
    /// What for, for example `k8s-worker 2026.11.2`.
    pub what: String,
    /// Bytes of all of it.
    pub bytes: u64,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes of these that an older image had already.
    pub reused: u64,
    /// Bytes per second, lately.
    pub rate: u64,
    /// The limit at this time, in bytes per second; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Seconds that it will still take, through the limits of the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// True when a machine waits for it right now.
    #[serde(default)]
    pub machine_waits: bool,
}

/// An image that the store needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedImage {
    /// The template.
    pub template: String,
    /// The version.
    pub version: String,
    /// When it is to be fetched, where it is only announced.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub due: Option<OffsetDateTime>,
    /// Bytes of all of it.
    pub bytes: u64,
    /// True when all of it is here.
    pub complete: bool,
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its address.
    pub url: String,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
