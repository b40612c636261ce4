//! Why a template was not accepted, and what to do about it.

use std::{ops::Range, path::PathBuf};

/// Why a template could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
        /// Who asked for it, for example `template k8s-worker`.
        wanted_by: String,
    },
    /// A file says something that is not accepted.
    #[error(transparent)]
    Invalid(#[from] Box<Problem>),
}

/// One thing that is wrong in one file, with its place and its fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {message}", file.display())]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The file's text, for whoever draws the place.
    pub text: String,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// The same place in bytes of `text`.
    pub bytes: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}
