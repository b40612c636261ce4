//! Any bytes in place of an install journal. What is accepted is written and read again as the same.
#![no_main]

use firstboot_agent::install::archive::journal::{Record, newest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(record) = newest(bytes) else { return };
    let again = record.encode().expect("what was read can be written");
    assert_eq!(Record::decode(&again), Some(record));
});
