//! Files that must survive a power cut: written beside, synced, renamed, and the folder synced.

use anyhow::{Context, Result};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Replaces `path` by `content` with the permission bits `mode`; afterwards either the old or the new content is
/// there, whole, whatever happens.
///
/// # Errors
/// When the folder cannot be made or the file not be written; the old file is untouched then.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().context("the path has no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let name = path.file_name().context("the path has no file name")?.to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .with_context(|| format!("opening {}", beside.display()))?;
    // An earlier, cut-off try may have left the file with other bits.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content).with_context(|| format!("writing {}", beside.display()))?;
    file.sync_all().with_context(|| format!("syncing {}", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("renaming to {}", path.display()))?;
    File::open(folder)?.sync_all().with_context(|| format!("syncing {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_mode_are_replaced_and_nothing_is_left_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/key");
        write(&path, b"one", 0o644).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }
}
