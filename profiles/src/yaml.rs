//! The only module that knows which YAML reader is used.

use crate::{
    entries,
    error::{Problem, Problems},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_saphyr::Location;
use std::path::{Path, PathBuf};

const UNKNOWN_FIELD: &str = "unknown-field";
const DUPLICATE_KEY: &str = "duplicate-key";
const WRONG_TYPE: &str = "wrong-type";
/// A file with more is not worth reading on.
const MOST_PROBLEMS: usize = 100;

/// A value with its place in the file.
pub(crate) type Placed<T> = serde_saphyr::Spanned<T>;

/// A file's name and text.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
    /// Where values stand that nobody has written: what is wrong with them has been said.
    stand_ins: Vec<usize>,
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
        Self { file: file.to_owned(), text, stand_ins: Vec::new() }
    }

    /// Reads the document as `T`, and notes everything that does not fit: an unknown field is left out, a value of the wrong
    /// type gets a stand-in, and the rest is read again. `None` when what is left is no `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&mut self, kind: &str, problems: &mut Problems) -> Option<T> {
        if let Err(problem) = self.check_header(kind) {
            problems.note(*problem);
            return None;
        }
        let mut left = self.text.clone();
        for _ in 0..MOST_PROBLEMS {
            let problem = match serde_saphyr::from_str(&left) {
                Ok(document) => return Some(document),
                Err(error) => self.unreadable(&error),
            };
            let entry = entries::at(&left, problem.bytes.start);
            let code = problem.code;
            // The same place again: nothing more is to be learned here.
            if !problems.note(*problem) {
                return None;
            }
            match (code, entry) {
                (UNKNOWN_FIELD | DUPLICATE_KEY, Some(entry)) => left = entries::without(&left, &entry),
                (WRONG_TYPE, Some(entry)) => {
                    let stand_in = stand_in(problems.last_message());
                    left = entries::with_value(&left, &entry, stand_in)?;
                    self.stand_ins.push(entry.value?);
                }
                _ => return None,
            }
        }
        None
    }

    fn check_header(&self, kind: &str) -> Result<(), Box<Problem>> {
        let header: Header = serde_saphyr::from_str(&self.text).map_err(|error| self.unreadable(&error))?;
        if header.api_version.value != crate::API_VERSION {
            let message = format!("apiVersion is '{}'", header.api_version.value);
            let fix = format!("write {}", crate::API_VERSION);
            return Err(self.problem(&header.api_version, "api-version", message, fix));
        }
        if header.kind.value != kind {
            let message = format!("kind is '{}', a {kind} is needed here", header.kind.value);
            return Err(self.problem(&header.kind, "kind", message, format!("write {kind}, or name another file")));
        }
        Ok(())
    }

    /// The first line that begins with this text, from 1.
    pub(crate) fn line_of(&self, text: &str) -> u64 {
        let found = self.text.lines().position(|line| line.trim_start().starts_with(text));
        u64::try_from(found.unwrap_or(0) + 1).unwrap_or(u64::MAX)
    }

    /// The document's kind, where one can be read.
    pub(crate) fn kind(&self) -> Option<String> {
        Some(serde_saphyr::from_str::<Header>(&self.text).ok()?.kind.value)
    }

    fn unreadable(&self, error: &serde_saphyr::Error) -> Box<Problem> {
        let error = error.without_snippet();
        let location = error.location().unwrap_or(Location::UNKNOWN);
        let message = error.to_string();
        // The reader appends " at line N, column M"; the place is said once, by `Problem`.
        let message = message.split(" at line ").next().unwrap_or_default().trim_end_matches([':', ',']).to_owned();
        let (code, message, fix) = explain(message);
        self.problem_at(location, code, message, fix)
    }

    /// A problem at a value.
    pub(crate) fn problem<T>(
        &self,
        at: &Placed<T>,
        code: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Box<Problem> {
        self.problem_at(at.referenced, code, message, fix)
    }

    /// A problem with a part of a text, where that part stands in the file.
    pub(crate) fn problem_within(
        &self,
        at: &Placed<String>,
        part: &str,
        code: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Box<Problem> {
        let whole = self.problem(at, code, message, fix);
        let Some(found) = self.text[whole.bytes.start..].find(part) else { return whole };
        let bytes = whole.bytes.start + found..whole.bytes.start + found + part.len();
        let before = &self.text[..bytes.start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let line = count(before.matches('\n').count() + 1);
        let column = count(before[line_start..].chars().count() + 1);
        Box::new(Problem { line, column, bytes, ..*whole })
    }

    fn problem_at(
        &self,
        at: Location,
        code: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Box<Problem> {
        let (line, column) = (at.line().max(1), at.column().max(1));
        let line_start =
            self.text.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0)).map(str::len).sum();
        let rest: &str = self.text.get(line_start..).unwrap_or("");
        let into_line = rest.chars().take(usize::try_from(column - 1).unwrap_or(0)).map(char::len_utf8).sum::<usize>();
        let start = line_start + into_line;
        let code = if self.stand_ins.contains(&start) { Problems::SAID } else { code };
        let end = start + self.text.get(start..).and_then(|t| t.lines().next()).map_or(0, |l| l.trim_end().len());
        Box::new(Problem {
            file: self.file.clone(),
            text: self.text.clone(),
            line,
            column,
            bytes: start..end,
            code,
            message: message.into(),
            fix: fix.into(),
        })
    }
}

/// A value of the type that the reader asked for.
fn stand_in(message: &str) -> &'static str {
    match message {
        A_LIST => "[]",
        FIELDS => "{}",
        _ => "'?'",
    }
}

const A_LIST: &str = "a list is needed here";
const FIELDS: &str = "fields are needed here";

/// The reader's words, sorted and in words for people: code, message, fix.
fn explain(message: String) -> (&'static str, String, String) {
    let examples = || "see the examples in profiles/ for the fields and their spelling".to_owned();
    if let Some(rest) = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant ")) {
        let (name, known) = rest.split_once(", expected ").unwrap_or((rest, ""));
        let known = known.trim_start_matches("one of ").replace('`', "");
        let name = name.trim_matches('`');
        let close = known.split(", ").map(|other| (distance(name, other), other)).min().filter(|(far, _)| *far <= 2);
        let fix = close.map_or_else(examples, |(_, other)| format!("did you mean '{other}'?"));
        return (UNKNOWN_FIELD, message, fix);
    }
    if message.starts_with("missing field ") {
        return ("missing-field", message, examples());
    }
    if message.starts_with("duplicate ") {
        return (DUPLICATE_KEY, message, "write it once".into());
    }
    if message.contains("sequence") {
        return (WRONG_TYPE, A_LIST.into(), "write [one, two], or one item per line after '- '".into());
    }
    if message.contains("mapping") || message.contains("struct") {
        return (WRONG_TYPE, FIELDS.into(), examples());
    }
    if message.contains("string") || message.contains("scalar") {
        return (WRONG_TYPE, "a text is needed here".into(), "write it in quotes if it is one".into());
    }
    if message.contains("invalid type") || message.starts_with("expected ") {
        return (WRONG_TYPE, message, examples());
    }
    ("invalid-yaml", message, examples())
}

/// Levenshtein's distance: how many characters have to be put in, taken out or exchanged.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let exchanged = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_is_recognized() {
        let fix = |message: &str| explain(message.to_owned()).2;
        assert_eq!(fix("unknown field `sofware`, expected one of `software`, `join`"), "did you mean 'software'?");
        assert!(fix("unknown field `colour`, expected `name`").starts_with("see the examples"));
        assert_eq!((distance("", "abc"), distance("abc", "abd"), distance("kitten", "sitting")), (3, 1, 3));
    }
}
