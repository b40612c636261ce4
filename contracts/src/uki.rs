//! Sections of a PE file, as far as a unified kernel image (UKI) needs: kernel, initrd and command line in one
//! signed file. Who starts them one by one (BIOS machines) takes them out of the very image that is signed.

use std::ops::Range;

/// Why a section could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// Not a PE file.
    #[error("not a PE file")]
    NotPe,
    /// No such section.
    #[error("the PE file has no section {0}")]
    NoSection(&'static str),
    /// The command line is not one line of printable ASCII.
    #[error("the command line in the PE file is not one line of printable ASCII")]
    NotText,
    /// A header or section goes on past the end.
    #[error("the PE file is cut off")]
    CutOff,
}

/// The content of a section, without the padding to the file alignment.
///
/// # Errors
/// See [`PeError`].
pub fn section<'a>(file: &'a [u8], name: &'static str) -> Result<&'a [u8], PeError> {
    let place = place(file, file.len() as u64, name)?;
    let at = |offset: u64| usize::try_from(offset).map_err(|_| PeError::CutOff);
    file.get(at(place.start)?..at(place.end)?).ok_or(PeError::CutOff)
}

/// Where a section's content is, in bytes from the start of the file. `head` is the start of the file with its headers,
/// `length` the length of the whole.
///
/// # Errors
/// See [`PeError`].
pub fn place(head: &[u8], length: u64, name: &'static str) -> Result<Range<u64>, PeError> {
    let header = u32_at(head, 0x3c)? as usize;
    if head.get(..2) != Some(b"MZ") || head.get(header..).and_then(|h| h.get(..4)) != Some(b"PE\0\0") {
        return Err(PeError::NotPe);
    }
    let sections = usize::from(u16_at(head, header + 6)?);
    let optional = usize::from(u16_at(head, header + 20)?);
    for index in 0..sections {
        // 24: signature and COFF header. 40: one section header.
        let at = header + 24 + optional + index * 40;
        let entry = head.get(at..at + 40).ok_or(PeError::CutOff)?;
        if entry[..8].split(|b| *b == 0).next() == Some(name.as_bytes()) {
            let (virtual_bytes, raw_bytes) = (u32_at(entry, 8)?, u32_at(entry, 16)?);
            let start = u64::from(u32_at(entry, 20)?);
            let end = start + u64::from(virtual_bytes.min(raw_bytes));
            return if end <= length { Ok(start..end) } else { Err(PeError::CutOff) };
        }
    }
    Err(PeError::NoSection(name))
}

/// What a UKI starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The kernel, a bzImage.
    pub linux: &'a [u8],
    /// The initrd.
    pub initrd: &'a [u8],
    /// The command line.
    pub command_line: &'a str,
}

/// Takes a UKI apart.
///
/// # Errors
/// See [`PeError`].
pub fn parts(file: &[u8]) -> Result<Parts<'_>, PeError> {
    let command_line = command_line(section(file, ".cmdline")?)?;
    Ok(Parts { linux: section(file, ".linux")?, initrd: section(file, ".initrd")?, command_line })
}

/// The command line in the content of the section `.cmdline`.
///
/// # Errors
/// [`PeError::NotText`].
pub fn command_line(section: &[u8]) -> Result<&str, PeError> {
    let text = std::str::from_utf8(section).map_err(|_| PeError::NotText)?;
    let command_line = text.trim_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
    // It becomes one line of a script for the boot program: what is not one line of text is not passed on.
    if !command_line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Err(PeError::NotText);
    }
    Ok(command_line)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PeError> {
    let end = at.checked_add(2).ok_or(PeError::CutOff)?;
    bytes.get(at..end).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes).ok_or(PeError::CutOff)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PeError> {
    let end = at.checked_add(4).ok_or(PeError::CutOff)?;
    bytes.get(at..end).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or(PeError::CutOff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file_with(name: &[u8], content: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 0x40];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x40;
        file.extend(b"PE\0\0\0\0\x01\0");
        file.resize(0x40 + 24, 0);
        let mut entry = [0_u8; 40];
        entry[..name.len()].copy_from_slice(name);
        entry[8] = u8::try_from(content.len()).unwrap();
        entry[16] = 0x80;
        entry[20] = 0x40 + 24 + 40;
        file.extend(entry);
        file.extend(content);
        file.resize(0x40 + 24 + 40 + 0x80, 0);
        file
    }

    #[test]
    fn a_section_comes_without_its_padding() {
        let file = file_with(b".linux", b"kernel");
        assert_eq!(section(&file, ".linux"), Ok(&b"kernel"[..]));
        assert_eq!(section(&file, ".initrd"), Err(PeError::NoSection(".initrd")));
        assert_eq!(section(b"ELF", ".linux"), Err(PeError::CutOff));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (section(&bytes, ".linux"), parts(&bytes));
            if bytes.len() > 0x40 {
                bytes[..2].copy_from_slice(b"MZ");
                bytes[0x3c..0x40].copy_from_slice(&8_u32.to_le_bytes());
                let _ = section(&bytes, ".linux");
            }
        }
    }
}
