//! The dictionary of a chunked archive.

use crate::files::{FileError, at};
use bitar::{Archive, archive_reader::IoReader};
use contracts::manifest::ImageManifest;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
    path::{Component, Path, PathBuf},
};

/// No header is larger: some 100,000 chunks.
const MAX_HEADER: u64 = 32 << 20;

/// Why a dictionary could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ChunksError {
    /// The manifest's path leads elsewhere.
    #[error("'{0}' is no path inside the repository")]
    Path(String),
    /// The header is not the one that the manifest names.
    #[error("the header of {} is not the one that was signed", .0.display())]
    Header(PathBuf),
    /// The header cannot be understood.
    #[error("the header of {} cannot be understood: {problem}", path.display())]
    Dictionary {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Compressed bytes by the hash of each chunk.
pub(super) type Chunks = BTreeMap<Vec<u8>, u64>;

/// Reads the header of an image's archive, checks it against the manifest, and only then takes it apart.
pub(super) async fn read(repository: &Path, manifest: &ImageManifest) -> Result<Chunks, ChunksError> {
    let archive = &manifest.archive;
    let inside = Path::new(&archive.path);
    if !inside.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(ChunksError::Path(archive.path.clone()));
    }
    let path = repository.join(inside);
    let mut header = Vec::new();
    let file = std::fs::File::open(&path).map_err(at("read", &path))?;
    file.take(archive.header_bytes.min(MAX_HEADER)).read_to_end(&mut header).map_err(at("read", &path))?;
    if hex::encode(Sha256::digest(&header)) != archive.header_sha256 {
        return Err(ChunksError::Header(path));
    }
    dictionary(header).await.map_err(|problem| ChunksError::Dictionary { path, problem })
}

/// Magic (6 bytes), length of the dictionary (8), dictionary, offset of the first chunk (8), checksum (64).
async fn dictionary(header: Vec<u8>) -> Result<Chunks, String> {
    let length: Option<[u8; 8]> = header.get(6..14).and_then(|bytes| bytes.try_into().ok());
    let length = length.map(u64::from_le_bytes).ok_or("it is too short")?;
    // bitar makes room for as much as the header claims.
    if length.checked_add(14 + 8 + 64) != Some(header.len() as u64) {
        return Err(format!("it claims a dictionary of {length} bytes"));
    }
    let archive = Archive::try_init(IoReader::new(Cursor::new(header))).await.map_err(|error| error.to_string())?;
    let chunks = archive.chunk_descriptors().iter();
    Ok(chunks.map(|chunk| (chunk.checksum.slice().to_vec(), chunk.archive_size as u64)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Earlier, Packer};
    use contracts::manifest::Root;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_header_is_believed_only_if_it_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(path("data"), &bytes).unwrap();
        let (work, data, runtime) = (folder.path().to_owned(), path("data"), tokio::runtime::Handle::current());
        let made = tokio::task::spawn_blocking(move || {
            let mut packer = Packer::new(&work, Earlier::none(), runtime).unwrap();
            packer.add(&data).unwrap();
            packer.finish().unwrap()
        });
        let made = made.await.unwrap();
        let mut manifest = ImageManifest {
            version: contracts::VERSION,
            template: "till".into(),
            image_version: "1".into(),
            architecture: "x86_64".into(),
            root: Root { data_bytes: 0, hash_bytes: 0, root_hash: String::new() },
            archive: made.archive,
            uki: String::new(),
            boot_loader: String::new(),
            registrar_ca: String::new(),
            bios: None,
            disks: contracts::disks::DiskPolicy::default(),
            state: Default::default(),
        };
        manifest.archive.path = "root.bita".into();
        let chunks = read(folder.path(), &manifest).await.unwrap();
        let stored: u64 = chunks.values().sum();
        assert_eq!(stored + manifest.archive.header_bytes, manifest.archive.bytes);

        let mut changed = std::fs::read(path("root.bita")).unwrap();
        changed[40] ^= 1;
        std::fs::write(path("root.bita"), &changed).unwrap();
        assert!(matches!(read(folder.path(), &manifest).await, Err(ChunksError::Header(_))));
        manifest.archive.path = "../root.bita".into();
        assert!(matches!(read(folder.path(), &manifest).await, Err(ChunksError::Path(_))));
    }

    #[tokio::test]
    async fn a_length_that_is_not_there_is_refused() {
        let mut header = b"BITA1\0".to_vec();
        header.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(dictionary(header).await.is_err());
        assert!(dictionary(Vec::new()).await.is_err());
    }
}
