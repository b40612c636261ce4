//! Every problem of a file at once, for editors and CI.

use crate::{
    compose::{MISSING_VALUE, compose},
    error::{Problem, Problems, ProfileError},
    load::{read, read_documents},
    shapes::{ConfigurationDocument, SettingsDocument, SoftwareDocument},
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
    match source.kind().as_deref() {
        Some("SoftwareProfile") => {
            source.parse::<SoftwareDocument>("SoftwareProfile", &mut problems);
        }
        Some("ConfigurationProfile") => {
            source.parse::<ConfigurationDocument>("ConfigurationProfile", &mut problems);
        }
        Some("Settings") => {
            source.parse::<SettingsDocument>("Settings", &mut problems);
        }
        _ => {
            if let Some(documents) = read_documents(file, settings, &mut problems)? {
                compose(&documents, &mut problems);
            }
        }
    }
    let mut all = problems.into_vec();
    all.retain(|problem| settings.is_some() || problem.code != MISSING_VALUE);
    Ok(all)
}
