//! What a journal's bytes mean. Pure: bytes in, changes out, and back.
//!
//! A journal is a row of records, each of which is one commit:
//!
//! | bytes | content |
//! |---|---|
//! | 4 | [`MARK`] |
//! | 4 | length of the payload, little endian |
//! | 8 | the first bytes of SHA-256 over the length field and the payload |
//! | length | changes: table (1), kind (1: put 1, delete 2), length of the key (2), of the value (4), key, value |
//!
//! Reading takes every whole record and steps over everything else, so that one damaged block of the disk costs the records that lie
//! in it and no others. The mark is no UTF-8: text that machines send, and that stands in values, cannot pass for a record.

use sha2::{Digest, Sha256};
use std::ops::Range;

/// Begins every record. 0xff and 0xfe occur nowhere in UTF-8.
pub const MARK: [u8; 4] = [0xff, b'S', b'B', 0xfe];
/// Mark, length, checksum.
const HEAD: usize = 16;
/// The largest payload: the region's document (4 MiB), and room.
pub const LARGEST: usize = 6 << 20;
/// The longest key.
pub const LONGEST_KEY: usize = 255;

/// What a key belongs to.
pub type Table = u8;

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key has this value from here on.
    Put(Table, String, Vec<u8>),
    /// The key is gone.
    Delete(Table, String),
}

/// A commit is too large for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a commit of {0} bytes is larger than a record can be")]
pub struct TooLarge(pub usize);

/// One change, as it was found: where its value lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key's table.
    pub table: Table,
    /// The key.
    pub key: String,
    /// Where the value is; `None` for a deletion.
    pub value: Option<Range<usize>>,
}

/// What was found in a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Every change of every whole record, in order.
    pub found: Vec<Found>,
    /// Where the last whole record ends.
    pub end: usize,
    /// Bytes between whole records, or before the first: something was there.
    pub damaged: Vec<Range<usize>>,
    /// Bytes behind the last whole record: a commit that nobody was told of, as a power cut leaves it.
    pub torn: usize,
}

/// The record of a commit.
///
/// # Errors
/// [`TooLarge`] beyond [`LARGEST`], or for a key beyond [`LONGEST_KEY`].
pub fn record(changes: &[Change]) -> Result<Vec<u8>, TooLarge> {
    let mut bytes = vec![0; HEAD];
    for change in changes {
        let (table, kind, key, value) = match change {
            Change::Put(table, key, value) => (*table, 1, key, value.as_slice()),
            Change::Delete(table, key) => (*table, 2, key, [].as_slice()),
        };
        let lengths = (u16::try_from(key.len()), u32::try_from(value.len()));
        let (Ok(key_length), Ok(value_length)) = lengths else { return Err(TooLarge(value.len())) };
        if key.len() > LONGEST_KEY {
            return Err(TooLarge(key.len()));
        }
        bytes.extend_from_slice(&[table, kind]);
        bytes.extend_from_slice(&key_length.to_le_bytes());
        bytes.extend_from_slice(&value_length.to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(value);
    }
    let length = bytes.len() - HEAD;
    let field = u32::try_from(length).ok().filter(|_| length <= LARGEST).ok_or(TooLarge(length))?.to_le_bytes();
    let sum = checksum(field, &bytes[HEAD..]);
    bytes[..4].copy_from_slice(&MARK);
    bytes[4..8].copy_from_slice(&field);
    bytes[8..HEAD].copy_from_slice(&sum);
    Ok(bytes)
}

/// Where in a record of [`record`] the values of its changes begin.
#[must_use]
pub fn value_offsets(changes: &[Change]) -> Vec<usize> {
    let mut at = HEAD;
    let mut offsets = Vec::with_capacity(changes.len());
    for change in changes {
        let (key, value) = match change {
            Change::Put(_, key, value) => (key.len(), value.len()),
            Change::Delete(_, key) => (key.len(), 0),
        };
        offsets.push(at + 8 + key);
        at += 8 + key + value;
    }
    offsets
}

fn checksum(length: [u8; 4], payload: &[u8]) -> [u8; 8] {
    let digest = Sha256::new().chain_update(length).chain_update(payload).finalize();
    let mut sum = [0; 8];
    sum.copy_from_slice(&digest[..8]);
    sum
}

/// Reads a whole journal.
#[must_use]
pub fn scan(bytes: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        if let Some((found, length)) = whole_record(bytes, at) {
            if at > scan.end {
                scan.damaged.push(scan.end..at);
            }
            scan.found.extend(found);
            at += length;
            scan.end = at;
        } else {
            // The next place where a record may begin.
            let next = bytes[at + 1..].windows(MARK.len()).position(|window| window == MARK);
            at = next.map_or(bytes.len(), |distance| at + 1 + distance);
        }
    }
    scan.torn = bytes.len() - scan.end;
    scan
}

fn whole_record(bytes: &[u8], at: usize) -> Option<(Vec<Found>, usize)> {
    let head = bytes.get(at..at + HEAD)?;
    let field: [u8; 4] = head[4..8].try_into().ok()?;
    let length = usize::try_from(u32::from_le_bytes(field)).ok().filter(|length| *length <= LARGEST)?;
    let payload = bytes.get(at + HEAD..at + HEAD + length)?;
    if head[..4] != MARK || head[8..] != checksum(field, payload) {
        return None;
    }
    // What was written is well formed; the checksum of what was not could only be right by malice.
    Some((changes(payload, at + HEAD)?, HEAD + length))
}

fn changes(payload: &[u8], base: usize) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let head = payload.get(at..at + 8)?;
        let key_length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let value_length = usize::try_from(u32::from_le_bytes([head[4], head[5], head[6], head[7]])).ok()?;
        let key = payload.get(at + 8..at + 8 + key_length)?;
        let key = std::str::from_utf8(key).ok().filter(|key| key.len() <= LONGEST_KEY)?.to_owned();
        let from = at + 8 + key_length;
        let to = from.checked_add(value_length).filter(|to| *to <= payload.len())?;
        let value = match head[1] {
            1 => Some(base + from..base + to),
            2 if value_length == 0 => None,
            _ => return None,
        };
        found.push(Found { table: head[0], key, value });
        at = to;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(key: &str, value: &str) -> Change {
        Change::Put(1, key.into(), value.into())
    }

    fn read(bytes: &[u8]) -> Vec<(String, Option<String>)> {
        let value = |range: Range<usize>| String::from_utf8_lossy(&bytes[range]).into_owned();
        scan(bytes).found.into_iter().map(|f| (f.key, f.value.map(value))).collect()
    }

    #[test]
    fn what_was_written_comes_back_with_its_places() {
        let changes = [put("a", "one"), Change::Delete(2, "b".into()), put("c", "")];
        let bytes = record(&changes).unwrap();
        let found = scan(&bytes);
        assert_eq!((found.end, found.torn, found.damaged.len()), (bytes.len(), 0, 0));
        let all = [("a".into(), Some("one".into())), ("b".into(), None), ("c".into(), Some(String::new()))];
        assert_eq!(read(&bytes), all);
        let offsets = value_offsets(&changes);
        assert_eq!(found.found[0].value.as_ref().unwrap().start, offsets[0]);
        assert_eq!(found.found[2].value.as_ref().unwrap().start, offsets[2]);
    }

    #[test]
    fn a_record_is_bounded() {
        let large = Change::Put(1, "k".into(), vec![0; LARGEST]);
        assert!(record(&[large]).is_err());
        assert!(record(&[put(&"k".repeat(LONGEST_KEY + 1), "")]).is_err());
    }

    #[test]
    fn a_damaged_record_costs_itself_and_no_other() {
        let records: Vec<_> = ["a", "b", "c"].iter().map(|key| record(&[put(key, "value")]).unwrap()).collect();
        let length = records[0].len();
        let mut bytes = records.concat();
        bytes[length + 20] ^= 1;
        let found = scan(&bytes);
        assert_eq!(read(&bytes).iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(found.damaged.as_slice(), std::slice::from_ref(&(length..2 * length)));
        // The last one: it may never have been finished.
        let mut bytes = records.concat();
        bytes.truncate(3 * length - 1);
        assert_eq!((scan(&bytes).end, scan(&bytes).torn), (2 * length, length - 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let found = scan(&bytes);
            prop_assert!(found.found.is_empty() && found.torn == bytes.len());
        }

        /// Whatever is flipped in one record, and wherever the file ends: the records before and behind it are found.
        #[test]
        fn one_flipped_byte_costs_one_record(
            values in prop::collection::vec("[ -~]{0,60}", 1..8),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..=255,
        ) {
            let records: Vec<_> =
                values.iter().enumerate().map(|(n, v)| record(&[put(&n.to_string(), v)]).unwrap()).collect();
            let mut bytes = records.concat();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let mut ends = 0;
            let hit = records.iter().position(|r| { ends += r.len(); at < ends }).unwrap();
            let all = values.iter().enumerate().map(|(n, v)| (n.to_string(), Some(v.clone())));
            let kept: Vec<_> = all.enumerate().filter(|(n, _)| *n != hit).map(|(_, kept)| kept).collect();
            prop_assert_eq!(read(&bytes), kept);
        }
    }
}
