//! `slots.json`: read, changed and kept, whole or not at all.

use super::model::Slots;
use crate::durable;
use anyhow::{Context, Result};
use std::{fs::File, io::Read, path::Path};

/// What it holds is a few hundred bytes.
const MOST_BYTES: u64 = 64 << 10;

/// Reads it from the agent's folder. `None` before the first update.
///
/// # Errors
/// When it is there and makes no sense.
pub fn read(folder: &Path) -> Result<Option<Slots>> {
    let path = folder.join(Slots::FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("opening {}", path.display())),
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).map(Some).with_context(|| format!("reading {}", path.display()))
}

/// Keeps it.
///
/// # Errors
/// When it cannot be written.
pub fn write(folder: &Path, slots: &Slots) -> Result<()> {
    durable::write(&folder.join(Slots::FILE), &serde_json::to_vec_pretty(slots)?, 0o644)
}

/// Forgets it: the disk is installed anew, with one version.
///
/// # Errors
/// When it cannot be removed.
pub fn forget(folder: &Path) -> Result<()> {
    let path = folder.join(Slots::FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::model::Version;

    #[test]
    fn it_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        let slots = Slots::new(Version { image_version: "1".into(), root_hash: "ab".into() });
        write(folder.path(), &slots).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(slots));
        std::fs::write(folder.path().join(Slots::FILE), "cut off").unwrap();
        assert!(read(folder.path()).is_err());
        forget(folder.path()).unwrap();
        forget(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
    }
}
