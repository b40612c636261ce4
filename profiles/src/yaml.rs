//! The only module that knows which YAML reader is used.

use crate::error::Problem;
use serde::{Deserialize, de::DeserializeOwned};
use serde_saphyr::Location;
use std::path::{Path, PathBuf};

/// A value with its place in the file.
pub(crate) type Placed<T> = serde_saphyr::Spanned<T>;

/// A file's name and text.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
}

/// The two fields that every document has. Everything else is judged by the shape that `kind` names.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "apiVersion")]
    api_version: Placed<String>,
    kind: Placed<String>,
}

impl Source {
    pub(crate) fn new(file: &Path, text: String) -> Self {
        Self { file: file.to_owned(), text }
    }

    /// Reads the document as `T`, after checking that it is of the expected kind.
    pub(crate) fn parse<T: DeserializeOwned>(&self, kind: &str) -> Result<T, Box<Problem>> {
        let header: Header = self.read()?;
        if header.api_version.value != crate::API_VERSION {
            let message = format!("apiVersion is '{}'", header.api_version.value);
            return Err(self.problem(&header.api_version, message, format!("write {}", crate::API_VERSION)));
        }
        if header.kind.value != kind {
            let message = format!("kind is '{}', a {kind} is needed here", header.kind.value);
            return Err(self.problem(&header.kind, message, format!("write {kind}, or name another file")));
        }
        self.read()
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, Box<Problem>> {
        serde_saphyr::from_str(&self.text).map_err(|error| {
            let error = error.without_snippet();
            let location = error.location().unwrap_or(Location::UNKNOWN);
            let message = error.to_string();
            // The reader appends " at line N, column M"; the place is said once, by `Problem`.
            let message = message.split(" at line ").next().unwrap_or_default().trim_end_matches([':', ',']).to_owned();
            self.problem_at(location, message, "see the examples in profiles/ for the fields and their spelling")
        })
    }

    /// A problem at a value.
    pub(crate) fn problem<T>(
        &self,
        at: &Placed<T>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Box<Problem> {
        self.problem_at(at.referenced, message, fix)
    }

    fn problem_at(&self, at: Location, message: impl Into<String>, fix: impl Into<String>) -> Box<Problem> {
        let (line, column) = (at.line().max(1), at.column().max(1));
        let line_start =
            self.text.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0)).map(str::len).sum();
        let rest: &str = self.text.get(line_start..).unwrap_or("");
        let into_line = rest.chars().take(usize::try_from(column - 1).unwrap_or(0)).map(char::len_utf8).sum::<usize>();
        let start = line_start + into_line;
        let end = start + self.text.get(start..).and_then(|t| t.lines().next()).map_or(0, |l| l.trim_end().len());
        Box::new(Problem {
            file: self.file.clone(),
            text: self.text.clone(),
            line,
            column,
            bytes: start..end,
            message: message.into(),
            fix: fix.into(),
        })
    }
}
