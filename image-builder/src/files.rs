//! File operations whose errors say what was tried and on which path.

use sha2::{Digest, Sha256};
use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// How names of files begin that are not whole yet. A program that was killed leaves them.
pub const NEW_PREFIX: &str = ".new-";

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// For example `write`.
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Names the action and the path of an error.
pub fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError { action, path: path.to_owned(), source }
}

/// Reads a whole file.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(at("read", path))
}

/// Makes a folder and those above it.
///
/// # Errors
/// [`FileError`].
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(at("make the folder", path))
}

/// Writes a file with exactly these permission bits, whatever the umask is; makes the folders above it.
///
/// # Errors
/// [`FileError`].
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    // Through a link one would write outside of the tree.
    remove(path)?;
    fs::write(path, bytes).map_err(at("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at("set the mode of", path))
}

/// Writes a secret: mode 0600 from the first byte on, never over an existing file.
///
/// # Errors
/// [`FileError`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at("write", path))
}

/// Removes a file, link or whole folder; nothing there is fine. Links are not followed.
///
/// # Errors
/// [`FileError`].
pub fn remove(path: &Path) -> Result<(), FileError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Shows a file under another path, without copying it where both lie on one file system. It must not be written to.
///
/// # Errors
/// [`FileError`].
pub fn link_or_copy(from: &Path, to: &Path) -> Result<(), FileError> {
    remove(to)?;
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop)).map_err(at("link", to))
}

/// Makes a folder and those above it, each one noted on the disk before anything is put into it.
///
/// # Errors
/// [`FileError`].
pub fn create_folder_durably(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().unwrap_or(Path::new("/"));
    create_folder_durably(above)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at("make the folder", path)(error)),
        _ => sync_folder(above),
    }
}

/// Notes on the disk which names a folder holds.
///
/// # Errors
/// [`FileError`].
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("write", folder))
}

/// Copies a file to a path that appears only when the copy is whole and on the disk.
///
/// # Errors
/// [`FileError`].
pub fn publish(from: &Path, to: &Path) -> Result<(), FileError> {
    stage(from, to)?.appear()
}

/// Writes a file, for everybody to read, that appears only when it is whole and on the disk.
///
/// # Errors
/// [`FileError`].
pub fn publish_bytes(bytes: &[u8], to: &Path) -> Result<(), FileError> {
    appear(to, |file| file.write_all(bytes))
}

fn appear(to: &Path, fill: impl FnOnce(&mut fs::File) -> io::Result<()>) -> Result<(), FileError> {
    stage_with(to, fill)?.appear()
}

/// A file that is whole and on the disk, beside its place; it vanishes when dropped.
#[derive(Debug)]
pub struct Staged {
    temporary: tempfile::NamedTempFile,
    to: PathBuf,
}

/// Copies a file beside its place.
///
/// # Errors
/// [`FileError`].
pub fn stage(from: &Path, to: &Path) -> Result<Staged, FileError> {
    let mut source = fs::File::open(from).map_err(at("read", from))?;
    stage_with(to, |file| io::copy(&mut source, file).map(drop))
}

fn stage_with(to: &Path, fill: impl FnOnce(&mut fs::File) -> io::Result<()>) -> Result<Staged, FileError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    create_folder_durably(folder)?;
    let mut temporary =
        tempfile::Builder::new().prefix(NEW_PREFIX).tempfile_in(folder).map_err(at("write into", folder))?;
    fill(temporary.as_file_mut()).map_err(at("write", to))?;
    temporary.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(at("set the mode of", to))?;
    temporary.as_file().sync_all().map_err(at("write", to))?;
    Ok(Staged { temporary, to: to.to_owned() })
}

impl Staged {
    /// Lets it appear at its place.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn appear(self) -> Result<(), FileError> {
        let Self { temporary, to } = self;
        temporary.persist(&to).map_err(|error| at("write", &to)(error.error))?;
        sync_folder(to.parent().unwrap_or(Path::new(".")))
    }
}

/// Gives a file a second name; where the file system knows no hard links, a copy. What was at that name is replaced.
///
/// # Errors
/// [`FileError`].
pub fn publish_link(from: &Path, to: &Path) -> Result<(), FileError> {
    let inode = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    if inode(from) == inode(to) {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(Path::new("."));
    create_folder_durably(folder)?;
    // The folder has a name of its own, so that the link in it may have any.
    let temporary = tempfile::Builder::new().prefix(NEW_PREFIX).tempdir_in(folder).map_err(at("write into", folder))?;
    let link = temporary.path().join("link");
    if fs::hard_link(from, &link).is_err() {
        return publish(from, to);
    }
    fs::rename(&link, to).map_err(at("write", to))?;
    sync_folder(folder)
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// [`FileError`].
pub fn sha256(path: &Path) -> Result<String, FileError> {
    let mut file = fs::File::open(path).map_err(at("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(at("read", path))? {
            0 => return Ok(hex::encode(hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// Bytes of a file.
///
/// # Errors
/// [`FileError`].
pub fn length(path: &Path) -> Result<u64, FileError> {
    fs::metadata(path).map(|found| found.len()).map_err(at("look at", path))
}

/// SHA-256 over labelled parts: the key under which something is cached. Lengths are hashed too, so that parts
/// cannot run into each other.
#[derive(Debug, Default, Clone)]
pub struct InputHash(Sha256);

impl InputHash {
    /// Adds one input.
    #[must_use]
    pub fn with(mut self, label: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [label.as_bytes(), value.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// The key, 64 hex digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_parts_do_not_run_into_each_other() {
        let one = InputHash::default().with("a", "bc").finish();
        let two = InputHash::default().with("ab", "c").finish();
        assert_ne!(one, two);
    }

    #[test]
    fn a_secret_is_0600_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_secret(&path, b"1").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_secret(&path, b"2").is_err());
    }
}
