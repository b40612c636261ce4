//! Any bytes in place of a Debian package, and of what apt says.
#![no_main]

use image_builder::packages::{apt, deb};
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    for start in [&b""[..], b"!<arch>\n", b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n"] {
        let file = [start, bytes].concat();
        let length = file.len() as u64;
        for member in deb::members(&mut Cursor::new(file)).unwrap_or_default() {
            assert!(member.offset + member.bytes <= length);
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        apt::installed(text);
        apt::addresses(text);
        apt::records(text);
    }
});
