//! Makes the disk that a power cut leaves: a sparse file that only moves forward, and changes that are taken back after a look.

use super::{
    cut::{self, Cut, Piece},
    log::{Kind, Log},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// Bytes that are copied at once.
const PART: u64 = 1 << 20;

/// The disk on its way through the log.
#[derive(Debug)]
pub struct Replay<'a> {
    log: &'a Log,
    data: File,
    disk: File,
    path: PathBuf,
    /// So many entries are on it.
    done: usize,
}

impl<'a> Replay<'a> {
    /// A disk as it was before the log began: blank.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn new(log: &'a Log, data: &Path, disk: &Path, bytes: u64) -> Result<Self> {
        let open = |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
        let data = open(data)?;
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(disk).context("making the disk")?;
        file.set_len(bytes).context("sizing the disk")?;
        Ok(Self { log, data, disk: file, path: disk.to_owned(), done: 0 })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the disk what it is after a cut for as long as `look` takes. Cuts have to come in the log's order.
    ///
    /// # Errors
    /// When a file fails, or `look` does.
    pub fn after<T>(&mut self, cut: Cut, look: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let durable = cut::durable(self.log, cut.at);
        ensure!(durable >= self.done, "the cuts are not in order");
        for entry in self.done..durable {
            self.put(&Piece { entry, part: 0..self.log.entries[entry].bytes })?;
        }
        self.done = durable;
        let pieces = cut::survivors(self.log, cut);
        let mut before = Vec::new();
        for piece in &pieces {
            let entry = &self.log.entries[piece.entry];
            let mut old = vec![0; usize::try_from(piece.part.end - piece.part.start)?];
            let at = entry.at + piece.part.start;
            self.disk.read_exact_at(&mut old, at).context("reading the disk")?;
            before.push((at, old));
            self.put(piece)?;
        }
        let looked = look(&self.path);
        for (at, old) in before.iter().rev() {
            self.disk.write_all_at(old, *at).context("taking a change back")?;
        }
        looked
    }

    fn put(&self, piece: &Piece) -> Result<()> {
        let entry = &self.log.entries[piece.entry];
        if entry.kind == Kind::Nothing {
            return Ok(());
        }
        let mut part = vec![0; usize::try_from(PART)?];
        let mut at = piece.part.start;
        while at < piece.part.end {
            let length = usize::try_from((piece.part.end - at).min(PART))?;
            // What was given up reads as zeros on the disks that say so, and nobody may count on anything else.
            if entry.kind == Kind::Write {
                self.data.read_exact_at(&mut part[..length], entry.data + at).context("reading the log's data")?;
            }
            self.disk.write_all_at(&part[..length], entry.at + at).context("writing the disk")?;
            at += length as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            cut::{Dice, Unflushed},
            log::{read_bytes, tests::write},
        },
        *,
    };

    #[test]
    fn the_disk_is_what_a_plain_model_says_and_looking_changes_nothing() {
        let mut dice = Dice::new(5);
        let contents: Vec<Vec<u8>> = (0..60u8).map(|n| vec![n + 1; 512 * (1 + dice.below(6) as usize)]).collect();
        let entries: Vec<(u64, u64, &[u8])> = contents
            .iter()
            .map(
                |content| {
                    if dice.below(5) == 0 { (1, 0, &content[..0]) } else { (0, dice.below(10) * 512, &content[..]) }
                },
            )
            .collect();
        let bytes = write(&entries);
        let log = read_bytes(&bytes).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (data, disk) = (folder.path().join("log"), folder.path().join("disk"));
        std::fs::write(&data, &bytes).unwrap();
        let mut replay = Replay::new(&log, &data, &disk, 16384).unwrap();
        for cut in cut::choose(&log, 80, 1) {
            let mut model = vec![0; 16384];
            let mut apply = |entry: usize, part: std::ops::Range<u64>| {
                let (_, at, content) = entries[entry];
                let (begin, end) = (part.start as usize, part.end as usize);
                model[at as usize + begin..at as usize + end].copy_from_slice(&content[begin..end]);
            };
            (0..cut::durable(&log, cut.at)).for_each(|entry| apply(entry, 0..entries[entry].2.len() as u64));
            cut::survivors(&log, cut).into_iter().for_each(|piece| apply(piece.entry, piece.part));
            let found = replay.after(cut, |path| Ok(std::fs::read(path)?)).unwrap();
            assert!(found == model, "{cut:?}");
            let none = Cut { unflushed: Unflushed::Lost, ..cut };
            let again = replay.after(none, |path| Ok(std::fs::read(path)?)).unwrap();
            assert!(cut.unflushed != Unflushed::Lost || again == found);
        }
    }
}
