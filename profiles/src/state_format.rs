//! What a machine keeps over updates: whether it is encrypted, and whether software can go back to an older version of it.

use crate::{
    compose::{Checked, Named},
    error::Problems,
    shapes::{EncryptionSpec, StateFormatSpec, StateSpec, TemplateDocument, WithoutTpmSpec},
    validate,
    yaml::Source,
};
use contracts::{
    machine::StateFormat,
    state::{Encryption, StatePolicy, WithoutTpm},
};

/// Whether the state partition is encrypted.
pub(crate) fn policy(spec: StateSpec) -> StatePolicy {
    StatePolicy {
        encryption: match spec.encryption {
            EncryptionSpec::None => Encryption::None,
            EncryptionSpec::Tpm => Encryption::Tpm,
        },
        without_tpm: match spec.without_tpm {
            WithoutTpmSpec::Refuse => WithoutTpm::Refuse,
            WithoutTpmSpec::Clear => WithoutTpm::Clear,
        },
    }
}

/// The template's list; each path once.
pub(crate) fn read(template: &Named<TemplateDocument>, problems: &mut Problems) -> Vec<StateFormat> {
    let mut all: Vec<StateFormat> = Vec::new();
    for spec in &template.document.spec.state_formats {
        let Some(state) = problems.keep(one(&template.source, spec)) else { continue };
        if all.iter().any(|other| other.path == state.path) {
            let message = format!("{} has a format already", state.path);
            problems.note(*template.source.problem(&spec.path, "bad-state-format", message, "write each path once"));
        } else {
            all.push(state);
        }
    }
    all
}

fn one(source: &Source, spec: &StateFormatSpec) -> Checked<StateFormat> {
    let format = &spec.format.value;
    let plain = format.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b));
    if format.is_empty() || format.len() > 64 || !plain {
        let message = format!("'{format}' is not the name of a format");
        let fix = "write one word of letters, digits, '.', '-', '_', '+' and '~', at most 64";
        return Err(source.problem(&spec.format, "bad-state-format", message, fix));
    }
    if let Some(program) = spec.snapshot.first() {
        validate::path(source, program)?;
    }
    Ok(StateFormat {
        path: validate::path(source, &spec.path)?,
        format: format.clone(),
        going_back_safe: spec.going_back_safe,
        snapshot: spec.snapshot.iter().map(|word| word.value.clone()).collect(),
    })
}
