//! Every problem of a file at once, for editors and CI.

use crate::{
    compose::{MISSING_VALUE, compose},
    error::{Problem, Problems, ProfileError},
    load::{read, read_documents},
    shapes::{ConfigurationDocument, SettingsDocument, SoftwareDocument, TemplateDocument},
    yaml::Source,
};
use std::path::Path;

/// Checks a template with everything that it names, or a profile or a settings file by itself. What has no value yet is no
/// problem as long as no settings are given.
///
/// # Errors
/// [`ProfileError::Read`].
pub fn check(file: &Path, settings: Option<&Path>) -> Result<Vec<Problem>, ProfileError> {
    let mut problems = Problems::default();
    let mut source = read(file, "the command line")?;
    if !is_alone(&mut source, &mut problems)
        && let Some(documents) = read_documents(file, settings, &mut problems)?
    {
        compose(&documents, &mut problems);
    }
    let mut all = problems.into_vec();
    all.retain(|problem| settings.is_some() || problem.code != MISSING_VALUE);
    Ok(all)
}

/// Checks one document by itself, whatever it names.
#[must_use]
pub fn check_text(file: &Path, text: String) -> Vec<Problem> {
    let (mut source, mut problems) = (Source::new(file, text), Problems::default());
    if !is_alone(&mut source, &mut problems) {
        source.parse::<TemplateDocument>("MachineTemplate", &mut problems);
    }
    problems.into_vec()
}

/// Checks a document that names no other; false for everything else.
fn is_alone(source: &mut Source, problems: &mut Problems) -> bool {
    match source.kind().as_deref() {
        Some("SoftwareProfile") => source.parse::<SoftwareDocument>("SoftwareProfile", problems).is_some(),
        Some("ConfigurationProfile") => {
            source.parse::<ConfigurationDocument>("ConfigurationProfile", problems).is_some()
        }
        Some("Settings") => source.parse::<SettingsDocument>("Settings", problems).is_some(),
        _ => return false,
    };
    true
}
