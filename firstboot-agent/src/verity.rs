//! dm-verity: the check of what is on the disk against its root hash, in user space, and opening it.
//! Format: kernel documentation `admin-guide/device-mapper/verity.rst`; superblock: cryptsetup's
//! `docs/on-disk-format-verity` (version 1).

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

const BLOCK: usize = 4096;
const HASH: usize = 32;
const PER_BLOCK: u64 = (BLOCK / HASH) as u64;
/// Data blocks per read: 2 MiB, the data under 16 leaf blocks of the tree.
const BATCH: u64 = 16 * PER_BLOCK;

/// Something that can be read at any place.
pub trait Blocks: Sync {
    /// Fills `bytes` from the byte `at` on.
    ///
    /// # Errors
    /// When it cannot be read, or ends too early.
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> std::io::Result<()>;
}

impl Blocks for File {
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
        FileExt::read_exact_at(self, bytes, at)
    }
}

/// What the superblock says, as far as it may vary.
#[derive(Debug, PartialEq, Eq)]
struct Superblock {
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    fn parse(bytes: &[u8; BLOCK]) -> Result<Self> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        ensure!(&bytes[..8] == b"verity\0\0", "the verity partition has no superblock");
        ensure!(u32_at(8) == 1 && u32_at(12) == 1, "the verity superblock has an unknown version");
        ensure!(bytes[32..64].starts_with(b"sha256\0"), "the verity superblock names another hash than sha256");
        ensure!(u32_at(64) == 4096 && u32_at(68) == 4096, "the verity superblock names other block sizes than 4096");
        let mut data_blocks = [0; 8];
        data_blocks.copy_from_slice(&bytes[72..80]);
        let salt_size = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        ensure!(salt_size <= 256, "the verity superblock has a salt of {salt_size} bytes");
        Ok(Self { data_blocks: u64::from_le_bytes(data_blocks), salt: bytes[88..88 + salt_size].to_vec() })
    }

    fn hash(&self, block: &[u8]) -> [u8; HASH] {
        let mut hasher = Sha256::new();
        hasher.update(&self.salt);
        hasher.update(block);
        hasher.finalize().into()
    }
}

/// The first block of each level of the tree and how many blocks it has, from the leaves (over data) upwards.
/// On disk the levels lie the other way round: the top one first, right after the superblock.
fn levels(data_blocks: u64) -> Vec<(u64, u64)> {
    let mut sizes = Vec::new();
    let mut blocks = data_blocks;
    loop {
        blocks = blocks.div_ceil(PER_BLOCK);
        sizes.push(blocks);
        if blocks <= 1 {
            break;
        }
    }
    let mut at = 1;
    let mut placed: Vec<(u64, u64)> = sizes
        .iter()
        .rev()
        .map(|size| {
            let level = (at, *size);
            at += size;
            level
        })
        .collect();
    placed.reverse();
    placed
}

/// Bytes of the hash tree over so many bytes of data, superblock included.
#[must_use]
pub fn tree_bytes(data_bytes: u64) -> u64 {
    let levels = levels(data_bytes.div_ceil(BLOCK as u64));
    (1 + levels.iter().map(|(_, blocks)| blocks).sum::<u64>()) * BLOCK as u64
}

/// How many bytes of data the hash tree is over, as its superblock says.
///
/// # Errors
/// When there is no superblock of a kind that is used here, or it speaks of more than `data` has.
pub fn data_bytes(mut data: &File, tree: &File) -> Result<u64> {
    let blocks = superblock(tree)?.data_blocks;
    let most = data.seek(SeekFrom::End(0)).context("looking for the end of the root's partition")?;
    let bytes = blocks.checked_mul(BLOCK as u64).filter(|bytes| (1..=most).contains(bytes));
    bytes.with_context(|| format!("the verity superblock is for {blocks} blocks, the partition has {most} bytes"))
}

fn superblock(tree: &impl Blocks) -> Result<Superblock> {
    let mut first = [0; BLOCK];
    tree.read_exact_at(&mut first, 0).context("reading the verity superblock")?;
    Superblock::parse(&first)
}

/// Checks data and tree against the root hash, on all processors.
///
/// `data_bytes` is the length that the manifest promises; `progress` is called from time to time with the bytes
/// checked so far.
///
/// # Errors
/// Names the first block found that does not match, or what could not be read.
pub fn verify(
    data: &impl Blocks,
    tree: &impl Blocks,
    data_bytes: u64,
    root_hash: &str,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    let superblock = superblock(tree)?;
    ensure!(
        superblock.data_blocks.checked_mul(BLOCK as u64) == Some(data_bytes),
        "the verity superblock is for {} blocks, the manifest for {data_bytes} bytes",
        superblock.data_blocks
    );
    let levels = levels(superblock.data_blocks);
    check_tree(&superblock, tree, &levels, root_hash)?;
    let leaves = levels.first().map_or(1, |(start, _)| *start);

    let next = AtomicU64::new(0);
    let checked = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let done = check_data(&superblock, data, tree, leaves, &next, &checked, &stop);
                    if done.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    done
                })
            })
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            progress(checked.load(Ordering::Relaxed) * BLOCK as u64);
            std::thread::sleep(Duration::from_millis(100));
        }
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a verification thread died"))??;
        }
        Ok(())
    })
}

/// Checks the tree from the root hash down to its leaves.
fn check_tree(superblock: &Superblock, tree: &impl Blocks, levels: &[(u64, u64)], root_hash: &str) -> Result<()> {
    let mut expected = hex::decode(root_hash).context("the root hash is not hex")?;
    for (start, count) in levels.iter().rev() {
        let mut below = Vec::with_capacity(usize::try_from(*count)? * BLOCK);
        let mut block = [0; BLOCK];
        for index in 0..*count {
            tree.read_exact_at(&mut block, (start + index) * BLOCK as u64).context("reading the hash tree")?;
            let at = usize::try_from(index)? * HASH;
            if expected.get(at..at + HASH) != Some(&superblock.hash(&block)[..]) {
                bail!("block {} of the hash tree on the disk does not match the root hash", start + index);
            }
            below.extend_from_slice(&block);
        }
        expected = below;
    }
    Ok(())
}

/// One worker: takes batches of data blocks until there are none, and compares them with the tree's leaves.
fn check_data(
    superblock: &Superblock,
    data: &impl Blocks,
    tree: &impl Blocks,
    leaves: u64,
    next: &AtomicU64,
    checked: &AtomicU64,
    stop: &AtomicBool,
) -> Result<()> {
    let mut blocks = vec![0; usize::try_from(BATCH)? * BLOCK];
    let mut hashes = vec![0; usize::try_from(BATCH)? * HASH];
    while !stop.load(Ordering::Relaxed) {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= superblock.data_blocks {
            break;
        }
        let count = BATCH.min(superblock.data_blocks - first);
        let bytes = &mut blocks[..usize::try_from(count)? * BLOCK];
        data.read_exact_at(bytes, first * BLOCK as u64).with_context(|| format!("reading root block {first}"))?;
        let leaf_bytes = &mut hashes[..usize::try_from(count.div_ceil(PER_BLOCK))? * BLOCK];
        tree.read_exact_at(leaf_bytes, (leaves + first / PER_BLOCK) * BLOCK as u64).context("reading the hash tree")?;
        for (index, (block, expected)) in bytes.chunks_exact(BLOCK).zip(leaf_bytes.chunks_exact(HASH)).enumerate() {
            if superblock.hash(block) != expected {
                bail!("block {} of the root on the disk does not match the root hash", first + index as u64);
            }
        }
        checked.fetch_add(count, Ordering::Relaxed);
    }
    Ok(())
}

/// Opens `/dev/mapper/root`. The kernel panics, and so restarts, when it meets a corrupted block later.
///
/// # Errors
/// With what veritysetup said.
pub fn open(data: &Path, tree: &Path, root_hash: &str) -> Result<()> {
    let output = Command::new("veritysetup")
        .arg("open")
        .arg(data)
        .arg("root")
        .arg(tree)
        .arg(root_hash)
        .arg("--panic-on-corruption")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .context("starting veritysetup")?;
    if !output.status.success() {
        bail!(
            "veritysetup could not open the root ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Builds a tree the plain way, as an independent model of the format.
    fn build(data: &[u8], salt: &[u8]) -> (Vec<u8>, String) {
        let superblock = Superblock { data_blocks: (data.len() / BLOCK) as u64, salt: salt.to_vec() };
        let mut levels = Vec::new();
        let mut below = data.to_vec();
        loop {
            let mut level: Vec<u8> = below.chunks(BLOCK).flat_map(|block| superblock.hash(block)).collect();
            level.resize(level.len().div_ceil(BLOCK) * BLOCK, 0);
            levels.push(level.clone());
            if level.len() == BLOCK {
                break;
            }
            below = level;
        }
        let mut tree = vec![0; BLOCK];
        tree[..6].copy_from_slice(b"verity");
        tree[8] = 1;
        tree[12] = 1;
        tree[32..38].copy_from_slice(b"sha256");
        tree[64..68].copy_from_slice(&4096u32.to_le_bytes());
        tree[68..72].copy_from_slice(&4096u32.to_le_bytes());
        tree[72..80].copy_from_slice(&superblock.data_blocks.to_le_bytes());
        tree[80..82].copy_from_slice(&u16::try_from(salt.len()).unwrap().to_le_bytes());
        tree[88..88 + salt.len()].copy_from_slice(salt);
        let root = hex::encode(superblock.hash(levels.last().unwrap()));
        for level in levels.iter().rev() {
            tree.extend_from_slice(level);
        }
        (tree, root)
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_true_image_passes_and_every_flipped_byte_is_found() {
        for blocks in [1usize, 127, 128, 129, 3000] {
            let data: Vec<u8> = (0..blocks * BLOCK).map(|i| (i % 251) as u8).collect();
            let (tree, root) = build(&data, b"salt");
            let check = |data: &[u8], tree: &[u8], root: &str| {
                verify(&file(data), &file(tree), (blocks * BLOCK) as u64, root, &|_| ())
            };
            check(&data, &tree, &root).unwrap();
            let mut bad = data.clone();
            bad[(blocks - 1) * BLOCK + 17] ^= 1;
            let error = check(&bad, &tree, &root).unwrap_err().to_string();
            assert!(error.contains(&format!("block {} of the root", blocks - 1)), "{error}");
            for at in [BLOCK + 3, tree.len() - BLOCK + 5] {
                let mut bad = tree.clone();
                bad[at] ^= 1;
                assert!(check(&data, &bad, &root).is_err(), "flipped byte {at} of the tree over {blocks} blocks");
            }
            assert!(check(&data, &tree, &"0".repeat(64)).is_err());
            assert_eq!(data_bytes(&file(&data), &file(&tree)).unwrap(), data.len() as u64);
            let mut bad = tree.clone();
            bad[79] ^= 1;
            assert!(data_bytes(&file(&data), &file(&bad)).is_err());
        }
    }
}
