//! What a store says about a machine that it saw on its LAN: `POST /v1/vouchers` from the agent to netboot.
//! The agent hands the signed statement on to the registrar.

use serde::{Deserialize, Serialize};

/// The agent asks netboot to vouch for its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherRequest {
    /// SHA-256 of the machine key's SubjectPublicKeyInfo (DER), 64 hex digits.
    pub fingerprint: String,
}

/// A statement and the store's signature over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// The exact JSON text of a [`VoucherStatement`]; the signature covers [`Voucher::signed_bytes`].
    pub statement: String,
    /// ECDSA P-256 with SHA-256, ASN.1 DER, standard base64.
    pub signature: String,
}

/// What the store says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherStatement {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The store's name.
    pub store: String,
    /// The machine key's fingerprint, see [`VoucherRequest::fingerprint`].
    pub fingerprint: String,
    /// The MAC address that the store's LAN showed for the asker.
    pub mac: String,
    /// The entry that the store has given this machine, where it has one: a place in a window is given to no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The DHCP relay by which the store knows the machine, where it is no neighbour of its own: such a statement says less, since the
    /// relay is taken at its word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<VouchedRelay>,
    /// When, by the store's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub time: time::OffsetDateTime,
}

/// A DHCP relay between a store and a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VouchedRelay {
    /// Its address on the machine's network (giaddr, RFC 2131).
    pub address: String,
    /// What it says about where the machine is: option 82 (RFC 3046), in hex; empty where it says nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub information: String,
}

impl Voucher {
    /// The bytes that are signed: a domain separator, so that no other signature of the store's key can pass
    /// for a voucher, then the statement's text.
    #[must_use]
    pub fn signed_bytes(statement: &str) -> Vec<u8> {
        let mut bytes = b"shelfboot voucher v1\0".to_vec();
        bytes.extend_from_slice(statement.as_bytes());
        bytes
    }
}
