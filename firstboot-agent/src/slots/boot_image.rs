//! A new boot image, most of which is on the disk already: kernel and initrd seldom change, and only the root hash and the signature
//! always do. Nothing says what the new one's parts are, so samples of it are compared with what is here, and what lies
//! between equal samples is taken from here. The digest of the whole, which is signed, decides in the end; when it does not
//! match, everything is fetched.

use super::fetch::fetch;
use crate::install::source::Source;
use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use contracts::uki;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Headers and small sections lie here.
const HEAD: u64 = 64 << 10;
/// Every so many bytes a sample is taken,
const STEP: u64 = 512 << 10;
/// of this size.
const SAMPLE: u64 = 2 << 10;
/// No boot image is larger: firmware could not load it.
const MOST: u64 = 512 << 20;

/// The large parts of a boot image.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// The kernel.
    pub linux: Vec<u8>,
    /// The initrd.
    pub initrd: Vec<u8>,
}

/// What a file is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its path in the repository.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Vec<u8>,
}

/// Fetches it. Returns its bytes, and how many of them came from the store.
///
/// # Errors
/// When it cannot be fetched, or is not what it should be.
pub async fn fetch_boot_image(source: &Source, wanted: &Wanted, here: &Parts) -> Result<(Vec<u8>, u64)> {
    ensure!((1..=MOST).contains(&wanted.bytes), "a boot image of {} bytes", wanted.bytes);
    let (patched, fetched) = patch(source, wanted, here).await?;
    if Sha256::digest(&patched)[..] == wanted.sha256 {
        return Ok((patched, fetched));
    }
    drop(patched);
    let whole = fetch(source, &wanted.path, 0, wanted.bytes).await.context("fetching the boot image")?;
    ensure!(Sha256::digest(&whole)[..] == wanted.sha256, "the boot image is not the one that was signed");
    Ok((whole.to_vec(), fetched + wanted.bytes))
}

async fn patch(source: &Source, wanted: &Wanted, here: &Parts) -> Result<(Vec<u8>, u64)> {
    let head = fetch(source, &wanted.path, 0, HEAD.min(wanted.bytes)).await.context("fetching the boot image")?;
    let mut fetched = head.len() as u64;
    let mut image = vec![0; usize::try_from(wanted.bytes)?];
    image[..head.len()].copy_from_slice(&head);
    let after_head = head.len() as u64..wanted.bytes;
    let mut missing = without(&[after_head], &(0..0));
    for (name, local) in [(".linux", &here.linux), (".initrd", &here.initrd)] {
        let Ok(place) = uki::place(&head, wanted.bytes, name) else { continue };
        let pieces = pieces(&place, local.len() as u64);
        let mut same = Vec::with_capacity(pieces.len() + 1);
        // The end of one piece is the beginning of the next, so each sample counts for two; the last one is before the end.
        for at in pieces.iter().map(|piece| piece.start).chain(pieces.last().map(|last| last.end - SAMPLE)) {
            let sample = fetch(source, &wanted.path, at, at + SAMPLE).await.context("fetching samples")?;
            fetched += SAMPLE;
            same.push(sample[..] == local[range(&(at - place.start..at - place.start + SAMPLE))]);
        }
        for (piece, _) in pieces.iter().zip(same.windows(2)).filter(|(_, same)| same[0] && same[1]) {
            let from = piece.start - place.start..piece.end - place.start;
            image[range(piece)].copy_from_slice(&local[range(&from)]);
            missing = without(&missing, piece);
        }
    }
    for range in missing {
        let bytes: BytesMut =
            fetch(source, &wanted.path, range.start, range.end).await.context("fetching the boot image")?;
        fetched += bytes.len() as u64;
        image[self::range(&range)].copy_from_slice(&bytes);
    }
    Ok((image, fetched))
}

/// The pieces of a section that are compared: as far as both are there. Each is longer than two samples.
fn pieces(section: &Range<u64>, local: u64) -> Vec<Range<u64>> {
    let end = section.start + (section.end - section.start).min(local);
    let mut pieces = Vec::new();
    let mut at = section.start;
    while at < end {
        let rest = end - at;
        let piece = if rest < STEP + 2 * SAMPLE { rest } else { STEP };
        if piece > 2 * SAMPLE {
            pieces.push(at..at + piece);
        }
        at += piece;
    }
    pieces
}

/// What is left of ranges without a part of them: at most one range more.
fn without(ranges: &[Range<u64>], part: &Range<u64>) -> Vec<Range<u64>> {
    let cut = |range: &Range<u64>| {
        let (start, end) = (part.start.clamp(range.start, range.end), part.end.clamp(range.start, range.end));
        [range.start..start, end..range.end]
    };
    ranges.iter().flat_map(cut).filter(|range| !range.is_empty()).collect()
}

fn range(range: &Range<u64>) -> Range<usize> {
    // Within a file that is in memory.
    range.start as usize..range.end as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(command_line: &str, linux: &[u8], initrd: &[u8]) -> Vec<u8> {
        let contents: [(&str, &[u8]); 3] =
            [(".cmdline", command_line.as_bytes()), (".linux", linux), (".initrd", initrd)];
        let mut file = vec![0; 0x40];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x40;
        file.extend(b"PE\0\0\0\0\x03\0");
        file.resize(0x40 + 24, 0);
        let mut at = 0x400_u32;
        for (name, content) in contents {
            let mut entry = [0_u8; 40];
            entry[..name.len()].copy_from_slice(name.as_bytes());
            let raw = (content.len() as u32).next_multiple_of(0x200);
            entry[8..12].copy_from_slice(&(content.len() as u32).to_le_bytes());
            entry[16..20].copy_from_slice(&raw.to_le_bytes());
            entry[20..24].copy_from_slice(&at.to_le_bytes());
            file.extend(entry);
            at += raw;
        }
        file.resize(0x400, 0);
        for (_, content) in contents {
            file.extend(content);
            file.resize(file.len().next_multiple_of(0x200), 0);
        }
        file.extend(b"signature");
        file
    }

    fn bytes(length: usize, step: u8) -> Vec<u8> {
        (0..length).map(|n| (n as u64).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ step).collect()
    }

    async fn fetched(old: Parts, new: &[u8]) -> (Vec<u8>, u64) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("uki"), new).unwrap();
        let wanted = Wanted { path: "uki".into(), bytes: new.len() as u64, sha256: Sha256::digest(new).to_vec() };
        fetch_boot_image(&Source::Folder(folder.path().to_owned()), &wanted, &old).await.unwrap()
    }

    #[test]
    fn many_parts_taken_out_leave_few_ranges() {
        let parts = (0..2000).map(|n| n * 10..n * 10 + 10 - (n % 100 == 0) as u64);
        let left = parts.fold(std::iter::once(0..20_000).collect::<Vec<_>>(), |left, part| without(&left, &part));
        assert_eq!(left.len(), 20);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_did_not_change_is_not_fetched() {
        let (linux, initrd) = (bytes(5 << 20, 1), bytes(9 << 20, 2));
        let mut changed = initrd.clone();
        changed.splice((8 << 20).., bytes(700 << 10, 3));
        let new = image("roothash=ab quiet more", &linux, &changed);
        let (got, moved) = fetched(Parts { linux: linux.clone(), initrd: initrd.clone() }, &new).await;
        assert!(got == new);
        assert!(moved < 2 << 20, "{moved}");
        // Nothing here: everything is fetched, once.
        let (got, moved) = fetched(Parts::default(), &new).await;
        assert!(got == new && moved == new.len() as u64);
        // A change between the samples: the digest tells, and everything is fetched.
        let mut sly = linux.clone();
        sly[(1 << 20) + 100_000] ^= 1;
        let (got, moved) = fetched(Parts { linux: sly, initrd }, &new).await;
        assert!(got == new && moved > new.len() as u64);
    }

    proptest! {
        #[test]
        fn pieces_lie_within_both(start in 0u64..9999, length in 0u64..(4 << 20), local in 0u64..(4 << 20)) {
            let section = start..start + length;
            let mut at = start;
            for piece in pieces(&section, local) {
                prop_assert!(piece.start == at && piece.end - piece.start > 2 * SAMPLE);
                at = piece.end;
            }
            prop_assert!(at <= start + length.min(local));
        }

        #[test]
        fn a_part_taken_out_leaves_the_rest(a in 0u64..50, b in 0u64..50, c in 0u64..50, d in 0u64..50) {
            let (range, part) = (a.min(b)..a.max(b), c.min(d)..c.max(d));
            let left = without(std::slice::from_ref(&range), &part);
            prop_assert!(left.len() <= 2 && left.iter().all(|range| !range.is_empty()));
            for at in 0..50 {
                let is_left = left.iter().any(|range| range.contains(&at));
                prop_assert_eq!(is_left, range.contains(&at) && !part.contains(&at));
            }
        }
    }
}
