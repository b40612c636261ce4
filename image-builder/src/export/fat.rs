//! FAT file systems in files, made without mounting anything.

use super::Place;
use crate::{
    command::CommandError,
    files::{self, FileError, at},
    report::Reporter,
    tools::WORK,
};
use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    time::{Duration, SystemTime},
};

/// Why there is no file system.
#[derive(Debug, thiserror::Error)]
pub enum FatError {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Bits of a table entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As few as the size allows: 12 or 16.
    Smallest,
    /// 32, as the agent makes it on disks.
    Fat32,
}

/// Makes an empty file system in a new sparse file of the work folder.
///
/// # Errors
/// See [`FatError`].
pub async fn make(
    place: &Place<'_>,
    image: &str,
    bytes: u64,
    kind: Kind,
    reporter: &mut dyn Reporter,
) -> Result<(), FatError> {
    let path = place.work.join(image);
    let file = File::create_new(&path).map_err(at("write", &path))?;
    file.set_len(bytes).map_err(at("write", &path))?;
    // Its time of making and its serial number are always the same.
    let mut arguments = vec!["--invariant".to_owned(), "-n".to_owned(), "SHELFBOOT".to_owned()];
    if kind == Kind::Fat32 {
        arguments.extend(["-F".to_owned(), "32".to_owned()]);
    }
    arguments.push(format!("{WORK}/{image}"));
    Ok(place.sandbox().run(reporter, "mkfs.vfat", &arguments).await?)
}

/// Puts files, by path, into the file system; makes the folders above them.
///
/// # Errors
/// See [`FatError`].
pub async fn put(
    place: &Place<'_>,
    image: &str,
    content: &[(&str, &[u8])],
    reporter: &mut dyn Reporter,
) -> Result<(), FatError> {
    let sandbox = place.sandbox();
    let inside = format!("{WORK}/{image}");
    // A set is sorted: every folder comes after the one above it.
    let folders: BTreeSet<&str> = content
        .iter()
        .flat_map(|(path, _)| path.match_indices('/').map(|(end, _)| &path[..end]).collect::<Vec<_>>())
        .collect();
    let folders = folders.iter().map(|folder| format!("::/{folder}"));
    let arguments = ["-i".to_owned(), inside.clone()].into_iter().chain(folders).collect::<Vec<_>>();
    sandbox.run(reporter, "mmd", &arguments).await?;
    for (index, (path, bytes)) in content.iter().enumerate() {
        let name = format!("{image}.{index}");
        let from = place.work.join(&name);
        files::write(&from, bytes, 0o644)?;
        set_time(&from, place.epoch)?;
        // -m: with the time of the file.
        let arguments = ["-m", "-i", &inside, &format!("{WORK}/{name}"), &format!("::/{path}")];
        sandbox.run(reporter, "mcopy", &arguments).await?;
        files::remove(&from)?;
    }
    Ok(())
}

fn set_time(path: &Path, epoch: i64) -> Result<(), FileError> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch.max(0).unsigned_abs());
    let file = File::options().write(true).open(path).map_err(at("write", path))?;
    file.set_modified(time).map_err(at("write", path))
}
