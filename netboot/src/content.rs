//! The bytes of a file that is served: in memory, or a part of an open file, which costs no memory beside the page cache.

use bytes::Bytes;
use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, sync::Arc};

/// Bytes that do not change while they are served. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Content {
    source: Source,
    /// Where they begin in the source.
    from: u64,
    length: u64,
}

#[derive(Debug, Clone)]
enum Source {
    Memory(Bytes),
    File(Arc<File>),
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self { from: 0, length: bytes.len() as u64, source: Source::Memory(bytes) }
    }
}

impl Content {
    /// The first `length` bytes of a file. Nobody may write to it in place; another content is another file.
    #[must_use]
    pub fn of_file(file: File, length: u64) -> Self {
        Self { source: Source::File(Arc::new(file)), from: 0, length }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// A part of it; what lies outside is cut off.
    #[must_use]
    pub fn slice(&self, part: Range<u64>) -> Self {
        let (start, end) = (part.start.min(self.length), part.end.min(self.length));
        Self { source: self.source.clone(), from: self.from + start, length: end.saturating_sub(start) }
    }

    /// Fills the buffer with the bytes from `at` on.
    ///
    /// # Errors
    /// When the disk fails, or there are fewer bytes.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        if at.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &self.source {
            Source::Memory(bytes) => {
                let from = usize::try_from(self.from + at).map_err(io::Error::other)?;
                buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
                Ok(())
            }
            Source::File(file) => file.read_exact_at(buffer, self.from + at),
        }
    }

    /// Everything, in memory.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        let end = usize::try_from(self.length).map_err(io::Error::other)?;
        if let Source::Memory(bytes) = &self.source {
            let from = usize::try_from(self.from).map_err(io::Error::other)?;
            return Ok(bytes.slice(from..from + end));
        }
        let mut all = vec![0; end];
        self.read_at(0, &mut all)?;
        Ok(all.into())
    }

    /// The open file and where in it these bytes begin, for the kernel to send by itself.
    #[must_use]
    pub fn file(&self) -> Option<(&File, u64)> {
        match &self.source {
            Source::File(file) => Some((file, self.from)),
            Source::Memory(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_and_memory_give_the_same_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789tail").unwrap();
        for content in [Content::of_file(file, 10), Content::from(Bytes::from_static(b"0123456789"))] {
            let part = content.slice(2..6).slice(1..100);
            assert_eq!((part.length(), &part.to_bytes().unwrap()[..]), (3, &b"345"[..]));
            let mut two = [0; 2];
            part.read_at(1, &mut two).unwrap();
            assert_eq!(&two, b"45");
            // The bytes behind a part are none of its business.
            assert_eq!(part.read_at(2, &mut two).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(part.read_at(u64::MAX, &mut two).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(content.slice(20..30).length(), 0);
        }
    }
}
