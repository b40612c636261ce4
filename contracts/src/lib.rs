//! Types that cross a process boundary in Shelfboot.
//!
//! What it is for: one definition of every document that two parts exchange, so that the two sides cannot
//! drift. What it never does: I/O, clocks, policy. Start reading at [`step::Step`], the journey's steps, then
//! [`assignment`], [`enrollment`] and [`manifest`] in the order in which a machine meets them.
//!
//! Every top-level document carries `version` (an integer, [`VERSION`] today). Readers tolerate unknown fields,
//! so that an older part can read what a newer one writes; they refuse a `version` greater than their own.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

#[cfg(feature = "archive")]
pub mod archive;
pub mod assignment;
pub mod bios;
pub mod claim;
pub mod discovery;
pub mod disks;
pub mod enrollment;
pub mod event;
pub mod exit;
pub mod facts;
pub mod fill;
pub mod fleet;
pub mod grubenv;
pub mod install;
pub mod join;
pub mod late;
pub mod layout;
pub mod logs;
pub mod machine;
pub mod manifest;
pub mod medium;
pub mod network;
pub mod repository;
pub mod rollout;
pub mod staging;
pub mod state;
pub mod status;
pub mod step;
pub mod store;
pub mod uki;
pub mod voucher;
pub mod window;

/// The version of the documents in this crate. Raised only by a change that older readers must not guess at.
pub const VERSION: u32 = 1;

/// A document that says which version of its own shape it has.
pub trait Versioned {
    /// The document's name in errors, for example `assignment`.
    const NAME: &'static str;

    /// The version that the document says it has.
    fn version(&self) -> u32;
}

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not JSON, or not the shape that this document has.
    #[error("the {name} document is not valid")]
    Shape {
        /// Which document.
        name: &'static str,
        /// What the JSON reader says, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer part than this one.
    #[error("the {name} document has version {found}, this program reads up to {VERSION}; update this program")]
    TooNew {
        /// Which document.
        name: &'static str,
        /// The version in the document.
        found: u32,
    },
}

/// Reads a versioned JSON document, tolerating unknown fields.
///
/// # Errors
/// [`ReadError::Shape`] when it does not parse, [`ReadError::TooNew`] when its version is above [`VERSION`].
pub fn read<T: Versioned + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, ReadError> {
    let document: T = serde_json::from_slice(bytes).map_err(|source| ReadError::Shape { name: T::NAME, source })?;
    if document.version() > VERSION {
        return Err(ReadError::TooNew { name: T::NAME, found: document.version() });
    }
    Ok(document)
}

macro_rules! versioned {
    ($($type:ty => $name:literal),+ $(,)?) => {
        $(impl Versioned for $type {
            const NAME: &'static str = $name;
            fn version(&self) -> u32 {
                self.version
            }
        })+
    };
}

versioned! {
    assignment::MachineReport => "machine report",
    assignment::Assignment => "assignment",
    enrollment::EnrollmentRequest => "enrollment request",
    enrollment::Enrollment => "enrollment",
    facts::MachineFacts => "machine facts",
    logs::LogBundle => "log bundle",
    machine::MachineConfig => "machine configuration",
    manifest::ImageManifest => "image manifest",
    manifest::Channel => "channel",
    manifest::TrustFloor => "trust floor",
    rollout::Rollout => "rollout",
    medium::Medium => "medium",
    store::StoreAssignments => "store assignments",
    store::StoreCredential => "store credential",
    state::RecoveryKey => "recovery key",
    status::StoreStatus => "store status",
    voucher::VoucherStatement => "voucher",
    window::WindowRequest => "window request",
}
