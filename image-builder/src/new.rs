//! A site's own template to begin with, and the profiles that it needs.

use crate::files::{self, FileError};
use profiles::{check_text, shipped};
use std::path::{Path, PathBuf};

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The template is there.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// Not a name.
    #[error("'{0}' is no template's name")]
    Name(String),
    /// There is no such template to begin with.
    #[error("no template {0} ships with this program")]
    Unknown(String),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Writes `FOLDER/templates/NAME.yaml` like a template that ships, and every profile that it names and that is not there.
/// What is there stays as it is. Gives the files that were written.
///
/// # Errors
/// [`NewError`].
pub fn begin(folder: &Path, name: &str, like: &str) -> Result<Vec<PathBuf>, NewError> {
    let example = shipped::find("templates", like).ok_or_else(|| NewError::Unknown(like.to_owned()))?;
    let path = folder.join("templates").join(format!("{name}.yaml"));
    let text = example.text.replacen(&format!("  name: {like}\n"), &format!("  name: {name}\n"), 1);
    let fine = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fine || name.starts_with('-') || name.len() > 63 || !check_text(&path, text.clone()).is_empty() {
        return Err(NewError::Name(name.to_owned()));
    }
    if path.exists() {
        return Err(NewError::Exists(path));
    }
    let mut written = Vec::new();
    for profile in shipped::SHIPPED.iter().filter(|file| file.folder != "templates") {
        // Named in a list of its kind: `software: [base, ceph-osd]`.
        let list = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{}: [", profile.folder)));
        let named = list.is_some_and(|list| list.trim_end_matches(']').split(", ").any(|item| item == profile.name));
        let place = folder.join(profile.folder).join(format!("{}.yaml", profile.name));
        if named && !place.exists() {
            files::write(&place, profile.text.as_bytes(), 0o644)?;
            written.push(place);
        }
    }
    // Last: a template that is there is complete.
    files::write(&path, text.as_bytes(), 0o644)?;
    written.push(path);
    Ok(written)
}
