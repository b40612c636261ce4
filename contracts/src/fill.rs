//! `${name}` in texts of a template: parameters are filled in when the image is built, what the region gives when the machine
//! joins.

use std::collections::BTreeMap;

/// Why a text could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// Not declared by any profile of the template.
    #[error("nothing declares the parameter '{0}'")]
    Unknown(String),
    /// Declared without a default, and nothing names a value.
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
    walk(text, LITERAL, |name| match values.get(name) {
        Some(Some(value)) => Ok(value.clone()),
        Some(None) => Err(SubstituteError::Missing(name.to_owned())),
        None => Err(SubstituteError::Unknown(name.to_owned())),
    })
}

/// The same for a text that is filled in twice: references for which `later` is true stay as they are, and whatever else
/// looks like one afterwards is escaped.
///
/// # Errors
/// See [`SubstituteError`].
pub fn substitute_now(text: &str, values: &Values, later: impl Fn(&str) -> bool) -> Result<String, SubstituteError> {
    walk(text, ESCAPED, |name| match values.get(name) {
        _ if later(name) => Ok(format!("${{{name}}}")),
        Some(Some(value)) => Ok(value.replace(LITERAL, ESCAPED)),
        Some(None) => Err(SubstituteError::Missing(name.to_owned())),
        None => Err(SubstituteError::Unknown(name.to_owned())),
    })
}

const LITERAL: &str = "${";
const ESCAPED: &str = "$${";

/// Copies a text; `value` stands in for each reference, `literal` for each escaped one.
fn walk(
    text: &str,
    literal: &str,
    value: impl Fn(&str) -> Result<String, SubstituteError>,
) -> Result<String, SubstituteError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(LITERAL) {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(kept) = before.strip_suffix('$') {
            out.push_str(kept);
            out.push_str(literal);
            rest = after;
            continue;
        }
        out.push_str(before);
        let (name, tail) = after.split_once('}').ok_or(SubstituteError::Open)?;
        out.push_str(&value(name)?);
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

    #[test]
    fn what_comes_later_stays_and_nothing_else_becomes_a_reference() {
        let later = |name: &str| name.starts_with("region.");
        let now = substitute_now("${a.b} ${region.ca} $${HOME}", &values(), later).unwrap();
        assert_eq!(now, "$${a.b} ${region.ca} $${HOME}");
        let then = Values::from([("region.ca".into(), Some("PEM".into()))]);
        assert_eq!(substitute(&now, &then).unwrap(), "${a.b} PEM ${HOME}");
        assert_eq!(substitute_now("${x}", &values(), later), Err(SubstituteError::Unknown("x".into())));
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
