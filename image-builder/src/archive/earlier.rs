//! Chunks of archives that were made before.

use crate::files::{self, FileError, at};
use bitar::archive_reader::IoReader;
use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How many archives are kept: one for each template, and a few more.
const KEEP: usize = 8;

/// Where chunks of earlier archives are, by hash. Copies share it.
#[derive(Debug, Clone)]
pub struct Earlier(Arc<Index>);

#[derive(Debug, Default)]
struct Index {
    files: Vec<File>,
    chunks: HashMap<Vec<u8>, Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    offset: u64,
    bytes: usize,
}

impl Earlier {
    /// No earlier archive.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::default())
    }

    /// Reads the dictionaries of these archives. One that cannot be read is as good as none.
    pub async fn open(paths: &[PathBuf]) -> Self {
        let mut index = Index::default();
        for path in paths {
            let (Ok(file), Ok(reader)) = (File::open(path), tokio::fs::File::open(path).await) else { continue };
            let Ok(archive) = bitar::Archive::try_init(IoReader::new(reader)).await else { continue };
            for chunk in archive.chunk_descriptors() {
                let place = Place { file: index.files.len(), offset: chunk.archive_offset, bytes: chunk.archive_size };
                index.chunks.entry(chunk.checksum.to_vec()).or_insert(place);
            }
            index.files.push(file);
        }
        Self(Arc::new(index))
    }

    /// The archives that a folder keeps, newest first.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn open_folder(folder: &Path) -> Result<Self, FileError> {
        Ok(Self::open(&listed(folder)?).await)
    }

    /// The bytes of a chunk as an earlier archive has them. They are unpacked and compared: a damaged cache makes no damaged image.
    pub(super) fn get(&self, hash: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        let place = self.0.chunks.get(hash)?;
        let mut bytes = vec![0; place.bytes];
        self.0.files[place.file].read_exact_at(&mut bytes, place.offset).ok()?;
        let same = if bytes.len() == data.len() {
            bytes == data
        } else {
            zstd::bulk::decompress(&bytes, data.len()).is_ok_and(|unpacked| unpacked == data)
        };
        same.then_some(bytes)
    }
}

/// Keeps a finished archive for later builds, under one name for each template; the oldest go.
///
/// # Errors
/// [`FileError`].
pub fn keep(archive: &Path, folder: &Path, name: &str) -> Result<(), FileError> {
    files::create_folder(folder)?;
    let place = folder.join(format!("{name}.bita"));
    let link = tempfile::Builder::new().prefix(".new-").make_in(folder, |path| std::fs::hard_link(archive, path));
    link.map_err(at("link into", folder))?.persist(&place).map_err(|error| at("write", &place)(error.error))?;
    listed(folder)?.iter().skip(KEEP).try_for_each(|path| files::remove(path))
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(at("list", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "bita") {
            let time = std::fs::metadata(&path).and_then(|file| file.modified()).ok();
            found.push((time, path));
        }
    }
    found.sort();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}
