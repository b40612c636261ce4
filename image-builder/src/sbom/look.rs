//! Reads files, links and archives: what is at a path, and what digest it has.

use super::{
    SbomError,
    inventory::{Content, Digests},
};
use crate::files::{FileError, at};
use aws_lc_rs::digest;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// No file of dpkg's, and no copyright file, is larger.
const MAX_TEXT: u64 = 64 << 20;
/// No unpacked initrd is larger.
const MAX_INITRD: u64 = 1 << 30;

/// A text file of a tree; `None` where there is none.
pub(super) fn text(path: &Path) -> Result<Option<String>, FileError> {
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(MAX_TEXT).read_to_end(&mut bytes).map_err(at("read", path))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("read", path)(error)),
    };
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

pub(super) fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).map_err(at("list", folder))? {
        out.push(entry.map_err(at("list", folder))?.file_name().to_string_lossy().into_owned());
    }
    out.sort();
    Ok(out)
}

/// A file or link of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Its absolute path in the tree, for people: bytes that are no UTF-8 are shown as such.
    pub(super) path: String,
    /// The same below the tree, as it is.
    pub(super) below: PathBuf,
}

/// Adds every file and link below a folder of a tree, sorted. Device nodes and sockets are none.
pub(super) fn walk(tree: &Path, below: &Path, out: &mut Vec<Found>) -> Result<(), FileError> {
    let folder = tree.join(below);
    let mut entries = Vec::new();
    for entry in fs::read_dir(&folder).map_err(at("list", &folder))? {
        let entry = entry.map_err(at("list", &folder))?;
        entries.push((entry.file_name(), entry.file_type().map_err(at("look at", &entry.path()))?));
    }
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, kind) in entries {
        let below = below.join(name);
        if kind.is_dir() {
            walk(tree, &below, out)?;
        } else if kind.is_file() || kind.is_symlink() {
            out.push(Found { path: format!("/{}", below.to_string_lossy()), below });
        }
    }
    Ok(())
}

pub(super) fn content(path: &Path, sha1: bool) -> Result<Content, FileError> {
    if path.is_symlink() {
        let target = fs::read_link(path).map_err(at("read", path))?;
        return Ok(Content::Link(target.to_string_lossy().into_owned()));
    }
    Ok(Content::File(digests(path, sha1)?))
}

pub(super) fn digests(path: &Path, sha1: bool) -> Result<Digests, FileError> {
    hash(fs::File::open(path).map_err(at("read", path))?, sha1).map_err(at("read", path))
}

fn hash(mut from: impl Read, sha1: bool) -> std::io::Result<Digests> {
    let mut sha256 = digest::Context::new(&digest::SHA256);
    let mut legacy = sha1.then(|| digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY));
    let (mut buffer, mut bytes) = (vec![0; 256 << 10], 0u64);
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            length => {
                bytes += length as u64;
                sha256.update(&buffer[..length]);
                legacy.iter_mut().for_each(|legacy| legacy.update(&buffer[..length]));
            }
        }
    }
    Ok(Digests { bytes, sha256: hex::encode(sha256.finish()), sha1: legacy.map(|legacy| hex::encode(legacy.finish())) })
}

/// Reads what the packed initrd holds: the archive itself, not what was meant to go into it.
pub(super) fn read_initrd(packed: &Path, sha1: bool) -> Result<Vec<(String, Content)>, SbomError> {
    let broken = |error| SbomError::File(at("unpack", packed)(error));
    let file = fs::File::open(packed).map_err(at("read", packed))?;
    let mut archive: Box<dyn Read> = Box::new(zstd::Decoder::new(file).map_err(broken)?.take(MAX_INITRD));
    let mut out = Vec::new();
    loop {
        let mut reader = cpio::newc::Reader::new(archive).map_err(broken)?;
        if reader.entry().is_trailer() {
            return Ok(out);
        }
        let (path, kind) =
            (format!("/{}", reader.entry().name().trim_start_matches('/')), reader.entry().mode() & 0o170_000);
        match kind {
            0o100_000 => out.push((path, Content::File(hash(&mut reader, sha1).map_err(broken)?))),
            0o120_000 => {
                let mut target = Vec::new();
                reader.by_ref().take(4096).read_to_end(&mut target).map_err(broken)?;
                out.push((path, Content::Link(String::from_utf8_lossy(&target).into_owned())));
            }
            _ => {}
        }
        archive = reader.finish().map_err(broken)?;
    }
}

/// Does the same to every item, on all processors; results in the items' order, the first error if there is one.
pub(super) fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    each: impl Fn(&I) -> Result<T, FileError> + Sync,
) -> Result<Vec<T>, FileError> {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = items.len().div_ceil(workers * 8).max(1);
    let queue = std::sync::Mutex::new(items.chunks(share).enumerate());
    let mut parts: Vec<(usize, Result<Vec<T>, FileError>)> = std::thread::scope(|scope| {
        let work = || {
            let mut mine = Vec::new();
            loop {
                let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                let Some((index, items)) = next else { return mine };
                mine.push((index, items.iter().map(&each).collect()));
            }
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(joined).collect()
    });
    parts.sort_by_key(|(index, _)| *index);
    let parts = parts.into_iter().map(|(_, part)| part).collect::<Result<Vec<Vec<T>>, FileError>>()?;
    Ok(parts.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_shared_and_comes_back_in_order() {
        let paths: Vec<String> = (0..1000).map(|n| format!("/{n}")).collect();
        assert_eq!(in_parallel(&paths, |path| Ok(path.clone())).unwrap(), paths);
        let fails = |path: &String| {
            if path == "/500" { Err(at("read", Path::new(path))(std::io::Error::other("x"))) } else { Ok(()) }
        };
        assert_eq!(in_parallel(&paths, fails).unwrap_err().path, Path::new("/500"));
    }

    #[test]
    fn a_name_that_is_no_text_is_read_all_the_same() {
        use std::os::unix::ffi::OsStrExt;
        let tree = tempfile::tempdir().unwrap();
        let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
        fs::write(tree.path().join(name), "x").unwrap();
        std::os::unix::fs::symlink("/etc", tree.path().join("away")).unwrap();
        let mut found = Vec::new();
        walk(tree.path(), Path::new(""), &mut found).unwrap();
        let paths: Vec<&str> = found.iter().map(|found| found.path.as_str()).collect();
        assert_eq!(paths, ["/away", "/caf\u{fffd}"]);
        assert_eq!(content(&tree.path().join(&found[0].below), false).unwrap(), Content::Link("/etc".into()));
        content(&tree.path().join(&found[1].below), false).unwrap();
    }

    #[test]
    fn a_packed_initrd_is_read_as_it_was_written() {
        use crate::initrd::{Entries, Entry as Packed, write_archive};
        let folder = tempfile::tempdir().unwrap();
        let entries = Entries::from([
            ("bin".to_owned(), Packed::Link("usr/bin".into())),
            ("dev".to_owned(), Packed::Folder),
            ("init".to_owned(), Packed::File(0o755, b"abc".to_vec())),
        ]);
        let mut bytes = Vec::new();
        write_archive(&entries, &mut bytes).unwrap();
        let packed = folder.path().join("initrd.zst");
        fs::write(&packed, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
        let read = read_initrd(&packed, true).unwrap();
        assert_eq!(read[0], ("/bin".into(), Content::Link("usr/bin".into())));
        let Content::File(digests) = &read[1].1 else { panic!("not a file") };
        assert_eq!(digests.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digests.sha1.as_deref(), Some("a9993e364706816aba3e25717850c26c9cd0d89d"));
        fs::write(&packed, &bytes[..9]).unwrap();
        assert!(read_initrd(&packed, false).is_err());
    }
}
