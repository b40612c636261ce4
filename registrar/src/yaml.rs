//! YAML files of people: read with unknown fields denied, and every complaint placed in file, line and column.

use serde::de::DeserializeOwned;
use serde_saphyr::{Location, Spanned};
use std::path::{Path, PathBuf};

/// The `apiVersion` of all files that this program reads.
pub const API_VERSION: &str = "shelfboot.dev/v1";

/// Why a YAML file was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something in the file is wrong.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong, and what would be right.
        message: String,
    },
}

/// What is wrong at one place of a document; [`YamlError::Content`] without the file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Where.
    pub at: Location,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Complaint {
    /// A complaint about a value that remembers its place.
    pub fn about<T>(value: &Spanned<T>, message: impl Into<String>) -> Self {
        Self { at: value.referenced, message: message.into() }
    }
}

/// Reads a file into its plain shape.
///
/// # Errors
/// [`YamlError::Read`] or [`YamlError::Content`].
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, YamlError> {
    let text = std::fs::read_to_string(path).map_err(|source| YamlError::Read { path: path.into(), source })?;
    parse(path, &text)
}

/// Reads a document into its plain shape; the path is for messages only.
///
/// # Errors
/// [`YamlError::Content`].
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, YamlError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location();
        YamlError::Content {
            path: path.into(),
            line: at.map_or(1, |at| at.line()),
            column: at.map_or(1, |at| at.column()),
            message: error.without_snippet().to_string(),
        }
    })
}

/// Puts the file name to a complaint.
#[must_use]
pub fn placed(path: &Path, complaint: Complaint) -> YamlError {
    YamlError::Content {
        path: path.into(),
        line: complaint.at.line(),
        column: complaint.at.column(),
        message: complaint.message,
    }
}

/// Checks the two fields that every file begins with.
///
/// # Errors
/// A complaint that names the right value.
pub fn check_kind(api_version: &Spanned<String>, kind: &Spanned<String>, expected: &str) -> Result<(), Complaint> {
    if api_version.value != API_VERSION {
        return Err(Complaint::about(api_version, format!("this program reads apiVersion {API_VERSION}")));
    }
    if kind.value != expected {
        return Err(Complaint::about(kind, format!("kind must be {expected} here, not {}", kind.value)));
    }
    Ok(())
}
