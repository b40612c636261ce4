//! Files that must not be read by others, and must not be overwritten.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Mode of files with secrets.
pub const PRIVATE: u32 = 0o600;
/// Mode of files that everybody may read.
pub const PUBLIC: u32 = 0o644;

/// Writes a new file with this mode, durably. Fails when the file exists already.
///
/// # Errors
/// Whatever the file system says; `AlreadyExists` when the file is there.
pub fn write_new(path: &Path, mode: u32, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Writes a file with this mode, whole or not at all, in place of one that is there.
///
/// # Errors
/// Whatever the file system says.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => write_new(&beside, mode, content)?,
    }
    std::fs::rename(&beside, path)?;
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a folder that only its owner may enter; an existing one is left as it is.
///
/// # Errors
/// Whatever the file system says.
pub fn private_folder(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
