//! Opens files of a folder, and nothing outside it.

use crate::proto::http::Validators;
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};
use std::{fs::File, io, os::unix::fs::MetadataExt, path::Path};

/// Opens a regular file below a folder. The kernel resolves the path and refuses to leave the folder, by `..` or
/// by a symbolic link (openat2, Linux 5.6).
///
/// # Errors
/// When there is no such file, it is none, or the path leaves the folder.
pub fn open(folder: &Path, path: &str) -> io::Result<(File, Validators)> {
    let folder = File::open(folder)?;
    // O_NONBLOCK: a FIFO in the repository must not hang the server.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).mode(Mode::empty()).resolve(resolve);
    let file = File::from(openat2(&folder, path, how)?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // Files are put in place by renaming, so another content has another inode or another time.
    let etag = format!("\"{:x}-{:x}-{:x}.{:x}\"", meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    Ok((file, Validators { length: meta.len(), etag, modified: meta.modified()? }))
}
