//! Finds the files that a template names.
//!
//! A template lies in `templates/`; its profiles lie beside that folder, in `software/` and `configuration/`.

use crate::{
    compose::{Documents, Named, compose},
    error::{Problems, ProfileError},
    shapes::{ConfigurationDocument, SettingsDocument, SoftwareDocument, TemplateDocument},
    template::MachineTemplate,
    yaml::{Placed, Source},
};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads a template, the profiles that it names and, where given, a settings file; returns them merged.
///
/// # Errors
/// [`ProfileError`], with the place and the fix.
pub fn load(template: &Path, settings: Option<&Path>) -> Result<MachineTemplate, ProfileError> {
    let mut problems = Problems::default();
    let merged = read_documents(template, settings, &mut problems)?.and_then(|d| compose(&d, &mut problems));
    match (merged, problems.into_vec()) {
        (Some(merged), problems) if problems.is_empty() => Ok(merged),
        (_, problems) => Err(ProfileError::Invalid(problems)),
    }
}

/// Reads the template, every profile that it names and the settings; `None` when the template itself cannot be used.
pub(crate) fn read_documents(
    template: &Path,
    settings: Option<&Path>,
    problems: &mut Problems,
) -> Result<Option<Documents>, ProfileError> {
    let mut source = read(template, "the command line")?;
    let Some(document) = source.parse::<TemplateDocument>("MachineTemplate", problems) else { return Ok(None) };
    let folder = template.parent().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    // A bare file name has an empty parent: its profiles are one folder up from here.
    let folder = if template.parent() == Some(Path::new("")) { Path::new("..").to_owned() } else { folder };
    let wanted_by = format!("template {}", document.metadata.name.value);
    let (software, configuration) = (&document.spec.software, &document.spec.configuration);
    let software = profiles(&folder.join("software"), software, &source, &wanted_by, problems)?;
    let configuration = profiles(&folder.join("configuration"), configuration, &source, &wanted_by, problems)?;
    let settings = match settings {
        Some(path) => {
            let mut source = read(path, "the command line")?;
            source.parse::<SettingsDocument>("Settings", problems).map(|document| Named { source, document })
        }
        None => None,
    };
    Ok(Some(Documents { template: Named { source, document }, software, configuration, settings }))
}

/// What each profile document says its kind is.
pub(crate) trait Profile: DeserializeOwned {
    const KIND: &'static str;
}

impl Profile for SoftwareDocument {
    const KIND: &'static str = "SoftwareProfile";
}

impl Profile for ConfigurationDocument {
    const KIND: &'static str = "ConfigurationProfile";
}

fn profiles<T: Profile>(
    folder: &Path,
    names: &[Placed<String>],
    template: &Source,
    wanted_by: &str,
    problems: &mut Problems,
) -> Result<Vec<Named<T>>, ProfileError> {
    let mut out = Vec::new();
    for name in names {
        if name.value.contains(['/', '.']) {
            let message = format!("'{}' is not a profile's name", name.value);
            problems.note(*template.problem(name, "bad-name", message, "write the name without folder and .yaml"));
            continue;
        }
        let path = folder.join(format!("{}.yaml", name.value));
        if !path.is_file() {
            let message = format!("there is no {} '{}'", T::KIND, name.value);
            problems.note(*template.problem(name, "no-such-profile", message, format!("write {}", path.display())));
            continue;
        }
        let mut source = read(&path, wanted_by)?;
        out.extend(source.parse(T::KIND, problems).map(|document| Named { source, document }));
    }
    Ok(out)
}

pub(crate) fn read(path: &Path, wanted_by: &str) -> Result<Source, ProfileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Source::new(path, text)),
        Err(source) => Err(ProfileError::Read { path: path.to_owned(), source, wanted_by: wanted_by.to_owned() }),
    }
}
