//! Blocks of which two runs have a part each, until both have come.

use super::{BLOCK, slot::Buffer};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// The blocks that wait for their other part. There are at most two for each run under way, and for each run that was found.
#[derive(Debug, Default)]
pub struct SharedBlocks(Mutex<HashMap<u64, Parts>>);

#[derive(Debug)]
struct Parts {
    bytes: Box<[u8]>,
    filled: usize,
    changed: bool,
}

/// A block that has all its parts.
#[derive(Debug)]
pub struct Full {
    buffer: Buffer,
    /// Somebody brought what is not on the disk yet.
    pub changed: bool,
}

impl Full {
    /// Its content, where direct I/O can take it from.
    pub fn bytes(&mut self) -> &[u8] {
        self.buffer.take(BLOCK as usize)
    }
}

impl SharedBlocks {
    /// Adds a part of a block. Returns the block when it was the last one; it waits until [`Self::settled`].
    pub fn fill(&self, block: u64, offset: usize, content: &[u8], changed: bool) -> Option<Full> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = || vec![0; BLOCK as usize].into();
        let parts = all.entry(block).or_insert_with(|| Parts { bytes: bytes(), filled: 0, changed: false });
        parts.bytes[offset..offset + content.len()].copy_from_slice(content);
        parts.filled += content.len();
        parts.changed |= changed;
        // Whole sizes are of whole blocks, so every block comes to its end.
        (parts.filled == BLOCK as usize).then(|| {
            let mut buffer = Buffer::default();
            buffer.take(BLOCK as usize).copy_from_slice(&parts.bytes);
            Full { buffer, changed: parts.changed }
        })
    }

    /// The block is on the disk.
    pub fn settled(&self, block: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&block);
    }

    /// Whether a part of this block has come and is not on the disk yet.
    #[must_use]
    pub fn waits(&self, block: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&block)
    }

    /// Whether none waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
