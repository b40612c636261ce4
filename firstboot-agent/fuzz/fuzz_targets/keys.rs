//! Any bytes as a firmware variable with signature lists: no panic, and a bounded number of certificates.
#![no_main]

use firstboot_agent::facts::keys;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let found = keys::certificates("db", bytes);
    assert!(found.len() <= 32);
    assert!(found.iter().all(|c| c.sha256.len() == 64 && !c.subject.chars().any(char::is_control)));
});
