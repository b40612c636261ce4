//! Which disk a template wants for its system: part of the image's manifest, so that it is signed with it.
//!
//! Unlike other documents this one has no room for unknown fields: a rule that an older agent passes over could cost
//! somebody's data. An agent that does not know a rule stops, and says that it is too old.

use crate::facts::Transport;
use serde::{Deserialize, Serialize};

/// The template's word about disks. The default has no wishes: any fixed disk that is large enough.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskPolicy {
    /// Disks that may get the system, the preferred ones first; any, when it is empty. A disk of a later line is only taken
    /// when no disk at all fits the lines before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<DiskSelector>,
    /// Disks that never get it, whatever `system` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never: Vec<DiskSelector>,
    /// A higher bound than [`crate::layout::SMALLEST_DISK`], in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_bytes: Option<u64>,
    /// What to do when several blank disks are as good as each other.
    #[serde(default, skip_serializing_if = "Several::is_first")]
    pub several: Several,
}

impl DiskPolicy {
    /// True when it has no wishes.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Several blank disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Several {
    /// The one with the lowest path.
    #[default]
    First,
    /// Somebody has to say which.
    Stop,
}

impl Several {
    const fn is_first(&self) -> bool {
        matches!(self, Self::First)
    }
}

/// A disk fits when it fits every field that is there. Kernel names are no selector: they change between starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSelector {
    /// World Wide Name, as the facts have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Model; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Place on the bus; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// One of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transport: Vec<Transport>,
    /// Turning or not. A disk that does not say fits neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// Bytes, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least_bytes: Option<u64>,
    /// Bytes, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_bytes: Option<u64>,
}
