//! Any bytes as an LLDP frame: no panic, and names that can be printed.
#![no_main]

use firstboot_agent::net::lldp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(found) = lldp::parse(bytes) {
        for text in [found.chassis, found.port, found.system, found.port_description] {
            assert!(text.chars().count() <= 64 && !text.chars().any(char::is_control));
        }
    }
});
