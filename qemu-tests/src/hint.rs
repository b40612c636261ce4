//! What to do next, attached to an error: one block after the chain of causes.

use contracts::exit::{Code, Lack};

/// An error with a hint for people. Shown by whoever renders the chain.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// Makes an error with a hint.
#[must_use]
pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Hinted { message: message.into(), hint: hint.into() })
}

/// An error with a hint, and with the code that the program ends with.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Coded {
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// How the program ends.
    pub code: Code,
}

/// Makes an error with a code and a hint.
#[must_use]
pub fn coded(code: Code, message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Coded { message: message.into(), hint: hint.into(), code })
}

/// The hint closest to the top of the chain, else what the kernel's word means.
#[must_use]
pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
    // As the error itself, or as context around another one: anyhow looks through both.
    let hinted = error.downcast_ref::<Hinted>().map(|h| h.hint.as_str());
    let coded = || error.downcast_ref::<Coded>().map(|h| h.hint.as_str());
    hinted.or_else(coded).or_else(|| Lack::of(error.as_ref()).map(Lack::hint))
}

/// The code with which a program ends after this error.
#[must_use]
pub fn code_of(error: &anyhow::Error) -> Code {
    if let Some(coded) = error.downcast_ref::<Coded>() {
        return coded.code;
    }
    // A tool that is not there cannot be started.
    let missing = error
        .chain()
        .any(|e| e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound));
    let starting = error.chain().any(|e| e.to_string().starts_with("starting "));
    if Lack::of(error.as_ref()).is_some() || (missing && starting) { Code::Host } else { Code::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_hint_is_found_below_context() {
        let error = Err::<(), _>(hinted("no tree", "run setup")).context("starting").unwrap_err();
        assert_eq!(hint_of(&error), Some("run setup"));
        let around = anyhow::anyhow!("x").context(Hinted { message: "m".into(), hint: "h".into() }).context("y");
        assert_eq!(hint_of(&around), Some("h"));
        assert_eq!(hint_of(&anyhow::anyhow!("plain")), None);
        let coded = Err::<(), _>(coded(Code::Usage, "no case", "list them")).context("running").unwrap_err();
        assert_eq!((hint_of(&coded), code_of(&coded)), (Some("list them"), Code::Usage));
        assert_eq!(code_of(&anyhow::anyhow!("plain")), Code::Failed);
        let full = anyhow::Error::new(std::io::Error::from(std::io::ErrorKind::StorageFull)).context("writing x");
        assert_eq!(code_of(&full), Code::Host);
    }
}
