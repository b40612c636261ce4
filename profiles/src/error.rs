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
    /// Files say what is not accepted; never empty.
    #[error("{}", summary(.0))]
    Invalid(Vec<Problem>),
}

fn summary(problems: &[Problem]) -> String {
    match problems {
        [] => "nothing is wrong".into(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// What was found on the way, in the order of files and lines at the end.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem; gives what is left without it.
    pub(crate) fn keep<T>(&mut self, result: Result<T, Box<Problem>>) -> Option<T> {
        result.map_err(|problem| self.note(*problem)).ok()
    }

    /// The code of a problem that only follows from one that has been noted.
    pub(crate) const SAID: &str = "said";

    /// What was noted last.
    pub(crate) fn last_message(&self) -> &str {
        self.0.last().map_or("", |problem| &problem.message)
    }

    /// Notes a problem, once; tells whether it is news.
    pub(crate) fn note(&mut self, problem: Problem) -> bool {
        let news = problem.code != Self::SAID && !self.0.contains(&problem);
        if news {
            self.0.push(problem);
        }
        news
    }

    /// All of them; files in the order in which they were read.
    pub(crate) fn into_vec(self) -> Vec<Problem> {
        let mut files: Vec<PathBuf> = Vec::new();
        for problem in &self.0 {
            if !files.contains(&problem.file) {
                files.push(problem.file.clone());
            }
        }
        let mut all = self.0;
        all.sort_by_key(|p| (files.iter().position(|file| *file == p.file), p.line, p.column));
        all
    }
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
    /// What kind of problem, for machines; stays the same over versions.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}
