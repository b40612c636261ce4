//! The chunked archive of a root and its hash tree: its header, and what its chunks have to be.
//!
//! The format is bita's (<https://github.com/oll3/bita>, `bitar::header`): magic, length, dictionary, offset of the
//! first chunk, BLAKE2b-512 over all of that; then the chunks. A header is believed only as far as its SHA-256 is
//! the one in the manifest, and nothing in it is believed to be possible: offsets, sizes and indexes are all checked.

use bitar::{
    chunk_dictionary::{ChunkDictionary, chunk_compression::CompressionType},
    header::{ARCHIVE_MAGIC, PRE_HEADER_SIZE},
};
use blake2::{Blake2b512, Digest as _};
use prost::Message as _;
use std::io::Read as _;

/// Bytes that [`header_length`] wants.
pub const FIRST_BYTES: usize = PRE_HEADER_SIZE;

pub use crate::repository::LARGEST_ARCHIVE_HEADER as LARGEST_HEADER;

/// No chunk is larger than this, packed or not. image-builder makes chunks of at most 256 KiB.
pub const LARGEST_CHUNK: u32 = 16 << 20;

/// Chunks of some 70 KiB: small enough that two versions share most of them, large enough that the dictionary of a 600 MiB root
/// stays below 1 MiB.
pub const SMALLEST_CUT: usize = 32 << 10;
/// See [`SMALLEST_CUT`].
pub const AVERAGE_CUT: u32 = 64 << 10;
/// See [`SMALLEST_CUT`].
pub const LARGEST_CUT: usize = 256 << 10;
const CUT_WINDOW: usize = 64;
/// Bytes of each chunk's BLAKE2b hash that the dictionary holds.
pub const HASH_BYTES: usize = 32;
/// The source is cut into segments of this length, where a chunk always ends, so that every processor finds boundaries.
pub const SEGMENT: usize = 4 << 20;

/// How image-builder cuts a segment. A machine that cuts what it has in the same way finds the same chunks; with another way it only
/// finds fewer.
#[must_use]
pub fn chunker() -> bitar::chunker::Config {
    bitar::chunker::Config::RollSum(bitar::chunker::FilterConfig {
        filter_bits: bitar::chunker::FilterBits::from_size(AVERAGE_CUT),
        min_chunk_size: SMALLEST_CUT,
        max_chunk_size: LARGEST_CUT,
        window_size: CUT_WINDOW,
    })
}

/// One chunk as the dictionary describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins in the file.
    pub at: u64,
    /// Bytes in the file.
    pub stored: u32,
    /// Bytes when unpacked.
    pub size: u32,
    /// The first bytes of its BLAKE2b-512.
    pub hash: Vec<u8>,
    /// Packed with zstd, or stored as it is.
    pub packed: bool,
}

/// A dictionary that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dictionary {
    /// The chunks, in the order of the file.
    pub chunks: Vec<Chunk>,
    /// What the source is made of, from its first byte on: indexes of `chunks`.
    pub order: Vec<u32>,
    /// Bytes of the whole unpacked source.
    pub source: u64,
}

/// The length of a whole header by its first bytes; `None` when they are not of an archive that makes sense.
#[must_use]
pub fn header_length(first: &[u8; PRE_HEADER_SIZE]) -> Option<u64> {
    let length = first[ARCHIVE_MAGIC.len()..].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let whole = length.checked_add((PRE_HEADER_SIZE + 8 + 64) as u64)?;
    (first.starts_with(ARCHIVE_MAGIC) && whole <= LARGEST_HEADER).then_some(whole)
}

/// Reads a header. It has to be exactly the bytes before the first chunk.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read_header(header: &[u8]) -> Result<Dictionary, String> {
    let end = header.len().checked_sub(8 + 64).filter(|end| *end >= PRE_HEADER_SIZE).ok_or("it is too short")?;
    if !header.starts_with(ARCHIVE_MAGIC) {
        return Err("it is not of a chunked archive".into());
    }
    let number = |at: usize| header[at..at + 8].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    if number(ARCHIVE_MAGIC.len()) != (end - PRE_HEADER_SIZE) as u64 {
        return Err("the length of its dictionary is wrong".into());
    }
    if number(end) != header.len() as u64 {
        return Err("its first chunk does not begin where it ends".into());
    }
    if Blake2b512::digest(&header[..end + 8])[..] != header[end + 8..] {
        return Err("its own checksum is wrong".into());
    }
    let dictionary = ChunkDictionary::decode(&header[PRE_HEADER_SIZE..end]);
    decide(dictionary.map_err(|_| "its dictionary cannot be read")?, header.len() as u64)
}

/// Chunks lie one behind the other, and the source is made of them and nothing else.
fn decide(dictionary: ChunkDictionary, header: u64) -> Result<Dictionary, String> {
    let compression = dictionary.chunk_compression.ok_or("it does not say how chunks are packed")?.compression;
    let zstd = match CompressionType::try_from(compression) {
        Ok(CompressionType::Zstd) => true,
        Ok(CompressionType::None) => false,
        _ => return Err("its chunks are packed with something other than zstd".into()),
    };
    let mut chunks = Vec::with_capacity(dictionary.chunk_descriptors.len());
    for (index, chunk) in dictionary.chunk_descriptors.into_iter().enumerate() {
        let at = header.checked_add(chunk.archive_offset).ok_or_else(|| format!("chunk {index} lies nowhere"))?;
        if chunk.archive_size.max(chunk.source_size) > LARGEST_CHUNK || chunk.source_size == 0 {
            return Err(format!("chunk {index} has an impossible size"));
        }
        if !(16..=64).contains(&chunk.checksum.len()) {
            return Err(format!("chunk {index} has a digest of {} bytes", chunk.checksum.len()));
        }
        let packed = zstd && chunk.archive_size != chunk.source_size;
        if !packed && chunk.archive_size != chunk.source_size {
            return Err(format!("chunk {index} has an impossible size"));
        }
        let (stored, size, hash) = (chunk.archive_size, chunk.source_size, chunk.checksum);
        chunks.push(Chunk { at, stored, size, hash, packed });
    }
    let mut source = 0u64;
    for &index in &dictionary.rebuild_order {
        let chunk = chunks.get(index as usize).ok_or_else(|| format!("it names chunk {index}, which it has not"))?;
        source = source.checked_add(u64::from(chunk.size)).ok_or("its source is too long")?;
    }
    if source != dictionary.source_total_size {
        return Err(format!("its chunks come to {source} bytes, it says {}", dictionary.source_total_size));
    }
    // The dictionary may list them in another order than the file has them.
    let mut places: Vec<u32> = (0..u32::try_from(chunks.len()).map_err(|_| "it has too many chunks")?).collect();
    places.sort_by_key(|index| chunks[*index as usize].at);
    let mut sorted = vec![0; places.len()];
    for (place, index) in (0u32..).zip(&places) {
        sorted[*index as usize] = place;
    }
    let order = dictionary.rebuild_order.iter().map(|index| sorted[*index as usize]).collect();
    chunks.sort_by_key(|chunk| chunk.at);
    let mut end = header;
    for chunk in &chunks {
        if chunk.at != end {
            return Err(format!("a chunk begins at byte {} instead of {end}", chunk.at));
        }
        end += u64::from(chunk.stored);
    }
    Ok(Dictionary { chunks, order, source })
}

/// A chunk's content against its digest. Never unpacks more than the declared size and one byte.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_chunk(chunk: &Chunk, stored: &[u8], buffer: &mut Vec<u8>) -> Result<(), String> {
    let content: &[u8] = if chunk.packed {
        buffer.clear();
        let decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(|error| error.to_string())?;
        let unpacked = decoder.take(u64::from(chunk.size) + 1).read_to_end(buffer);
        unpacked.map_err(|_| "cannot be unpacked".to_owned())?;
        buffer
    } else {
        stored
    };
    if content.len() != chunk.size as usize {
        return Err(format!("does not have the {} bytes that the dictionary says", chunk.size));
    }
    if !Blake2b512::digest(content).starts_with(&chunk.hash) {
        return Err("does not match its digest".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitar::chunk_dictionary::{ChunkCompression, ChunkDescriptor};
    use proptest::prelude::*;

    fn descriptor(content: &[u8], at: u64) -> ChunkDescriptor {
        let checksum = Blake2b512::digest(content)[..32].to_vec();
        let bytes = content.len() as u32;
        ChunkDescriptor { checksum, archive_size: bytes, archive_offset: at, source_size: bytes }
    }

    fn dictionary() -> ChunkDictionary {
        ChunkDictionary {
            rebuild_order: vec![0, 1, 0],
            source_total_size: 7,
            chunk_compression: Some(ChunkCompression {
                compression: CompressionType::None as i32,
                compression_level: 0,
            }),
            chunk_descriptors: vec![descriptor(b"abc", 0), descriptor(b"d", 3)],
            ..ChunkDictionary::default()
        }
    }

    fn header(dictionary: &ChunkDictionary) -> Vec<u8> {
        bitar::header::build(dictionary, None).unwrap()
    }

    #[test]
    fn a_true_header_is_read() {
        let header = header(&dictionary());
        let read = read_header(&header).unwrap();
        assert_eq!(header_length(header[..FIRST_BYTES].try_into().unwrap()), Some(header.len() as u64));
        assert_eq!((read.chunks.len(), read.source, read.order), (2, 7, vec![0, 1, 0]));
        // Listed the other way round.
        let mut turned = dictionary();
        turned.chunk_descriptors.swap(0, 1);
        turned.rebuild_order = vec![1, 0, 1];
        assert_eq!(read_header(&self::header(&turned)).unwrap().order, [0, 1, 0]);
        check_chunk(&read.chunks[0], b"abc", &mut Vec::new()).unwrap();
        assert!(check_chunk(&read.chunks[0], b"abd", &mut Vec::new()).unwrap_err().contains("digest"));
    }

    #[test]
    fn impossible_dictionaries_are_refused() {
        let refused = |change: fn(&mut ChunkDictionary), words: &str| {
            let mut dictionary = dictionary();
            change(&mut dictionary);
            let error = read_header(&header(&dictionary)).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        refused(|d| d.rebuild_order.push(2), "chunk 2, which it has not");
        refused(|d| d.source_total_size = 8, "come to 7 bytes, it says 8");
        refused(|d| d.chunk_descriptors[1].archive_offset = 2, "begins at byte");
        refused(|d| d.chunk_descriptors[1].archive_offset = u64::MAX, "lies nowhere");
        refused(|d| d.chunk_descriptors[0].source_size = u32::MAX, "impossible size");
        refused(|d| d.chunk_descriptors[0].checksum.clear(), "digest of 0 bytes");
        refused(|d| d.chunk_compression = None, "packed");
    }

    #[test]
    fn a_bomb_is_cut_off_at_its_declared_size() {
        let bomb = zstd::encode_all(std::io::repeat(0).take(1 << 28), 1).unwrap();
        let hash = Blake2b512::digest([0; 4096]).to_vec();
        let chunk = Chunk { at: 0, stored: bomb.len() as u32, size: 4096, hash, packed: true };
        let mut buffer = Vec::new();
        assert!(check_chunk(&chunk, &bomb, &mut buffer).unwrap_err().contains("4096 bytes"));
        assert!(buffer.capacity() < 1 << 20, "{}", buffer.capacity());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), whole in any::<bool>()) {
            if whole && bytes.len() > 14 {
                // Past magic, lengths and checksum, so that the dictionary itself is reached.
                let end = bytes.len() as u64;
                let body = bytes.split_off(14);
                bytes = [ARCHIVE_MAGIC.as_slice(), &(end - 14).to_le_bytes(), &body].concat();
                bytes.extend((end + 72).to_le_bytes());
                let sum = Blake2b512::digest(&bytes);
                bytes.extend(sum);
            }
            let _ = read_header(&bytes);
        }
    }
}
