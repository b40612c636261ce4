//! The reader of a write log: Linux' Documentation/admin-guide/device-mapper/log-writes.rst, as QEMU's `blklogwrites` writes it.
//! A superblock in the first sector, then for each happening a sector with its entry, and behind that its data.

use std::io;

/// The superblock's first eight bytes, as a number (drivers/md/dm-log-writes.c).
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// More entries than this are not of an install.
const MOST_ENTRIES: u64 = 4 << 20;

const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// What happened to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes were written; zeros too.
    Write,
    /// Bytes were given up.
    Discard,
    /// Nothing but what [`Entry::flush`] says, or a mark.
    Nothing,
}

/// One happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What.
    pub kind: Kind,
    /// Everything that was finished before it is on the disk for good.
    pub flush: bool,
    /// It is on the disk for good by itself.
    pub durable: bool,
    /// Where on the disk, in bytes.
    pub at: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Where its data begins in the log, in bytes.
    pub data: u64,
}

/// Everything that happened, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// What the log counts in; a power cut tears no sector.
    pub sector: u64,
    /// The happenings.
    pub entries: Vec<Entry>,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file could not be read.
    #[error("reading the write log")]
    Read(#[from] io::Error),
    /// It is something else, or damaged.
    #[error("this is no write log: {0}")]
    NotOne(&'static str),
    /// An entry makes no sense.
    #[error("entry {0} of the write log {1}")]
    Entry(u64, &'static str),
}

/// Reads the entries of a log of `length` bytes; their data stay where they are. `fill` reads from a byte of the log.
///
/// # Errors
/// See [`LogError`].
pub fn read(length: u64, mut fill: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> Result<Log, LogError> {
    if length < 512 {
        return Err(LogError::NotOne("it is too short"));
    }
    let mut head = [0; 28];
    fill(0, &mut head)?;
    let (count, sector) = (u64_at(&head, 16), u64::from(u32::from_le_bytes([head[24], head[25], head[26], head[27]])));
    if u64_at(&head, 0) != MAGIC || u64_at(&head, 8) != VERSION {
        return Err(LogError::NotOne("it does not begin like one"));
    }
    if !(512..=65536).contains(&sector) || !sector.is_power_of_two() {
        return Err(LogError::NotOne("its sectors have an impossible size"));
    }
    if count > MOST_ENTRIES {
        return Err(LogError::NotOne("it has too many entries"));
    }
    let mut entries = Vec::new();
    let mut at = sector;
    for number in 0..count {
        let wrong = |what| LogError::Entry(number, what);
        let mut bytes = [0; 32];
        if at.checked_add(sector).is_none_or(|end| end > length) {
            return Err(wrong("lies behind the end"));
        }
        fill(at, &mut bytes)?;
        let [first, sectors, flags, mark] = [0, 8, 16, 24].map(|place| u64_at(&bytes, place));
        let place = first.checked_mul(sector).ok_or_else(|| wrong("lies nowhere"))?;
        let size = sectors.checked_mul(sector).ok_or_else(|| wrong("has an impossible size"))?;
        if place.checked_add(size).is_none() {
            return Err(wrong("lies nowhere"));
        }
        let data = at + sector;
        let kind = match (flags & DISCARD, flags & MARK, size) {
            (0, 0, 1..) => Kind::Write,
            (1.., 0, 1..) => Kind::Discard,
            _ => Kind::Nothing,
        };
        // A mark's text stands in its own sector.
        let stored = if kind == Kind::Write { size } else { 0 };
        if mark > sector - 32 || data.checked_add(stored).is_none_or(|end| end > length) {
            return Err(wrong("has data behind the end"));
        }
        let (flush, durable) = (flags & FLUSH != 0, flags & FUA != 0);
        entries.push(Entry { kind, flush, durable, at: place, bytes: size, data });
        at = data + stored;
    }
    Ok(Log { sector, entries })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// Reads a log that is in memory.
///
/// # Errors
/// See [`LogError`].
pub fn read_bytes(bytes: &[u8]) -> Result<Log, LogError> {
    read(bytes.len() as u64, |at, into| {
        let begin = usize::try_from(at).map_err(io::Error::other)?;
        let part = bytes.get(begin..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A log as the documentation describes it: flags, place and data of each entry.
    pub(crate) fn write(entries: &[(u64, u64, &[u8])]) -> Vec<u8> {
        let mut log = vec![0; 512];
        log[..8].copy_from_slice(&MAGIC.to_le_bytes());
        log[8] = 1;
        log[16..24].copy_from_slice(&(entries.len() as u64).to_le_bytes());
        log[24..28].copy_from_slice(&512u32.to_le_bytes());
        for (flags, at, data) in entries {
            let mut entry = vec![0; 512];
            entry[..8].copy_from_slice(&(at / 512).to_le_bytes());
            entry[8..16].copy_from_slice(&(data.len() as u64 / 512).to_le_bytes());
            entry[16..24].copy_from_slice(&flags.to_le_bytes());
            log.extend(entry);
            if flags & DISCARD == 0 {
                log.extend(*data);
            }
        }
        log
    }

    #[test]
    fn what_happened_is_read_in_order() {
        let log =
            write(&[(0, 1024, &[1; 1024]), (FLUSH, 0, &[]), (DISCARD, 4096, &[0; 2048]), (FUA | FLUSH, 0, &[2; 512])]);
        let read = read_bytes(&log).unwrap();
        let entry = |kind, flush, durable, at, bytes, data| Entry { kind, flush, durable, at, bytes, data };
        assert_eq!(
            read.entries,
            [
                entry(Kind::Write, false, false, 1024, 1024, 1024),
                entry(Kind::Nothing, true, false, 0, 0, 2560),
                entry(Kind::Discard, false, false, 4096, 2048, 3072),
                entry(Kind::Write, true, true, 0, 512, 3584),
            ]
        );
        assert!(matches!(read_bytes(&log[..log.len() - 1]), Err(LogError::Entry(3, "has data behind the end"))));
        assert!(matches!(read_bytes(&log[..3584]), Err(LogError::Entry(3, _))));
        assert!(matches!(read_bytes(&[0; 4096]), Err(LogError::NotOne(_))));
    }

    #[test]
    fn what_qemu_writes_is_read() {
        // qemu-io 10.0: write -P 7 4k 8k; flush; write -z 16k 4k; write -f -P 9 0 512; discard 32k 4k; write -P 1 1023k 512; flush.
        let bytes = include_bytes!("../../fuzz/seeds/write_log/qemu-io");
        let log = read_bytes(bytes).unwrap();
        let seen: Vec<(Kind, bool, u64, u64)> =
            log.entries.iter().map(|entry| (entry.kind, entry.flush, entry.at, entry.bytes)).collect();
        assert_eq!(
            seen,
            [
                (Kind::Write, false, 4096, 8192),
                (Kind::Nothing, true, 0, 0),
                (Kind::Write, false, 16384, 4096),
                // A write that goes through is followed by a flush of QEMU's own.
                (Kind::Write, false, 0, 512),
                (Kind::Nothing, true, 0, 0),
                (Kind::Discard, false, 32768, 4096),
                (Kind::Write, false, 1_047_552, 512),
                (Kind::Nothing, true, 0, 0),
                (Kind::Nothing, true, 0, 0),
            ]
        );
        let content = |index: usize| {
            let (begin, length) = (log.entries[index].data as usize, log.entries[index].bytes as usize);
            &bytes[begin..begin + length]
        };
        assert!(content(0).iter().all(|byte| *byte == 7) && content(2).iter().all(|byte| *byte == 0));
        assert!(content(3) == [9; 512] && content(6) == [1; 512]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..4096), begun in any::<bool>(), count in 0u8..9
        ) {
            if begun && bytes.len() >= 512 {
                let true_head = write(&[]);
                bytes[..512].copy_from_slice(&true_head);
                bytes[16] = count;
            }
            if let Ok(log) = read_bytes(&bytes) {
                for entry in log.entries.iter().filter(|entry| entry.kind == Kind::Write) {
                    prop_assert!(entry.data + entry.bytes <= bytes.len() as u64);
                }
            }
        }
    }
}
