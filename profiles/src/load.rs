//! Finds the files that a template names.
//!
//! A template lies in `templates/`; its profiles lie beside that folder, in `software/` and `configuration/`.

use crate::{
    compose::{Documents, Named, compose},
    error::ProfileError,
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
    let documents = read_documents(template, settings)?;
    Ok(compose(&documents)?)
}

fn read_documents(template: &Path, settings: Option<&Path>) -> Result<Documents, ProfileError> {
    let source = read(template, "the command line")?;
    let document: TemplateDocument = source.parse("MachineTemplate")?;
    let folder = template.parent().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    // A bare file name has an empty parent: its profiles are one folder up from here.
    let folder = if template.parent() == Some(Path::new("")) { Path::new("..").to_owned() } else { folder };
    let wanted_by = format!("template {}", document.metadata.name.value);
    let software =
        profiles::<SoftwareDocument>(&folder.join("software"), &document.spec.software, &source, &wanted_by)?;
    let configuration = profiles::<ConfigurationDocument>(
        &folder.join("configuration"),
        &document.spec.configuration,
        &source,
        &wanted_by,
    )?;
    let settings = match settings {
        Some(path) => {
            let source = read(path, "the command line")?;
            Some(Named { document: source.parse::<SettingsDocument>("Settings")?, source })
        }
        None => None,
    };
    Ok(Documents { template: Named { source, document }, software, configuration, settings })
}

/// What each profile document says its kind is.
trait Profile: DeserializeOwned {
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
) -> Result<Vec<Named<T>>, ProfileError> {
    let mut out = Vec::new();
    for name in names {
        if name.value.contains(['/', '.']) {
            let message = format!("'{}' is not a profile's name", name.value);
            return Err(template.problem(name, message, "write the name without folder and .yaml").into());
        }
        let path = folder.join(format!("{}.yaml", name.value));
        if !path.is_file() {
            let message = format!("there is no {} '{}'", T::KIND, name.value);
            return Err(template.problem(name, message, format!("write {}", path.display())).into());
        }
        let source = read(&path, wanted_by)?;
        out.push(Named { document: source.parse(T::KIND)?, source });
    }
    Ok(out)
}

fn read(path: &Path, wanted_by: &str) -> Result<Source, ProfileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Source::new(path, text)),
        Err(source) => Err(ProfileError::Read { path: path.to_owned(), source, wanted_by: wanted_by.to_owned() }),
    }
}
