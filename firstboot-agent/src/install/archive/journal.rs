//! The install journal: which runs are on the disk for good. It lies in the last MiB of the slot's verity partition,
//! which no hash tree reaches (the tree of 8 GiB is 65 MiB long).
//!
//! A record says all that is known, so a torn one costs only itself. It is written after a flush of what it speaks of, and
//! nothing that it says is believed: it only tells where looking is worth while.

use super::{plan::Plan, slot::Slot};
use anyhow::Result;
use sha2::{Digest, Sha256};

/// Bytes of a record: no disk's sector is larger, so one is written as a whole or not.
pub const RECORD: usize = 4096;
/// Bytes of the journal at the end of the partition.
pub const AREA: u64 = 1 << 20;
/// Records that take turns.
const RECORDS: u64 = 16;

const MAGIC: &[u8; 8] = b"SBJRNL01";
const IDENTITY: usize = 32;
const HEAD: usize = MAGIC.len() + IDENTITY + 8 + 4;
const SUM: usize = 32;
/// As many runs as one record can speak of: 30 GiB.
const MOST_RUNS: usize = (RECORD - HEAD - SUM) * 8;

/// What is on the disk, one bit for each run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// SHA-256 of the archive's header: it names the image and the way it is cut.
    pub identity: [u8; IDENTITY],
    /// Higher is newer.
    pub sequence: u64,
    /// One for each run.
    pub runs: Vec<bool>,
}

impl Record {
    /// The record as bytes; `None` for more runs than fit.
    #[must_use]
    pub fn encode(&self) -> Option<[u8; RECORD]> {
        if self.runs.len() > MOST_RUNS {
            return None;
        }
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..40].copy_from_slice(&self.identity);
        bytes[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[48..52].copy_from_slice(&u32::try_from(self.runs.len()).ok()?.to_le_bytes());
        for (index, _) in self.runs.iter().enumerate().filter(|(_, written)| **written) {
            bytes[HEAD + index / 8] |= 1 << (index % 8);
        }
        let sum = Sha256::digest(&bytes[..RECORD - SUM]);
        bytes[RECORD - SUM..].copy_from_slice(&sum);
        Some(bytes)
    }

    /// Reads a record; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD] = bytes.try_into().ok()?;
        if !bytes.starts_with(MAGIC) || Sha256::digest(&bytes[..RECORD - SUM])[..] != bytes[RECORD - SUM..] {
            return None;
        }
        let identity = bytes[8..40].try_into().ok()?;
        let sequence = u64::from_le_bytes(bytes[40..48].try_into().ok()?);
        let runs = usize::try_from(u32::from_le_bytes(bytes[48..52].try_into().ok()?)).ok()?;
        let bit = |index: usize| bytes[HEAD + index / 8] >> (index % 8) & 1 == 1;
        (runs <= MOST_RUNS).then(|| Self { identity, sequence, runs: (0..runs).map(bit).collect() })
    }
}

/// The newest record in the bytes of a journal.
#[must_use]
pub fn newest(area: &[u8]) -> Option<Record> {
    area.chunks_exact(RECORD).filter_map(Record::decode).max_by_key(|record| record.sequence)
}

/// Where the next record goes, in bytes from the journal's beginning.
#[must_use]
pub const fn place(sequence: u64) -> u64 {
    sequence % RECORDS * RECORD as u64
}

/// The journal of an install that is under way.
#[derive(Debug)]
pub struct Journal {
    identity: [u8; IDENTITY],
    sequence: u64,
    /// What the newest record claims.
    pub claims: Vec<bool>,
}

impl Journal {
    /// Looks for what an install that was cut off left. Without room for a journal, or with more runs than a record holds, there is
    /// none, and a restart fetches everything again.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn open(slot: &Slot, identity: [u8; IDENTITY], plan: &Plan) -> Result<Option<Self>> {
        if plan.runs.len() > MOST_RUNS || slot.journal_at().is_none() {
            return Ok(None);
        }
        let found = newest(&slot.read_journal(RECORDS * RECORD as u64)?);
        let sequence = found.as_ref().map_or(0, |record| record.sequence);
        let claims = found
            .filter(|record| record.identity == identity && record.runs.len() == plan.runs.len())
            .map_or_else(|| vec![false; plan.runs.len()], |record| record.runs);
        Ok(Some(Self { identity, sequence, claims }))
    }

    /// The number of the newest record.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Writes down what is on the disk for good: after the flush.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn write(&mut self, slot: &Slot, runs: &[bool]) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let record = Record { identity: self.identity, sequence: self.sequence, runs: runs.to_vec() };
        match record.encode() {
            Some(bytes) => slot.write_journal(place(self.sequence), &bytes),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(sequence: u64, runs: Vec<bool>) -> Record {
        Record { identity: [7; 32], sequence, runs }
    }

    #[test]
    fn records_take_turns_and_a_torn_one_costs_only_itself() {
        let mut area = vec![0xa5; AREA as usize];
        for sequence in 1..=40 {
            let bytes = record(sequence, vec![true; sequence as usize]).encode().unwrap();
            let at = place(sequence) as usize;
            area[at..at + RECORD].copy_from_slice(&bytes);
            assert_eq!(newest(&area).unwrap().sequence, sequence);
        }
        area[place(40) as usize + 100] ^= 1;
        assert_eq!(newest(&area).unwrap(), record(39, vec![true; 39]));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn more_runs_than_fit_are_not_written_down() {
        assert!(record(1, vec![true; MOST_RUNS]).encode().is_some());
        assert!(record(1, vec![true; MOST_RUNS + 1]).encode().is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_flipped_bit_is_believed(
            sequence in any::<u64>(), runs in proptest::collection::vec(any::<bool>(), 0..2000),
            at in 0..RECORD, bit in 0u8..8
        ) {
            let record = record(sequence, runs);
            let mut bytes = record.encode().unwrap();
            prop_assert_eq!(Record::decode(&bytes), Some(record));
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Record::decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..3 * RECORD), sealed in any::<bool>()) {
            if sealed && bytes.len() >= RECORD {
                // Past magic and checksum, so that the numbers themselves are reached.
                bytes[..8].copy_from_slice(MAGIC);
                let sum = Sha256::digest(&bytes[..RECORD - SUM]);
                bytes[RECORD - SUM..RECORD].copy_from_slice(&sum);
            }
            if let Some(found) = newest(&bytes) {
                prop_assert!(found.runs.len() <= MOST_RUNS);
            }
        }
    }
}
