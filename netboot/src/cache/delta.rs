//! Chunks that an older archive has already are not fetched again.

use contracts::archive::{self, Chunk, check_chunk};
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A request more costs about as much as this many bytes on a slow line: smaller gaps are fetched with what is around.
const GAP: u64 = 32 << 10;
/// One request asks for at most this much, so that a broken line loses little and other work comes in between.
const MOST: u64 = 64 << 20;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take this chunk from an older archive.
    Copy(usize),
    /// Fetch the chunks from here up to before this one.
    Fetch(usize),
}

/// What to do at chunk `from`, when `has` says which chunks are here already.
#[must_use]
pub fn next(chunks: &[Chunk], from: usize, has: impl Fn(&Chunk) -> bool) -> Step {
    let (mut until, mut gap, mut bytes) = (from, 0, 0);
    for (index, chunk) in chunks.iter().enumerate().skip(from) {
        let stored = u64::from(chunk.stored);
        if has(chunk) {
            if index == from && leading(&chunks[from..], &has) > GAP {
                return Step::Copy(from);
            }
            gap += stored;
            if gap > GAP {
                break;
            }
        } else {
            (until, gap) = (index + 1, 0);
        }
        bytes += stored;
        if bytes > MOST {
            break;
        }
    }
    if until > from { Step::Fetch(until) } else { Step::Copy(from) }
}

/// Bytes of known chunks in a row.
fn leading(chunks: &[Chunk], has: &impl Fn(&Chunk) -> bool) -> u64 {
    let mut sum = 0;
    for chunk in chunks.iter().take_while(|chunk| has(chunk)) {
        sum += u64::from(chunk.stored);
        if sum > GAP {
            break;
        }
    }
    sum
}

/// Chunks of older archives that a new one has too.
#[derive(Debug, Default)]
pub struct Known {
    files: Vec<File>,
    /// By digest and stored length: where it lies.
    chunks: HashMap<(Vec<u8>, u32), (usize, u64)>,
    buffer: Vec<u8>,
}

impl Known {
    /// Looks through the headers of older archives for the chunks that are wanted. One that cannot be read has none.
    #[must_use]
    pub fn read(archives: Vec<PathBuf>, wanted: &[Chunk]) -> Self {
        let mut known = Self::default();
        let wanted: HashSet<(&[u8], u32)> = wanted.iter().map(|chunk| (chunk.hash.as_slice(), chunk.stored)).collect();
        for path in archives {
            let Some((file, chunks)) = chunks_of(&path) else { continue };
            let index = known.files.len();
            known.files.push(file);
            for chunk in chunks {
                if wanted.contains(&(chunk.hash.as_slice(), chunk.stored)) {
                    known.chunks.entry((chunk.hash, chunk.stored)).or_insert((index, chunk.at));
                }
            }
        }
        known
    }

    /// True when a chunk is here.
    #[must_use]
    pub fn has(&self, chunk: &Chunk) -> bool {
        self.chunks.contains_key(&(chunk.hash.clone(), chunk.stored))
    }

    /// The bytes of a chunk, checked. `None` when they are damaged: the chunk is forgotten then.
    pub fn take(&mut self, chunk: &Chunk) -> Option<Vec<u8>> {
        let key = (chunk.hash.clone(), chunk.stored);
        let (file, at) = self.chunks.get(&key).copied()?;
        let mut stored = vec![0; chunk.stored as usize];
        let read = self.files.get(file)?.read_exact_at(&mut stored, at);
        if read.is_ok() && check_chunk(chunk, &stored, &mut self.buffer).is_ok() {
            return Some(stored);
        }
        self.chunks.remove(&key);
        None
    }
}

fn chunks_of(path: &Path) -> Option<(File, Vec<Chunk>)> {
    let mut file = File::open(path).ok()?;
    let mut first = [0; archive::FIRST_BYTES];
    file.read_exact(&mut first).ok()?;
    let mut header = vec![0; usize::try_from(archive::header_length(&first)?).ok()?];
    file.read_exact_at(&mut header, 0).ok()?;
    let chunks = archive::read_header(&header).ok()?.chunks;
    Some((file, chunks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunks(sizes: &[u32]) -> Vec<Chunk> {
        let mut at = 100;
        let one = |(index, stored): (usize, &u32)| {
            let chunk = Chunk { at, stored: *stored, size: *stored, hash: vec![index as u8; 32], packed: false };
            at += u64::from(*stored);
            chunk
        };
        sizes.iter().enumerate().map(one).collect()
    }

    #[test]
    fn large_known_parts_are_copied_and_small_ones_fetched_along() {
        let all = chunks(&[10_000, 20_000, 90_000, 10_000, 10_000]);
        let known = |list: &'static [u8]| move |chunk: &Chunk| list.contains(&chunk.hash[0]);
        assert_eq!(next(&all, 0, known(&[])), Step::Fetch(5));
        assert_eq!(next(&all, 0, known(&[2])), Step::Fetch(2));
        assert_eq!(next(&all, 2, known(&[2])), Step::Copy(2));
        assert_eq!(next(&all, 3, known(&[3])), Step::Fetch(5), "a small gap");
        assert_eq!(next(&all, 3, known(&[3, 4])), Step::Copy(3), "nothing behind it that is missing");
    }

    proptest! {
        /// Whatever is known: every chunk is copied or fetched once, in order, and what is unknown is never copied.
        #[test]
        fn every_chunk_has_its_turn(sizes in proptest::collection::vec((1u32..200_000, any::<bool>()), 1..60)) {
            let all = chunks(&sizes.iter().map(|(size, _)| *size).collect::<Vec<_>>());
            let known = |chunk: &Chunk| sizes[chunk.hash[0] as usize].1;
            let (mut at, mut fetched) = (0, 0);
            while at < all.len() {
                match next(&all, at, known) {
                    Step::Copy(index) => {
                        prop_assert!(index == at && known(&all[index]));
                        at += 1;
                    }
                    Step::Fetch(until) => {
                        prop_assert!(until > at);
                        prop_assert!(!known(&all[until - 1]), "no request ends with what is known");
                        fetched += all[at..until].iter().filter(|chunk| known(chunk)).map(|c| u64::from(c.stored)).sum::<u64>();
                        at = until;
                    }
                }
            }
            let unknown = sizes.iter().filter(|(_, known)| !known).count() as u64;
            prop_assert!(fetched <= unknown * GAP);
        }
    }
}
