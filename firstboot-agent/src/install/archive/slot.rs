//! The two partitions of a slot as one stretch of bytes: root data first, then the hash tree. Reading and writing go past
//! the page cache where the disk allows it: what is written is written once and read back from the disk.

use super::{
    BLOCK,
    journal::{AREA, RECORD},
    shared::SharedBlocks,
};
use crate::verity::Blocks;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{FallocateFlags, fallocate};
use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, SeekFrom},
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt as _},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// Zeros shorter than this are written like anything else.
const LEAST_ZEROS: usize = 128 << 10;

/// Memory that begins at a multiple of [`BLOCK`], as direct I/O wants it (open(2), "`O_DIRECT`").
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// So many bytes, with whatever was in them before.
    pub fn take(&mut self, bytes: usize) -> &mut [u8] {
        let block = BLOCK as usize;
        if self.0.len() < bytes + block {
            self.0 = vec![0; bytes + block];
        }
        let begin = self.0.as_ptr().align_offset(block).min(block);
        &mut self.0[begin..begin + bytes]
    }
}

/// A partition, by itself or inside its disk.
#[derive(Debug)]
pub struct Part {
    file: File,
    begin: u64,
}

impl Part {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, self.begin + at)
    }
}

impl Blocks for Part {
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, bytes, self.begin + at)
    }
}

/// Root and verity partition.
#[derive(Debug)]
pub struct Slot {
    data: Part,
    tree: Part,
    data_bytes: u64,
    tree_bytes: u64,
    /// Bytes that the second partition has.
    tree_room: u64,
    cannot_zero: AtomicBool,
    shared: SharedBlocks,
}

impl Slot {
    /// Opens both for an image of this size.
    ///
    /// # Errors
    /// When the sizes are not of whole blocks, or a partition cannot be opened.
    pub fn open(data: &Path, tree: &Path, data_bytes: u64, tree_bytes: u64) -> Result<Self> {
        ensure!(
            data_bytes.is_multiple_of(BLOCK) && tree_bytes.is_multiple_of(BLOCK),
            "root ({data_bytes} bytes) and hash tree ({tree_bytes} bytes) are not of whole blocks"
        );
        let (data, mut tree) = (open(data)?, open(tree)?);
        let tree_room = tree.seek(SeekFrom::End(0)).context("measuring the verity partition")?;
        let (data, tree) = (Part { file: data, begin: 0 }, Part { file: tree, begin: 0 });
        let (cannot_zero, shared) = (AtomicBool::new(false), SharedBlocks::default());
        Ok(Self { data, tree, data_bytes, tree_bytes, tree_room, cannot_zero, shared })
    }

    /// The slot inside a whole disk, or the image of one, only to look at: byte ranges of its two partitions.
    ///
    /// # Errors
    /// When it cannot be opened, or the partitions are too small.
    pub fn inside(disk: &Path, parts: [Range<u64>; 2], data_bytes: u64, tree_bytes: u64) -> Result<Self> {
        let open = || File::open(disk).with_context(|| format!("opening {}", disk.display()));
        let [data, tree] = parts;
        let tree_room = tree.end.saturating_sub(tree.start);
        ensure!(data.end.saturating_sub(data.start) >= data_bytes && tree_room >= tree_bytes, "the image does not fit");
        let (data, tree) = (Part { file: open()?, begin: data.start }, Part { file: open()?, begin: tree.start });
        let (cannot_zero, shared) = (AtomicBool::new(true), SharedBlocks::default());
        Ok(Self { data, tree, data_bytes, tree_bytes, tree_room, cannot_zero, shared })
    }

    /// Root and verity partition, to be read.
    #[must_use]
    pub const fn parts(&self) -> (&Part, &Part) {
        (&self.data, &self.tree)
    }

    /// Writes one run. `bytes` are its content, and lie in memory as they lie in their first block.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_run(&self, run: &super::plan::Run, bytes: &[u8]) -> Result<()> {
        let (whole, begin) = (run.whole_blocks(), run.bytes.start);
        if !whole.is_empty() {
            let inside = &bytes[usize::try_from(whole.start - begin)?..usize::try_from(whole.end - begin)?];
            for (range, zeros) in extents(inside) {
                let at = whole.start + range.start as u64;
                if !(zeros && self.zero(at, range.len() as u64)?) {
                    self.write(at, &inside[range])?;
                }
            }
        }
        self.share(run, bytes, true)
    }

    /// A run that is on the disk already: its part of the blocks at its ends, for neighbours that are not.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn has_run(&self, run: &super::plan::Run, bytes: &[u8]) -> Result<()> {
        self.share(run, bytes, false)
    }

    /// Whether everything of a run is written, the blocks at its ends too.
    #[must_use]
    pub fn is_whole(&self, run: &super::plan::Run) -> bool {
        let blocks = [run.bytes.start / BLOCK, run.bytes.end.saturating_sub(1) / BLOCK];
        !blocks.iter().any(|block| self.shared.waits(*block))
    }

    fn share(&self, run: &super::plan::Run, bytes: &[u8], changed: bool) -> Result<()> {
        let (whole, begin, end) = (run.whole_blocks(), run.bytes.start, run.bytes.end);
        let parts: &[Range<u64>] = if whole.is_empty() {
            // Shorter than two blocks, and no block of its own.
            let middle = begin.next_multiple_of(BLOCK).min(end);
            &[begin..middle, middle..end]
        } else {
            &[begin..whole.start, whole.end..end]
        };
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let content = &bytes[usize::try_from(part.start - begin)?..usize::try_from(part.end - begin)?];
            let block = part.start / BLOCK;
            let offset = usize::try_from(part.start % BLOCK)?;
            if let Some(mut full) = self.shared.fill(block, offset, content, changed) {
                if full.changed {
                    self.write(block * BLOCK, full.bytes())?;
                }
                // Only now is it on the disk.
                self.shared.settled(block);
            }
        }
        Ok(())
    }

    /// Writes whole blocks.
    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let (to_data, to_tree) = bytes.split_at(self.in_data(at, bytes.len())?);
        if !to_data.is_empty() {
            self.data.write_all_at(to_data, at).context("writing the root")?;
        }
        if !to_tree.is_empty() {
            let at = (at + to_data.len() as u64) - self.data_bytes;
            self.tree.write_all_at(to_tree, at).context("writing the hash tree")?;
        }
        Ok(())
    }

    /// Reads a run as it lies on the disk. What comes back begins at its first byte.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn read_run<'a>(&self, run: &super::plan::Run, buffer: &'a mut Buffer) -> Result<&'a mut [u8]> {
        let begin = run.bytes.start / BLOCK * BLOCK;
        let end = run.bytes.end.next_multiple_of(BLOCK);
        let bytes = buffer.take(usize::try_from(end - begin)?);
        let split = self.in_data(begin, bytes.len())?;
        let (data, tree) = bytes.split_at_mut(split);
        if !data.is_empty() {
            self.data.read_exact_at(data, begin).context("reading the root back")?;
        }
        if !tree.is_empty() {
            let at = begin + split as u64 - self.data_bytes;
            self.tree.read_exact_at(tree, at).context("reading the hash tree back")?;
        }
        let from = usize::try_from(run.bytes.start - begin)?;
        let length = usize::try_from(run.bytes.end - run.bytes.start)?;
        Ok(&mut bytes[from..from + length])
    }

    /// How many of these bytes lie in the root's partition.
    fn in_data(&self, at: u64, length: usize) -> Result<usize> {
        let end = at + length as u64;
        ensure!(end <= self.data_bytes + self.tree_bytes, "byte {end} lies behind the end of the image");
        Ok(usize::try_from(self.data_bytes.clamp(at, end) - at)?)
    }

    /// Has the disk make zeros, which a disk that knows how does without taking a place for them. False when it does not.
    fn zero(&self, at: u64, length: u64) -> Result<bool> {
        if self.cannot_zero.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let in_data = self.in_data(at, usize::try_from(length)?)? as u64;
        let in_tree = (at + in_data).saturating_sub(self.data_bytes);
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let one = |part: &Part, at: u64, length: u64| {
            let (file, at) = (&part.file, part.begin + at);
            length == 0
                || (fallocate(file, flags, at.cast_signed(), length.cast_signed()).is_ok()
                    && reaches(file, at + length))
        };
        let done = one(&self.data, at, in_data) && one(&self.tree, in_tree, length - in_data);
        self.cannot_zero.fetch_or(!done, Ordering::Relaxed);
        Ok(done)
    }

    /// Flushes the disk: what was written before is on it for good.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn flush(&self) -> Result<()> {
        self.data.file.sync_data().context("flushing the root")?;
        self.tree.file.sync_data().context("flushing the hash tree")
    }

    /// Where the journal begins in the second partition; `None` when there is no room for one.
    #[must_use]
    pub fn journal_at(&self) -> Option<u64> {
        let at = (self.tree_room / BLOCK * BLOCK).checked_sub(AREA)?;
        (at >= self.tree_bytes).then_some(at)
    }

    /// The journal's first bytes.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn read_journal(&self, length: u64) -> Result<Vec<u8>> {
        let at = self.journal_at().context("there is no room for a journal")?;
        let mut buffer = Buffer::default();
        let bytes = buffer.take(usize::try_from(length)?);
        self.tree.read_exact_at(bytes, at).context("reading the install journal")?;
        Ok(bytes.to_vec())
    }

    /// Writes one record, and flushes.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_journal(&self, offset: u64, record: &[u8; RECORD]) -> Result<()> {
        let at = self.journal_at().context("there is no room for a journal")?;
        let mut buffer = Buffer::default();
        let bytes = buffer.take(RECORD);
        bytes.copy_from_slice(record);
        self.tree.write_all_at(bytes, at + offset).context("writing the install journal")?;
        self.tree.file.sync_data().context("flushing the install journal")
    }
}

/// A hole behind the end of a file makes it no longer; a disk has no such end.
fn reaches(mut file: &File, end: u64) -> bool {
    file.seek(SeekFrom::End(0)).is_ok_and(|length| length >= end)
}

fn open(path: &Path) -> Result<File> {
    let open = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    // Some file systems, tmpfs among them, know no direct I/O.
    open(nix::libc::O_DIRECT | nix::libc::O_CLOEXEC)
        .or_else(|_| open(nix::libc::O_CLOEXEC))
        .with_context(|| format!("opening {} for writing", path.display()))
}

/// Stretches of whole blocks that are zeros or not, in order.
fn extents(bytes: &[u8]) -> Vec<(Range<usize>, bool)> {
    let mut found: Vec<(Range<usize>, bool)> = Vec::new();
    for (index, block) in bytes.chunks(BLOCK as usize).enumerate() {
        let zeros = block.iter().all(|byte| *byte == 0);
        let at = index * BLOCK as usize;
        match found.last_mut() {
            Some((range, kind)) if *kind == zeros => range.end = at + block.len(),
            _ => found.push((at..at + block.len(), zeros)),
        }
    }
    // Short stretches of zeros cost more as requests of their own than as bytes.
    let mut joined: Vec<(Range<usize>, bool)> = Vec::new();
    for (range, zeros) in found {
        let zeros = zeros && range.len() >= LEAST_ZEROS;
        match joined.last_mut() {
            Some((before, false)) if !zeros => before.end = range.end,
            _ => joined.push((range, zeros)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::{super::plan::Run, *};
    use proptest::prelude::*;

    fn slot(folder: &Path, data_bytes: u64, tree_bytes: u64, room: u64) -> Slot {
        let (data, tree) = (folder.join("data"), folder.join("tree"));
        for (path, length) in [(&data, data_bytes), (&tree, room)] {
            let file = File::create(path).unwrap();
            file.set_len(length).unwrap();
            // A used disk.
            file.write_all_at(&vec![0xee; usize::try_from(length).unwrap()], 0).unwrap();
        }
        Slot::open(&data, &tree, data_bytes, tree_bytes).unwrap()
    }

    fn run(bytes: Range<u64>) -> Run {
        Run { bytes, pieces: 0..0 }
    }

    /// As a worker has it: in memory as it lies in its first block.
    fn aligned<'a>(buffer: &'a mut Buffer, begin: u64, content: &[u8]) -> &'a [u8] {
        let offset = (begin % BLOCK) as usize;
        let all = buffer.take(offset + content.len());
        all[offset..].copy_from_slice(content);
        &all[offset..]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn runs_in_any_order_make_the_source(
            cuts in proptest::collection::btree_set(1u64..1_200_000, 0..30), seed in any::<u64>(), already in any::<u64>()
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (data_bytes, tree_bytes) = (300 * BLOCK - 36 * BLOCK, 36 * BLOCK);
            let source: Vec<u8> = (0..(data_bytes + tree_bytes) / BLOCK)
                .flat_map(|block| vec![if (60..140).contains(&block) { 0 } else { (block % 250) as u8 + 1 }; BLOCK as usize])
                .collect();
            let slot = slot(folder.path(), data_bytes, tree_bytes, tree_bytes);
            let mut ends: Vec<u64> = cuts.into_iter().filter(|cut| *cut < source.len() as u64).collect();
            ends.push(source.len() as u64);
            let mut runs: Vec<Run> = ends.iter().scan(0, |begin, end| Some(run(std::mem::replace(begin, *end)..*end))).collect();
            let mut state = seed | 1;
            runs.sort_by_cached_key(|_| { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state >> 33 });
            let mut buffer = Buffer::default();
            let of = |run: &Run| &source[run.bytes.start as usize..run.bytes.end as usize];
            for (index, run) in runs.iter().enumerate() {
                if already >> (index % 64) & 1 == 1 {
                    // It is on the disk, as an install before left it.
                    let (data, tree) = (folder.path().join("data"), folder.path().join("tree"));
                    for (path, from, to) in [(data, 0, data_bytes), (tree, data_bytes, data_bytes + tree_bytes)] {
                        let (begin, end) = (run.bytes.start.clamp(from, to), run.bytes.end.clamp(from, to));
                        let file = File::options().write(true).open(path).unwrap();
                        file.write_all_at(&source[begin as usize..end as usize], begin - from).unwrap();
                        file.sync_all().unwrap();
                    }
                }
            }
            for (index, run) in runs.iter().enumerate() {
                if already >> (index % 64) & 1 == 1 {
                    let found = slot.read_run(run, &mut buffer).unwrap();
                    prop_assert!(found == of(run));
                    slot.has_run(run, of(run)).unwrap();
                } else {
                    slot.write_run(run, aligned(&mut buffer, run.bytes.start, of(run))).unwrap();
                }
            }
            prop_assert!(runs.iter().all(|run| slot.is_whole(run)));
            slot.flush().unwrap();
            let data = std::fs::read(folder.path().join("data")).unwrap();
            let tree = std::fs::read(folder.path().join("tree")).unwrap();
            prop_assert!([data, tree].concat() == source);
        }
    }

    #[test]
    fn a_run_is_whole_when_its_neighbour_has_come() {
        let folder = tempfile::tempdir().unwrap();
        let slot = slot(folder.path(), 4 * BLOCK, BLOCK, BLOCK);
        let (first, second) = (run(0..6000), run(6000..5 * BLOCK));
        let mut buffer = Buffer::default();
        slot.write_run(&first, aligned(&mut buffer, 0, &[1; 6000])).unwrap();
        assert!(!slot.is_whole(&first));
        slot.write_run(&second, aligned(&mut buffer, 6000, &vec![2; 5 * BLOCK as usize - 6000])).unwrap();
        assert!(slot.is_whole(&first) && slot.is_whole(&second));
        assert!(slot.shared.is_empty());
    }

    #[test]
    fn the_journal_lies_behind_the_tree_or_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(slot(folder.path(), BLOCK, BLOCK, BLOCK + AREA - 1).journal_at(), None);
        let slot = slot(folder.path(), BLOCK, BLOCK, BLOCK + AREA);
        assert_eq!(slot.journal_at(), Some(BLOCK));
        slot.write_journal(4096, &[9; RECORD]).unwrap();
        assert_eq!(slot.read_journal(8192).unwrap()[4096..], [9; RECORD]);
        assert!(Slot::open(&folder.path().join("data"), &folder.path().join("tree"), 100, 4096).is_err());
    }

    #[test]
    fn long_zeros_are_told_from_short_ones() {
        let block = BLOCK as usize;
        let mut bytes = vec![1; 100 * block];
        bytes[block..2 * block].fill(0);
        bytes[10 * block..50 * block].fill(0);
        assert_eq!(
            extents(&bytes),
            [(0..10 * block, false), (10 * block..50 * block, true), (50 * block..100 * block, false)]
        );
    }
}
