//! Any bytes as a record of /dev/kmsg: no panic, and one line that can be printed.
#![no_main]

use firstboot_agent::logs::kernel;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = [b"6,1,5140900,-;", bytes].concat();
    for record in [bytes, &whole] {
        if let Some(line) = kernel::line(record) {
            assert!(!line.chars().any(char::is_control));
        }
    }
});
