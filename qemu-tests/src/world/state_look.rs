//! The state partition of a machine's disk, looked at from outside, as somebody does who has taken the disk out.

use super::root::Root;
use crate::process;
use anyhow::{Context as _, Result, ensure};
use nix::unistd::{Whence, lseek};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

/// LUKS2's header and keys, and what lies before the data.
const HEADER_BYTES: u64 = 16 << 20;
const PIECE: usize = 1 << 20;

/// A state partition.
#[derive(Debug)]
pub struct StateLook {
    image: PathBuf,
    start: u64,
    end: u64,
}

impl StateLook {
    /// Finds it on a raw image.
    ///
    /// # Errors
    /// When the image has no table with our partitions.
    pub fn at(root: &Root, image: &Path) -> Result<Self> {
        let table = process::output(root.command("sfdisk").arg("--json").arg(image)).context("reading the table")?;
        let table: Value = serde_json::from_str(&table).context("reading the table")?;
        let table = &table["partitiontable"];
        let sector = table["sectorsize"].as_u64().unwrap_or(512);
        let partitions = table["partitions"].as_array().context("the table has no partitions")?;
        let named = |p: &&Value| p["name"].as_str().is_some_and(|name| name.trim_end_matches('!') == "shelfboot-state");
        let state = partitions.iter().find(named).context("the table has no state partition")?;
        let number = |field: &str| state[field].as_u64().context("the table has a partition without a place");
        let start = number("start")? * sector;
        Ok(Self { image: image.to_owned(), start, end: start + number("size")? * sector })
    }

    /// True when it begins as LUKS2 does.
    ///
    /// # Errors
    /// When the image cannot be read.
    pub fn is_luks(&self) -> Result<bool> {
        let mut magic = [0; 8];
        File::open(&self.image)?.read_exact_at(&mut magic, self.start).context("reading the state partition")?;
        Ok(&magic == b"LUKS\xba\xbe\0\x02")
    }

    /// How often these bytes lie in it, each.
    ///
    /// # Errors
    /// When the image cannot be read.
    pub fn count(&self, markers: &[&[u8]]) -> Result<Vec<usize>> {
        let mut counts = vec![0; markers.len()];
        let longest = markers.iter().map(|marker| marker.len()).max().unwrap_or(1);
        let mut before = Vec::new();
        let mut next = self.start;
        self.each_piece(|at, piece| {
            // What lies over the border of two pieces counts, and nothing twice.
            let kept = if at == next { std::mem::take(&mut before) } else { Vec::new() };
            let whole = [&kept[..], piece].concat();
            for (count, marker) in counts.iter_mut().zip(markers) {
                let ends = |place: usize| place + marker.len() > kept.len();
                *count += whole.windows(marker.len()).enumerate().filter(|(p, w)| w == marker && ends(*p)).count();
            }
            before = whole[whole.len().saturating_sub(longest - 1)..].to_vec();
            next = at + piece.len() as u64;
        })?;
        Ok(counts)
    }

    /// A checksum over all of it.
    ///
    /// # Errors
    /// When the image cannot be read.
    pub fn checksum(&self) -> Result<[u8; 32]> {
        let mut digest = Sha256::new();
        self.each_piece(|at, piece| {
            // A hole and zeroes are the same.
            if piece.iter().any(|byte| *byte != 0) {
                digest.update(at.to_le_bytes());
                digest.update(piece);
            }
        })?;
        Ok(digest.finalize().into())
    }

    /// Every piece that is not a hole, at multiples of their length.
    fn each_piece(&self, mut each: impl FnMut(u64, &[u8])) -> Result<()> {
        let file = File::open(&self.image).with_context(|| format!("opening {}", self.image.display()))?;
        let (mut at, mut piece) = (self.start, vec![0; PIECE]);
        while at < self.end {
            let Ok(data) = lseek(&file, i64::try_from(at)?, Whence::SeekData) else { break };
            let data = u64::try_from(data)?;
            // To the border of the piece that the data lies in.
            at = self.start + data.saturating_sub(self.start) / PIECE as u64 * PIECE as u64;
            if at >= self.end {
                break;
            }
            let length = usize::try_from((self.end - at).min(PIECE as u64))?;
            file.read_exact_at(&mut piece[..length], at).context("reading the state partition")?;
            each(at, &piece[..length]);
            at += length as u64;
        }
        Ok(())
    }

    /// Whether cryptsetup takes this for a key of the volume. It looks at a copy of the header.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn opens_with(&self, root: &Root, key: &str) -> Result<bool> {
        let copy = self.image.with_extension("header");
        let mut bytes = vec![0; usize::try_from(HEADER_BYTES)? + PIECE];
        File::open(&self.image)?.read_exact_at(&mut bytes, self.start).context("reading the header")?;
        File::create(&copy).and_then(|mut file| file.write_all(&bytes)).context("copying the header")?;
        let mut command = root.command("cryptsetup");
        command.args(["open", "--test-passphrase", "--batch-mode", "--key-file=-"]).arg(&copy);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting cryptsetup")?;
        child.stdin.take().context("no pipe")?.write_all(key.as_bytes()).context("handing the key to cryptsetup")?;
        let mut words = String::new();
        let _ = child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut words));
        let status = child.wait().context("waiting for cryptsetup")?;
        std::fs::remove_file(&copy).context("removing the copy")?;
        // 2: no permission, bad passphrase (cryptsetup(8), "RETURN CODES").
        ensure!(matches!(status.code(), Some(0 | 2)), "cryptsetup ended with {status}: {}", words.trim());
        Ok(status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_counted_once_also_over_a_border() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk");
        let file = File::create(&image).unwrap();
        let (start, end) = (PIECE as u64, 9 * PIECE as u64);
        file.set_len(12 * PIECE as u64).unwrap();
        for at in [start - 3, start + 10, 2 * PIECE as u64 - 3, 6 * PIECE as u64, end - 2] {
            file.write_all_at(b"MARKER", at).unwrap();
        }
        let look = StateLook { image, start, end };
        assert_eq!(look.count(&[b"MARKER", b"NOTHING"]).unwrap(), [3, 0]);
        assert!(!look.is_luks().unwrap());
        let before = look.checksum().unwrap();
        file.write_all_at(b"\0", 5 * PIECE as u64).unwrap();
        assert_eq!(look.checksum().unwrap(), before);
        file.write_all_at(b"\x01", 5 * PIECE as u64).unwrap();
        assert_ne!(look.checksum().unwrap(), before);
    }
}
