//! The staging boot: before a spare goes to a store's shelf it is started once, looked at, and what it is goes on record. No disk is
//! written to.

use crate::{assignment::ImageRef, facts::Firmware};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The type of the event that carries a [`StageRecord`].
pub const STAGED_EVENT: &str = "dev.shelfboot.staged.v1";
/// The most network cards and disks in a record.
pub const MOST_PARTS: usize = 16;
/// The longest text in a record, in characters.
pub const LONGEST_TEXT: usize = 96;
/// The longest finding, in characters.
pub const LONGEST_FINDING: usize = 240;

/// Until when machines that no entry names may start to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagingWindow {
    /// Until then.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// What they are to be good for; its boot image is the one that looks.
    pub image: ImageRef,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// [`crate::VERSION`].
    pub version: u32,
    /// MAC address of the card that reached the store, lower case with colons.
    pub mac: String,
    /// When, by the machine's clock, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// What it was looked at for.
    pub template: String,
    /// Whether it can go to the shelf as it is.
    pub passes: bool,
    /// What was looked at, each with its result.
    pub findings: Vec<Finding>,
    /// Manufacturer, as SMBIOS has it.
    pub manufacturer: String,
    /// Product.
    pub product: String,
    /// The machine's serial number.
    pub serial: String,
    /// The machine's UUID.
    pub uuid: String,
    /// How it was started.
    pub firmware: Firmware,
    /// Whether Secure Boot is on; `None` where the firmware does not say.
    pub secure_boot: Option<bool>,
    /// What the firmware tries, in its order; empty where it does not say.
    pub boot_order: Vec<String>,
    /// The TPM, where there is one.
    pub tpm: Option<StagedTpm>,
    /// Network cards.
    pub nics: Vec<StagedNic>,
    /// Disks.
    pub disks: Vec<StagedDisk>,
}

/// A TPM by which the machine is known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedTpm {
    /// 1 or 2.
    pub version: u32,
    /// Its maker's letters.
    pub manufacturer: String,
    /// Its endorsement key for P-256 (TCG EK Credential Profile 2.5, template L-2): the point's coordinates as X and Y, hex; `None` when
    /// it did not give one.
    pub endorsement_key: Option<String>,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedNic {
    /// Its MAC address.
    pub mac: String,
    /// The kernel's driver for it.
    pub driver: String,
    /// Whether a cable is in it.
    pub carrier: bool,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedDisk {
    /// Its serial number.
    pub serial: Option<String>,
    /// Its WWN.
    pub wwn: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// What is on it, in words.
    pub content: String,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable word: `disks`, `network`, `secure-boot`, `tpm`, `boot-order`, `firmware`, `serial`.
    pub about: String,
    /// How it stands.
    pub result: Passes,
    /// A sentence; what to change, where something is.
    pub words: String,
}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passes {
    /// As it should be.
    Yes,
    /// It works, and should be known.
    Note,
    /// It has to be changed.
    No,
}
