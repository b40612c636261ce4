//! Any bytes as a boot image: no panic, and every part lies inside it.
#![no_main]

use contracts::uki;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(parts) = uki::parts(bytes) {
        assert!(parts.linux.len() <= bytes.len() && parts.initrd.len() <= bytes.len());
        assert!(parts.command_line.is_ascii());
    }
});
