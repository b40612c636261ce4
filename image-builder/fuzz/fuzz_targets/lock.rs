//! Any bytes in place of a lock. What is accepted is written and read again as the same, and names no file outside of its source.
#![no_main]

use image_builder::packages::{lock::Lock, lock_diff};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(lock) = Lock::parse(bytes) else { return };
    for package in lock.packages() {
        assert!(!package.path.starts_with('/') && !package.path.split('/').any(|part| part == ".."));
        assert!(package.file_name().len() == 68 && !package.name.starts_with('-'));
    }
    let again = Lock::parse(lock.text().as_bytes()).expect("what was written is read");
    assert_eq!(again.image, lock.image);
    assert!(lock_diff::changes(&lock, &again).is_empty());
});
