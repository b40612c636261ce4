//! What a machine is to do: `POST /v1/machines` from the agent to netboot.

use crate::facts::MachineFacts;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The agent's question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    /// [`crate::VERSION`].
    pub version: u32,
    /// This attempt; every power-on makes a new one.
    pub attempt: Uuid,
    /// How this boot image was started.
    pub boot_mode: BootMode,
    /// MAC of the NIC on which netboot was found, lower case with colons.
    pub mac: String,
    /// The kernel's boot id (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// The machine.
    pub facts: MachineFacts,
}

/// How the agent was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootMode {
    /// From network, ISO or USB: everything that is not [`BootMode::Installed`].
    Installer,
    /// From a fixed disk that holds this boot image's root, complete.
    Installed,
}

/// netboot's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// [`crate::VERSION`].
    pub version: u32,
    /// What to do.
    pub action: Action,
    /// A sentence for the console: why.
    pub reason: String,
    /// The store's name; disks of another store are not touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The image: on `install` the one to install, on `boot` the one that an installed machine is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// Base URLs of other places that have the repository's archives, for when the store's fails in the middle of an install. Plain HTTP
    /// and addresses, no names: the installer asks no DNS, and what comes is checked by its digests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// Where the agent reaches the registrar: netboot's blind relays, in order of preference.
    #[serde(default)]
    pub registrars: Vec<RegistrarEndpoint>,
    /// Orders signed by the region ([`crate::fleet::Envelope`]), opaque to netboot.
    #[serde(default)]
    pub fleet: Vec<serde_json::Value>,
    /// The machine is looked at, and what it is goes on record: [`crate::staging`]. Nothing is written to any disk. `image` says what
    /// it is to be good for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stage: bool,
}

/// What the machine is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Install the image, onto a disk that holds nobody's data.
    Install,
    /// Start from the disk (the installer restarts into it; an installed system goes on).
    Boot,
    /// Nothing yet: ask again later.
    Wait,
    /// This machine is not served.
    Refuse,
}

/// Which image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageRef {
    /// The machine template, for example `k8s-worker`.
    pub template: String,
    /// The channel that names the version, for example `stable`.
    pub channel: String,
    /// A fixed version instead of the channel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// One way to the registrar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrarEndpoint {
    /// `ADDRESS:PORT` of the relay on the store LAN.
    pub relay: String,
    /// The name in the registrar's certificate.
    pub server_name: String,
}

/// `GET /v1/time`: the store's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimeReply {
    /// UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub utc: time::OffsetDateTime,
    /// How netboot knows: `system-clock` today.
    pub source: String,
}
