//! Any bytes as an entry of the firmware's boot order, and as a TPM's answer: no panic, names that can be printed, keys of one length.
#![no_main]

use firstboot_agent::{efi, facts::endorsement};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(option) = efi::boot_option(bytes) {
        assert!(!option.description.chars().any(char::is_control));
    }
    if let Some(point) = endorsement::of_answer(bytes) {
        assert!(point.len() == 128 && point.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
});
