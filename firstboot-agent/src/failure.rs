//! Why a step ended badly: a code for IT, a chain of causes, and whether trying again by itself can help.

use std::fmt;

/// A step's bad end.
#[derive(Debug)]
pub struct Failure {
    /// Stable code, shown on the console and the store page, for example `foreign-data`.
    pub code: &'static str,
    /// What happened, with its causes.
    pub error: anyhow::Error,
    /// Nobody has to help: it is tried again, and somebody elsewhere may decide otherwise by then.
    pub waits: bool,
}

impl Failure {
    /// A failure with a sentence of its own.
    pub fn new(code: &'static str, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { code, error: anyhow::Error::msg(message), waits: false }
    }

    /// Not a failure yet: the answer is to ask again later.
    pub fn wait(code: &'static str, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { waits: true, ..Self::new(code, message) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// Gives an error its code.
pub trait Coded<T> {
    /// Wraps the error with `code`.
    ///
    /// # Errors
    /// The same error, with its code.
    fn code(self, code: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Coded<T> for Result<T, E> {
    fn code(self, code: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { code, error: error.into(), waits: false })
    }
}
