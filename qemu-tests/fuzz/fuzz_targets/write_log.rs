//! Any bytes in place of a write log: what is read lies inside of it, and every cut of it survives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu_tests::power_cut::{
    cut,
    log::{self, Kind},
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = log::read_bytes(bytes) else { return };
    for entry in log.entries.iter().filter(|entry| entry.kind == Kind::Write) {
        assert!(entry.data + entry.bytes <= bytes.len() as u64);
    }
    for cut in cut::choose(&log, 8, bytes.len() as u64) {
        assert!(cut::durable(&log, cut.at) <= cut.at);
        // A discard of the whole disk tears into more pieces than are worth looking at.
        if log.entries.iter().all(|entry| entry.bytes < 1 << 20) {
            assert!(cut::survivors(&log, cut).iter().all(|piece| piece.entry < cut.at));
        }
    }
});
