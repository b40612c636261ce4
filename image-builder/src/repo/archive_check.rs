//! Every byte of a chunked archive, held against the manifest that names it.
//!
//! The format and its bounds are in [`contracts::archive`], which netboot reads archives with too.

use super::Problem;
pub use contracts::archive::{Chunk, Dictionary, LARGEST_CHUNK, LARGEST_HEADER, check_chunk, read_header};
use contracts::manifest::{Archive, ImageManifest};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Problems of one archive that are named one by one.
const NAMED: usize = 5;

/// What a checked archive holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Chunks.
    pub chunks: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Checks a whole archive on the disk, on all processors, one chunk each in memory. `file` is how it is called in the problems.
#[must_use]
pub fn check(path: &Path, file: &str, manifest: &ImageManifest) -> (Checked, Vec<Problem>) {
    let problem = |code, message: String| (Checked::default(), vec![Problem::new(file, code, message)]);
    let archive = match File::open(path) {
        Ok(archive) => archive,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (template, version) = (&manifest.template, &manifest.image_version);
            return problem("missing", format!("the archive of {template} {version} is not there"));
        }
        Err(error) => return problem("unreadable", error.to_string()),
    };
    let dictionary = match header_of(&archive, &manifest.archive) {
        Ok(dictionary) => dictionary,
        Err((code, message)) => return problem(code, message),
    };
    let source = manifest.root.data_bytes.saturating_add(manifest.root.hash_bytes);
    if dictionary.source != source {
        let message = format!("it is of {} bytes, root and hash tree have {source}", dictionary.source);
        return problem("archive-source", message);
    }
    let problems = check_chunks(&archive, file, &dictionary.chunks);
    let checked = Checked { chunks: dictionary.chunks.len() as u64, bytes: manifest.archive.bytes };
    (checked, problems)
}

/// Length and header of an archive, as the manifest names them.
fn header_of(file: &File, expected: &Archive) -> Result<Dictionary, (&'static str, String)> {
    let unreadable = |error: std::io::Error| ("unreadable", error.to_string());
    let found = file.metadata().map_err(unreadable)?.len();
    if found != expected.bytes {
        return Err(("length", format!("it has {found} bytes, its manifest says {}", expected.bytes)));
    }
    if expected.header_bytes > LARGEST_HEADER.min(found) {
        return Err(("archive-header", format!("its manifest names a header of {} bytes", expected.header_bytes)));
    }
    let mut header = vec![0; usize::try_from(expected.header_bytes).unwrap_or_default()];
    file.read_exact_at(&mut header, 0).map_err(unreadable)?;
    if hex::encode(Sha256::digest(&header)) != expected.header_sha256 {
        return Err(("hash", "its header is not the one that its manifest names".into()));
    }
    let dictionary = read_header(&header).map_err(|message| ("archive-header", format!("its header: {message}")))?;
    let end = dictionary.chunks.last().map_or(expected.header_bytes, |last| last.at + u64::from(last.stored));
    if end != found {
        return Err(("length", format!("its chunks end at byte {end}, the file at {found}")));
    }
    Ok(dictionary)
}

fn check_chunks(archive: &File, file: &str, chunks: &[Chunk]) -> Vec<Problem> {
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        let (mut stored, mut buffer) = (Vec::new(), Vec::new());
        while let Some((index, chunk)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            chunks.get(index).map(|chunk| (index, chunk))
        } {
            stored.resize(chunk.stored as usize, 0);
            let read = archive.read_exact_at(&mut stored, chunk.at).map_err(|error| error.to_string());
            if let Err(message) = read.and_then(|()| check_chunk(chunk, &stored, &mut buffer)) {
                problems.lock().unwrap_or_else(PoisonError::into_inner).push((index, chunk.at, message));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
    let mut problems = problems.into_inner().unwrap_or_else(PoisonError::into_inner);
    problems.sort();
    let more = problems.len().saturating_sub(NAMED);
    let named = problems.into_iter().take(NAMED);
    let mut named: Vec<Problem> = named
        .map(|(index, at, message)| Problem::new(file, "chunk", format!("chunk {index} at byte {at} {message}")))
        .collect();
    if more > 0 {
        named.push(Problem::new(file, "chunk", format!("{more} more chunks are damaged")));
    }
    named
}
