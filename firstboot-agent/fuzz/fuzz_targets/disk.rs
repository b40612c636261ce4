//! Any bytes on a disk: no panic, no more read than the bound, and what is named can be printed.
#![no_main]

use firstboot_agent::disk::signature::{BUDGET, pieces::Pieces, scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let disk = Pieces::read(bytes);
    let found = scan(&disk, disk.sector_bytes());
    assert!(found.bytes_read <= BUDGET && found.trouble.is_none());
    assert_eq!(found.is_blank(), found.words().is_none());
    if let Some(words) = found.words() {
        assert!(!words.chars().any(char::is_control) && words.len() < 8192);
    }
    assert!(found.signatures().len() <= 32);
});
