//! What an installed image tells its own agent: `/usr/lib/shelfboot/machine.json`, made by image-builder from
//! the template and protected by dm-verity like everything else in the root.

use crate::{enrollment::NodeFile, state::StatePolicy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the document lies in an image's root.
pub const MACHINE_CONFIG_PATH: &str = "/usr/lib/shelfboot/machine.json";

/// The template's part that the machine itself needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The template's name.
    pub template: String,
    /// The image's version.
    pub image_version: String,
    /// Absolute paths of folders that are bound from the state partition.
    pub persist: Vec<String>,
    /// Disks for the data of this machine's role, besides the system disk; `None` when it has no use for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_disks: Option<DataDisks>,
    /// What is kept over updates, and whether older software can read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_formats: Vec<StateFormat>,
    /// Whether the state partition is encrypted.
    #[serde(default, skip_serializing_if = "StatePolicy::is_default")]
    pub state: StatePolicy,
    /// Files below `/etc` that hold `${parameter}` for [`MachineConfig::late_parameters`] ([`crate::late`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late_files: Vec<NodeFile>,
    /// Parameters that a region or a store may give another value than the build, with the build's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub late_parameters: BTreeMap<String, Option<String>>,
    /// How this machine joins its cluster.
    pub join: JoinConfig,
}

/// State in one format. Rolling back the root does not roll it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFormat {
    /// Absolute path of a folder or file.
    pub path: String,
    /// A word that changes when the format does, for example `etcd-3.5`.
    pub format: String,
    /// Software that knows an older format copes with this one.
    pub going_back_safe: bool,
    /// A program with its arguments that keeps a copy before the format changes; empty when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshot: Vec<String>,
}

/// Which disks are for the role's data: every fixed disk that is blank, or was chosen before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDisks {
    /// Smaller disks are left alone; bytes.
    pub smallest_bytes: u64,
}

/// Where an installed machine says which disks are for data, before it starts the units of its join:
/// a JSON list of [`DataDisk`], in a folder that is empty at every start.
pub const DATA_DISKS_PATH: &str = "/run/shelfboot/data-disks.json";

/// One disk for data, for the unit that prepares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDisk {
    /// Device node, good for this start of the machine.
    pub device: String,
    /// What the disk is known by at every start; letters, digits, dashes, dots and underscores.
    pub id: String,
    /// Nothing is on it. Otherwise it was blank when it was chosen, and whoever uses it has to see for itself, from the disk,
    /// whether what is on it now is its own.
    pub blank: bool,
}

/// How a machine becomes a member: what it asks of the region, what it writes, what it starts, and how it tells that this
/// works. [`crate::join`] has what each driver offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinConfig {
    /// The driver, [`crate::join::Driver::name`].
    pub driver: String,
    /// Certificates that the machine asks for, each with a key of its own that it makes.
    #[serde(default)]
    pub certificates: Vec<CertificateConfig>,
    /// Files that are written when the region has answered, in this order.
    #[serde(default)]
    pub files: Vec<JoinFile>,
    /// Units that are started after that, in this order.
    pub units: Vec<String>,
    /// How the machine itself tells that it works.
    pub ready: ReadyCheck,
}

/// One certificate. Texts may hold `${machine.name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateConfig {
    /// What for, one of [`crate::join::Driver::certificates`].
    pub purpose: String,
    /// The subject's organization (O).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The subject's common name (CN).
    pub common_name: String,
    /// Where the key is kept, mode 0600.
    pub key: String,
    /// Where the certificate is written, mode 0600.
    pub certificate: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinFile {
    /// Absolute path.
    pub path: String,
    /// Octal mode, for example `0600`.
    pub mode: String,
    /// Text, with `${machine.name}` and `${region.VALUE}` for what the driver's broker delivers ([`crate::fill`]).
    pub content: String,
}

/// How a machine tells that what it started works. The cluster's own word counts besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyCheck {
    /// A URL on the loopback address answers with a success.
    Http(String),
    /// A program, with its arguments, ends with exit status 0. Its last line on standard error says why not.
    Command(Vec<String>),
}
