//! Any text where people, the network, a medium or a template write one: discovery options, claim codes, references.
#![no_main]

use contracts::{claim, discovery, fill, medium::Medium};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(url) = discovery::decode(bytes) {
        assert!(discovery::encode(&url).is_ok());
    }
    let _ = contracts::read::<Medium>(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(code) = claim::normal(text) {
        assert_eq!(claim::normal(&code), Some(code));
    }
    let values = fill::Values::from([("a".into(), Some("${b}".into()))]);
    // What is filled in twice comes to what it would have been at once.
    if let Ok(now) = fill::substitute_now(text, &values, |_| false) {
        assert_eq!(fill::substitute(&now, &fill::Values::new()).ok(), fill::substitute(text, &values).ok());
    }
});
