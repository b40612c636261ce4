//! How a machine becomes a member: `POST /v1/enrollments` and `GET /v1/enrollments/{id}` from the agent to the
//! registrar, mutual TLS. The client certificate is the machine's own key, self-signed.

use crate::{facts::MachineFacts, voucher::Voucher};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The agent asks to be admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentRequest {
    /// [`crate::VERSION`].
    pub version: u32,
    /// This attempt.
    pub attempt: Uuid,
    /// Fresh random text, 32 hex digits: repeats of one request are one enrollment.
    pub nonce: String,
    /// The installed template and image version, from the verified root.
    pub template: String,
    /// The image version.
    pub image_version: String,
    /// The kernel's boot id: readiness counts only for this boot.
    pub boot_id: String,
    /// The machine.
    pub facts: MachineFacts,
    /// What others say for it; a store's voucher today.
    pub vouchers: Vec<Voucher>,
    /// Asks for join material. False on the first call, when the name is not known yet.
    #[serde(default)]
    pub join: bool,
    /// Certificates that the join driver asks for, with `join`.
    #[serde(default)]
    pub csrs: Vec<Csr>,
}

/// A certificate signing request, with what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Csr {
    /// What for, one of [`crate::join::Driver::certificates`].
    pub purpose: String,
    /// PKCS #10, PEM.
    pub pem: String,
}

/// The registrar's answer, to both calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrollment {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The enrollment's id, for `GET /v1/enrollments/{id}`.
    pub id: Uuid,
    /// How it stands.
    #[serde(flatten)]
    pub state: EnrollmentState,
}

/// How an enrollment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum EnrollmentState {
    /// Somebody or something has to decide first.
    Pending {
        /// To be read out to support, where a person decides.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claim_code: Option<String>,
        /// A sentence for people.
        reason: String,
    },
    /// In.
    Admitted(Admission),
    /// Out.
    Refused {
        /// A stable code, for example `key-pinned`.
        code: String,
        /// A sentence for people: why, and what to do.
        reason: String,
    },
}

/// What an admitted machine gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The machine's name: host name and node name.
    pub name: String,
    /// Files to write, for this machine.
    #[serde(default)]
    pub files: Vec<NodeFile>,
    /// Values of parameters for this machine's store, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// What the join driver needs; absent until it was asked for and is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinMaterial>,
    /// The cluster itself reports this boot of this machine ready.
    #[serde(default)]
    pub ready: bool,
    /// Why not yet, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_reason: Option<String>,
}

/// One file of the node configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// Absolute path.
    pub path: String,
    /// Octal mode, for example `0644`.
    pub mode: String,
    /// Text.
    pub content: String,
}

/// What a join driver gets from its broker: for one machine, readable by nobody else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinMaterial {
    /// Certificates by purpose, PEM.
    #[serde(default)]
    pub certificates: BTreeMap<String, String>,
    /// [`crate::join::Driver::values`] by name.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}
