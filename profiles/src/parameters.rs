//! Parameters: who says their values, and what those look like. Each rule says what is wrong and what to write instead.

use crate::{
    compose::Documents,
    error::{Problem, Problems},
    shapes::{ParameterKind, ParameterSpec, Scope},
    yaml::{Placed, Source},
};
use contracts::fill::Values;
use std::{collections::BTreeMap, net::IpAddr};

/// Values of parameters by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    /// For good.
    pub(crate) now: Values,
    /// Until a region or a store says otherwise.
    pub(crate) late: Values,
}

/// The parameters that the profiles declare, with their defaults and then the settings' values, each of its kind.
pub(crate) fn read(documents: &Documents, problems: &mut Problems) -> Parameters {
    let software = documents.software.iter().map(|named| (&named.source, &named.document.spec.parameters));
    let configuration = documents.configuration.iter().map(|named| (&named.source, &named.document.spec.parameters));
    let mut declared = BTreeMap::new();
    let mut values = Values::new();
    for (source, parameters) in software.chain(configuration) {
        for (name, parameter) in parameters {
            if let Some(default) = &parameter.default {
                problems.keep(check(source, default, name, parameter));
            }
            values.insert(name.clone(), parameter.default.as_ref().map(|default| default.value.clone()));
            declared.insert(name, parameter);
        }
    }
    let settings =
        documents.settings.iter().flat_map(|s| s.document.parameters.iter().map(move |each| (&s.source, each)));
    for (source, (name, value)) in settings {
        let Some(parameter) = declared.get(name) else {
            let known: Vec<&str> = values.keys().map(String::as_str).collect();
            let message = format!("no profile of this template has a parameter '{name}'");
            let fix = format!("the parameters are {}", known.join(", "));
            problems.note(*source.problem(value, "undeclared-parameter", message, fix));
            continue;
        };
        if problems.keep(check(source, value, name, parameter)).is_some() {
            values.insert(name.clone(), Some(value.value.clone()));
        }
    }
    let is_late = |name: &String| declared.get(name).is_some_and(|parameter| parameter.per == Scope::Store);
    let (late, now) = values.into_iter().partition(|(name, _)| is_late(name));
    Parameters { now, late }
}

/// Checks a default, or a value from the settings file.
fn check(source: &Source, at: &Placed<String>, name: &str, parameter: &ParameterSpec) -> Result<(), Box<Problem>> {
    let text = at.value.as_str();
    let may_be_empty = parameter.default.as_ref().is_some_and(|default| default.value.is_empty());
    if text.is_empty() && may_be_empty {
        return Ok(());
    }
    let (fits, fix) = match parameter.kind {
        ParameterKind::Text => (true, String::new()),
        ParameterKind::Integer => (text.parse::<u64>().is_ok(), "write a whole number, for example 8".to_owned()),
        ParameterKind::Ratio => {
            let fits = text.parse::<f64>().is_ok_and(|ratio| ratio.is_finite() && ratio > 0.0);
            (fits, "write a number above zero, for example 1.5".to_owned())
        }
        ParameterKind::Size => (bytes(text).is_some(), "write for example 100 GB".to_owned()),
        ParameterKind::Networks => {
            (text.split(',').all(|part| is_network(part.trim())), "write for example 10.20.0.0/16".to_owned())
        }
        ParameterKind::Path => {
            let fits = text.starts_with('/') && !text.split('/').any(|part| part == "..") && !text.contains(' ');
            (fits, "write an absolute path without '..' and blanks".to_owned())
        }
        ParameterKind::Choice => {
            (parameter.choices.iter().any(|choice| choice == text), format!("write {}", parameter.choices.join(" or ")))
        }
    };
    if fits {
        return Ok(());
    }
    Err(source.problem(
        at,
        "bad-value",
        format!("'{text}' is no value for {name}"),
        format!("{fix}: {}", parameter.description),
    ))
}

/// Bytes of a size like `100 GB` (10^9 bytes each) or `4 GiB` (2^30).
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let unit: u64 = match text[at..].trim() {
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "TiB" => 1 << 40,
        _ => return None,
    };
    text[..at].parse::<u64>().ok()?.checked_mul(unit)
}

fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
        (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(bytes("100 GB"), Some(100_000_000_000));
        assert_eq!(bytes("4GiB"), Some(4 << 30));
        for bad in ["", "100", "GB", "1.5 GB", "-1 GB", "99999999999 TB", "10 gb"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn networks_have_an_address_and_a_length() {
        assert!(is_network("10.0.0.0/8") && is_network("fd00::/64"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "store/24", ""] {
            assert!(!is_network(bad), "{bad}");
        }
    }
}
