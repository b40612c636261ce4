//! `${name}` in file contents, kernel settings and repository fields.

use std::collections::BTreeMap;

/// Why a text could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// Not declared by any profile of the template.
    #[error("no profile declares the parameter '{0}'")]
    Unknown(String),
    /// Declared without a default, and no settings name it.
    #[error("the parameter '{0}' has no value")]
    Missing(String),
    /// `${` without `}`.
    #[error("'${{' is not closed by '}}'")]
    Open,
}

/// Parameter values by name; `None` is declared but has no value.
pub type Values = BTreeMap<String, Option<String>>;

/// Replaces every `${name}`; `$${` stands for a literal `${`. Values are not looked at again, so a value may
/// hold any text.
///
/// # Errors
/// See [`SubstituteError`].
pub fn substitute(text: &str, values: &Values) -> Result<String, SubstituteError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (name, tail) = after.split_once('}').ok_or(SubstituteError::Open)?;
        match values.get(name) {
            Some(Some(value)) => out.push_str(value),
            Some(None) => return Err(SubstituteError::Missing(name.to_owned())),
            None => return Err(SubstituteError::Unknown(name.to_owned())),
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> Values {
        Values::from([("a.b".into(), Some("${a.b}".into())), ("none".into(), None)])
    }

    #[test]
    fn values_are_filled_in_once() {
        assert_eq!(substitute("x ${a.b} y", &values()).unwrap(), "x ${a.b} y");
        assert_eq!(substitute("$${HOME} $HOME", &values()).unwrap(), "${HOME} $HOME");
    }

    #[test]
    fn what_cannot_be_filled_in_is_named() {
        assert_eq!(substitute("${none}", &values()), Err(SubstituteError::Missing("none".into())));
        assert_eq!(substitute("${other}", &values()), Err(SubstituteError::Unknown("other".into())));
        assert_eq!(substitute("${a.b", &values()), Err(SubstituteError::Open));
    }

    proptest! {
        #[test]
        fn text_without_references_is_kept(text in "[^$]{0,80}") {
            prop_assert_eq!(substitute(&text, &Values::new()).unwrap(), text);
        }

        #[test]
        fn any_text_is_survived(text in ".{0,80}") {
            let _ = substitute(&text, &values());
        }
    }
}
