//! What can be done with a published repository: verify it as a stranger, renew it, move channels, roll out, clean it
//! up, copy it.
//!
//! [`chain`] decides which metadata is believed, [`content`] what that metadata needs to lie in the repository; every
//! command is built from these two. Start reading at [`verify`].

pub mod archive_check;
pub mod args;
pub mod chain;
pub mod content;
pub mod failure;
pub mod gc;
pub mod import;
pub mod mirror;
pub mod source;
pub mod update;
pub mod verify;

pub use contracts::repository as layout;

/// One thing that is wrong with a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Path below the repository's folder.
    pub file: String,
    /// For programs: `signature`, `expired`, `missing`, `length`, `hash`, …
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(file: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { file: file.into(), code, message: message.into() }
    }
}
