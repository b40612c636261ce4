//! Bytes of a disk, read in small pieces at any place, never more than a bound in all.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
};

/// Something with a length that can be read at any place.
pub trait ReadAt {
    /// Length in bytes.
    fn length(&self) -> u64;

    /// Fills `buffer` from the byte `at` on.
    ///
    /// # Errors
    /// What the device says; also when it ends too early.
    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A file or block device with its length.
#[derive(Debug)]
pub struct Device {
    file: File,
    bytes: u64,
}

impl Device {
    /// Takes an open file; `bytes` is its length, which a block device does not say in its metadata.
    #[must_use]
    pub const fn new(file: File, bytes: u64) -> Self {
        Self { file, bytes }
    }
}

impl ReadAt for Device {
    fn length(&self) -> u64 {
        self.bytes
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }
}

impl ReadAt for &[u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(at).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Where reading went wrong. After that nothing more is read: a failing disk takes half a minute for every try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The byte at which the read began.
    pub at: u64,
    /// What the device said.
    pub why: String,
}

/// What is spent and what went wrong, shared by all windows of one look.
#[derive(Debug, Default)]
pub struct Ledger {
    spent: Cell<u64>,
    trouble: RefCell<Option<Trouble>>,
}

impl Ledger {
    /// Bytes that were read.
    pub fn spent(&self) -> u64 {
        self.spent.get()
    }

    /// The first read that failed.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.borrow().clone()
    }
}

/// A part of a source: the whole disk or one partition.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    source: &'a dyn ReadAt,
    ledger: &'a Ledger,
    start: u64,
    bytes: u64,
}

impl std::fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("start", &self.start).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<'a> Window<'a> {
    /// All of a source.
    #[must_use]
    pub fn whole(source: &'a dyn ReadAt, ledger: &'a Ledger) -> Self {
        Self { source, ledger, start: 0, bytes: source.length() }
    }

    /// A part of this window; `None` when it does not lie in it.
    #[must_use]
    pub fn part(&self, at: u64, bytes: u64) -> Option<Self> {
        let end = at.checked_add(bytes)?;
        (bytes > 0 && end <= self.bytes).then_some(Self { start: self.start + at, bytes, ..*self })
    }

    /// Length in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.bytes
    }

    /// Where this window begins on the disk.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// `length` bytes from `at` on. `None` outside the window, and from the first failed read on.
    #[must_use]
    pub fn get(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let end = at.checked_add(length as u64)?;
        if end > self.bytes || self.ledger.trouble.borrow().is_some() {
            return None;
        }
        let spent = self.ledger.spent.get() + length as u64;
        let mut buffer = vec![0; length];
        let result = if spent > super::BUDGET {
            Err(io::Error::other("more would have to be read than a look at a disk may take"))
        } else {
            self.ledger.spent.set(spent);
            self.source.fill(self.start + at, &mut buffer)
        };
        match result {
            Ok(()) => Some(buffer),
            Err(error) => {
                *self.ledger.trouble.borrow_mut() = Some(Trouble { at: self.start + at, why: error.to_string() });
                None
            }
        }
    }

    /// The same, counted from the window's end: `back` is the distance from the end to the first byte.
    #[must_use]
    pub fn get_from_end(&self, back: u64, length: usize) -> Option<Vec<u8>> {
        self.get(self.bytes.checked_sub(back)?, length)
    }

    /// Whether these bytes lie at `at`.
    #[must_use]
    pub fn has(&self, at: u64, magic: &[u8]) -> bool {
        self.get(at, magic.len()).is_some_and(|found| found == magic)
    }
}

/// Little-endian numbers out of a piece; 0 where the piece is too short, which no caller takes for a signature.
pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}
