//! Result files that are there whole or not at all: a full disk, or Ctrl-C, leaves none that looks like one.

use crate::hint::coded;
use anyhow::{Context as _, Result};
use contracts::exit::{Code, Lack};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Finds out before minutes of work whether a result can be written there.
///
/// # Errors
/// When it cannot.
pub fn check(path: &Path) -> Result<()> {
    if is_other(path) {
        return Ok(());
    }
    let beside = beside(path);
    let tried = fs::write(&beside, "").and_then(|()| fs::remove_file(&beside));
    tried.map_err(|error| {
        let message = format!("{} cannot be written: {error}", path.display());
        match Lack::of_kind(error.kind()) {
            Some(lack) => coded(Code::Host, message, lack.hint()),
            None => coded(Code::Usage, message, "name a file in a folder that exists"),
        }
    })
}

/// Writes a file beside its place and renames it. What is no regular file, a pipe or a device, is written as it is.
///
/// # Errors
/// When it cannot be written; nothing new is there then.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let written = if is_other(path) { fs::write(path, text) } else { replace(path, text) };
    written.with_context(|| format!("writing {}", path.display()))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = beside(path);
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // It may not have come into being at all.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn is_other(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("report.json");
        check(&file).unwrap();
        assert!(!file.exists());
        write(&file, "{}").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(check(&folder.path().join("none/report.json")).is_err());
        // A folder of that name is in the way of the rename.
        assert!(write(folder.path().join("sub").parent().unwrap(), "{}").is_err());
    }

    #[test]
    fn a_full_device_is_an_error() {
        let error = write(Path::new("/dev/full"), "{}").unwrap_err();
        assert_eq!(Lack::of(error.as_ref()), Some(Lack::Space));
    }
}
