//! GRUB's environment block (GRUB 2.12, `grub-core/lib/envblk.c`): 1024 bytes of `NAME=VALUE` lines, filled up with `#`. GRUB
//! rewrites such a file in place, and so does the agent: it never becomes longer or shorter.

use std::collections::BTreeMap;

/// GRUB reads and rewrites blocks of exactly this size.
pub const BYTES: usize = 1024;
/// What is to be changed in one piece has to lie in one sector of the disk.
const SECTOR: usize = 512;
const HEADER: &str = "# GRUB Environment Block\n";

/// Names and values. Values are plain text ([`crate::bios::is_plain`]).
pub type Environment = BTreeMap<String, String>;

/// Reads a block; `None` when it is not one.
#[must_use]
pub fn read(block: &[u8]) -> Option<Environment> {
    let text = block.strip_prefix(HEADER.as_bytes()).filter(|_| block.len() == BYTES)?;
    let mut environment = Environment::new();
    for line in text.split(|byte| *byte == b'\n') {
        if line.starts_with(b"#") || line.is_empty() {
            continue;
        }
        // A line that is no text, or holds what GRUB would escape, is not ours to understand.
        let (name, value) = std::str::from_utf8(line).ok()?.split_once('=')?;
        environment.insert(name.to_owned(), value.to_owned());
    }
    Some(environment)
}

/// Writes a block; `None` when something does not fit, or is not plain text.
#[must_use]
pub fn write(environment: &Environment) -> Option<Vec<u8>> {
    let mut text = HEADER.to_owned();
    for (name, value) in environment {
        let plain = crate::bios::is_plain(value) && !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase());
        if !plain {
            return None;
        }
        text = text + name + "=" + value + "\n";
    }
    let mut block = text.into_bytes();
    if block.len() > BYTES {
        return None;
    }
    block.resize(BYTES, b'#');
    Some(block)
}

/// The same for a block that changes: everything lies in its first sector, so that a power cut leaves the old or the new one.
#[must_use]
pub fn write_in_one_sector(environment: &Environment) -> Option<Vec<u8>> {
    let block = write(environment)?;
    block[SECTOR..].iter().all(|byte| *byte == b'#').then_some(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            environment in proptest::collection::btree_map("[a-z]{1,8}", "[a-zA-Z0-9 =,.:/@_+-]{0,60}", 0..6)
        ) {
            let block = write_in_one_sector(&environment).or_else(|| write(&environment)).unwrap();
            prop_assert_eq!(block.len(), BYTES);
            prop_assert_eq!(read(&block), Some(environment));
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..BYTES + 9), headed: bool) {
            if headed && bytes.len() >= HEADER.len() {
                bytes.resize(BYTES, b'#');
                bytes[..HEADER.len()].copy_from_slice(HEADER.as_bytes());
            }
            let _ = read(&bytes);
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let of = |value: String| Environment::from([("a".to_owned(), value)]);
        assert!(write_in_one_sector(&of("x".repeat(480))).is_some());
        assert!(write_in_one_sector(&of("x".repeat(490))).is_none());
        assert!(write(&of("x".repeat(490))).is_some());
        assert!(write(&of("x".repeat(1000))).is_none() && write(&of("$(x)".into())).is_none());
    }
}
