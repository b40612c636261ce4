//! What a region tells a store: `GET /v1/store/assignments` from netboot to the registrar, and the credential
//! that lets netboot ask.

use crate::{assignment::ImageRef, fleet::Addressed, staging::StagingWindow, window::AdmissionWindow};
use serde::{Deserialize, Serialize};

/// Everything that netboot decides from, in one document; netboot keeps a durable copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreAssignments {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The store's name.
    pub store: String,
    /// Grows with every change: the long poll's cursor (`?after=GENERATION`).
    pub generation: u64,
    /// The store's machines.
    pub machines: Vec<StoreMachine>,
    /// When machines get an answer that no other entry names or has a place for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<AdmissionWindow>,
    /// Signed orders for single machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Addressed>,
    /// Machines that are to be wiped for the shelf, or were, until their entries are opened again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<RetiredMachine>,
    /// Unknown machines may start to be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<StagingWindow>,
}

/// A machine that is to go to the shelf. Only the signed order beside it wipes anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredMachine {
    /// MAC address of the machine, lower case with colons.
    pub mac: String,
    /// Its entry's name.
    pub name: String,
}

/// One machine of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreMachine {
    /// The inventory entry's name, which the machine gets.
    pub name: String,
    /// Which machine on the LAN this is.
    pub selector: MachineSelector,
    /// What it gets.
    pub image: ImageRef,
    /// Grows when IT orders a reinstall or re-opens the entry: a ledger line of an older one does not count.
    pub epoch: u64,
}

/// How a machine on the LAN is matched to an inventory entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineSelector {
    /// The machine with this MAC address, lower case with colons.
    Mac(String),
    /// Any machine that no other entry names: a spare off the shelf. One machine per entry.
    Any,
    /// A place in the window of this name: taken by one machine while the window is open, kept by it afterwards.
    Window(String),
}

/// What netboot proves itself with at the registrar and signs vouchers with. A file of mode 0600.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreCredential {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The store's name.
    pub store: String,
    /// P-256 private key, PKCS #8, PEM.
    pub key: String,
    /// Client certificate, issued by the registrar's CA, PEM.
    pub certificate: String,
    /// The registrar's CA certificates, PEM.
    pub registrar_ca: String,
    /// The name in the registrar's certificate.
    pub server_name: String,
    /// `ADDRESS:PORT` of the region's registrars, in order of preference.
    pub registrars: Vec<String>,
}
