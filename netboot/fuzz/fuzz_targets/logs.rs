//! Any bytes as the log that a machine sends, and as the names of the files that keep them: no panic, and what is taken is bounded
//! and reads back the same.
#![no_main]

use contracts::logs::LARGEST;
use libfuzzer_sys::fuzz_target;
use netboot::logs::read;

fuzz_target!(|bytes: &[u8]| {
    // As a whole document, and as the text inside a valid one.
    let text = String::from_utf8_lossy(bytes);
    let inside = serde_json::json!({
        "version": 1, "attempt": "01234567-89ab-4def-8123-456789abcdef", "mac": "02:00:00:00:00:01", "part": "installer",
        "agent": text, "time": "2026-11-21T02:00:00Z", "end": {"status": "failed", "code": text, "message": text},
        "lines": text, "kernel": text,
    });
    for document in [bytes.to_vec(), serde_json::to_vec(&inside).unwrap()] {
        let Ok((mac, bundle)) = read(&document) else { continue };
        assert_eq!(bundle.mac, mac.to_string());
        let again = serde_json::to_vec(&bundle).unwrap();
        assert!(again.len() <= LARGEST);
        assert!(!bundle.lines.chars().any(|c| c.is_control() && c != '\n'));
        assert!(read(&again).is_ok());
    }
});
