//! The chunked archive back to root and hash tree, believing nothing: header by its signed digest, each chunk by the header's, and no
//! chunk larger than it says.

use crate::files::{FileError, at};
use bitar::{Archive, archive_reader::IoReader};
use blake2::{Blake2b512, Digest as _};
use contracts::manifest::ImageManifest;
use sha2::Sha256;
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Cursor, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// No header is larger than this: some 100,000 chunks.
const HEADER_LIMIT: u64 = 32 << 20;
/// No chunk is larger than this, compressed or not.
const CHUNK_LIMIT: usize = 16 << 20;
/// Holes are made of whole blocks.
const BLOCK: usize = 4096;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The header is not the one that was signed.
    #[error("its header is not the one that was signed")]
    Header,
    /// The header is signed, and still no header.
    #[error("its header cannot be read: {0}")]
    Shape(String),
    /// A chunk does not match the header.
    #[error("chunk {index} {problem}")]
    Chunk {
        /// Which, in the order of the header.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Where root and hash tree go.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// The root file system.
    pub data: &'a Path,
    /// Its hash tree.
    pub tree: &'a Path,
}

/// Checks header and all chunks.
///
/// # Errors
/// See [`UnpackError`].
pub async fn check(archive: &Path, manifest: &ImageManifest) -> Result<(), UnpackError> {
    walk(archive, manifest, |_, _| Ok(())).await
}

/// Checks everything and writes root and hash tree to new files; zeros stay holes.
///
/// # Errors
/// See [`UnpackError`].
pub async fn unpack(archive: &Path, manifest: &ImageManifest, output: Output<'_>) -> Result<(), UnpackError> {
    let create = |path: &Path, bytes: u64| {
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(at("write", path))?;
        file.set_len(bytes).map_err(at("write", path))?;
        Ok::<File, FileError>(file)
    };
    let root = &manifest.root;
    let (data, tree) = (create(output.data, root.data_bytes)?, create(output.tree, root.hash_bytes)?);
    walk(archive, manifest, |place, content| {
        let end = place + content.len() as u64;
        let split = usize::try_from(root.data_bytes.clamp(place, end) - place).unwrap_or(content.len());
        let (to_data, to_tree) = content.split_at(split);
        write_sparse(&data, to_data, place).map_err(at("write", output.data))?;
        write_sparse(&tree, to_tree, (place + split as u64).saturating_sub(root.data_bytes))
            .map_err(at("write", output.tree))
    })
    .await
}

/// Writes what is not zero.
///
/// # Errors
/// The kernel's.
pub fn write_sparse(file: &File, content: &[u8], at: u64) -> std::io::Result<()> {
    for (index, block) in content.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, at + (index * BLOCK) as u64)?;
        }
    }
    Ok(())
}

/// Calls `each` with the place and the content of every chunk.
async fn walk(
    archive: &Path,
    manifest: &ImageManifest,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), FileError>,
) -> Result<(), UnpackError> {
    let file = File::open(archive).map_err(at("read", archive))?;
    let header = read_header(&file, manifest, archive)?;
    let shape = |problem: String| UnpackError::Shape(problem);
    let parsed = Archive::try_init(IoReader::new(Cursor::new(header))).await;
    let parsed = parsed.map_err(|error| shape(format!("{error:?}")))?;
    let source = manifest.root.data_bytes.saturating_add(manifest.root.hash_bytes);
    if parsed.total_source_size() != source {
        return Err(shape(format!("it is of {} bytes, the manifest of {source}", parsed.total_source_size())));
    }
    let mut places: HashMap<&[u8], Vec<u64>> = HashMap::new();
    for (offset, descriptor) in parsed.iter_source_chunks() {
        places.entry(descriptor.checksum.slice()).or_default().push(offset);
    }
    let compressed = parsed.chunk_compression().is_some();
    let (mut stored, mut unpacked) = (Vec::new(), Vec::new());
    for (index, descriptor) in parsed.chunk_descriptors().iter().enumerate() {
        let wrong = |problem: String| UnpackError::Chunk { index, problem };
        let size = descriptor.source_size as usize;
        if descriptor.archive_size > CHUNK_LIMIT || size > CHUNK_LIMIT {
            return Err(wrong("is larger than any chunk may be".into()));
        }
        stored.resize(descriptor.archive_size, 0);
        file.read_exact_at(&mut stored, descriptor.archive_offset).map_err(at("read", archive))?;
        let content: &[u8] = if compressed && descriptor.archive_size != size {
            unpacked.clear();
            let decoder = zstd::stream::read::Decoder::with_buffer(stored.as_slice());
            let read = decoder.and_then(|decoder| decoder.take(size as u64 + 1).read_to_end(&mut unpacked));
            read.map_err(|error| wrong(format!("cannot be decompressed ({error})")))?;
            &unpacked
        } else {
            &stored
        };
        if content.len() != size || !Blake2b512::digest(content)[..].starts_with(descriptor.checksum.slice()) {
            return Err(wrong("does not match its signed digest".into()));
        }
        for place in places.get(descriptor.checksum.slice()).into_iter().flatten() {
            each(*place, content)?;
        }
    }
    Ok(())
}

fn read_header(file: &File, manifest: &ImageManifest, archive: &Path) -> Result<Vec<u8>, UnpackError> {
    let want = manifest.archive.header_bytes;
    if !(1..=HEADER_LIMIT).contains(&want) {
        return Err(UnpackError::Header);
    }
    let mut header = Vec::new();
    file.take(want).read_to_end(&mut header).map_err(at("read", archive))?;
    if header.len() as u64 != want || hex::encode(Sha256::digest(&header)) != manifest.archive.header_sha256 {
        return Err(UnpackError::Header);
    }
    // The length of the dictionary that stands in the header is what is allocated for it.
    let dictionary = header.get(6..14).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    if dictionary.and_then(|bytes| bytes.checked_add(14 + 8 + 64)) == Some(want) {
        Ok(header)
    } else {
        Err(UnpackError::Shape("its dictionary has another length than it says".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::manifest::{Archive as Described, Root};
    use proptest::prelude::*;

    fn manifest(header: &[u8], data_bytes: u64, hash_bytes: u64) -> ImageManifest {
        let archive = Described {
            path: "archives/a.bita".into(),
            header_bytes: header.len() as u64,
            header_sha256: hex::encode(Sha256::digest(header)),
            bytes: 0,
        };
        ImageManifest {
            version: 1,
            template: "till".into(),
            image_version: "1".into(),
            architecture: "x86_64".into(),
            root: Root { data_bytes, hash_bytes, root_hash: "ab".repeat(32) },
            archive,
            uki: "u".into(),
            boot_loader: "b".into(),
            registrar_ca: "r".into(),
            bios: None,
            disks: contracts::disks::DiskPolicy::default(),
            state: Default::default(),
        }
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn what_was_packed_comes_out_again_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let (data, tree) = (folder.path().join("data"), folder.path().join("tree"));
        let mut content: Vec<u8> = (0..900_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        content[300_000..600_000].fill(0);
        std::fs::write(&data, &content).unwrap();
        std::fs::write(&tree, b"hash tree").unwrap();
        let made = run(crate::archive::make(folder.path(), &data, &tree)).unwrap();
        let manifest = ImageManifest { archive: made.archive, ..manifest(b"", content.len() as u64, 9) };
        let (to_data, to_tree) = (folder.path().join("to-data"), folder.path().join("to-tree"));
        run(unpack(&made.path, &manifest, Output { data: &to_data, tree: &to_tree })).unwrap();
        assert!(std::fs::read(&to_data).unwrap() == content && std::fs::read(&to_tree).unwrap() == b"hash tree");

        let good = std::fs::read(&made.path).unwrap();
        let header = usize::try_from(manifest.archive.header_bytes).unwrap();
        for place in [0, header - 1, header, good.len() - 1] {
            let mut bad = good.clone();
            bad[place] ^= 1;
            std::fs::write(&made.path, &bad).unwrap();
            assert!(run(check(&made.path, &manifest)).is_err(), "byte {place}");
        }
        std::fs::write(&made.path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(run(check(&made.path, &manifest)), Err(UnpackError::File(_))));
    }

    proptest! {
        #[test]
        fn any_signed_header_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), honest in any::<bool>()) {
            if honest && bytes.len() > 86 {
                let dictionary = (bytes.len() - 86) as u64;
                bytes[..6].copy_from_slice(b"BITA1\0");
                bytes[6..14].copy_from_slice(&dictionary.to_le_bytes());
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a");
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(run(check(&path, &manifest(&bytes, 4096, 4096))).is_err());
        }
    }
}
