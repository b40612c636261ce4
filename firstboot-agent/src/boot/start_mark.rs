//! Starts that did not come to their end. Each start of the installed system is counted on the state partition, and the
//! count is taken away when the machine is a member of its cluster again. A kernel panic cannot leave a word of its own:
//! this is how the next start knows.

use crate::durable;
use anyhow::{Context, Result};
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::Path,
};

const FILE: &str = "unfinished-starts";

/// Counts this start, and tells how many before it did not come to their end. `folder` is the agent's folder on the state
/// partition.
///
/// # Errors
/// When the count cannot be written; that of a file that cannot be read begins anew.
pub fn begin(folder: &Path) -> Result<u32> {
    let path = folder.join(FILE);
    let before: u32 = match fs::read_to_string(&path) {
        // Cut off or not: somebody began a start, and it did not end.
        Ok(text) => text.trim().parse().unwrap_or(1),
        Err(_) => 0,
    };
    durable::write(&path, format!("{}\n", before.saturating_add(1)).as_bytes(), 0o644)?;
    Ok(before)
}

/// This start came to its end.
///
/// # Errors
/// When the count cannot be taken away: the next start then checks the disk for nothing.
pub fn end(folder: &Path) -> Result<()> {
    let path = folder.join(FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => File::open(folder)?.sync_all().with_context(|| format!("syncing {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_counted_until_one_comes_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        assert_eq!(begin(state).unwrap(), 0);
        assert_eq!(begin(state).unwrap(), 1);
        assert_eq!(begin(state).unwrap(), 2);
        end(state).unwrap();
        end(state).unwrap();
        assert_eq!(begin(state).unwrap(), 0);
        fs::write(state.join(FILE), "garbage").unwrap();
        assert_eq!(begin(state).unwrap(), 1);
    }
}
