//! Any bytes where people and the PIN's file speak to the store page: a header, a token, a file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::{
    page::{html::escape, situation::claim_code, words::Language},
    pin::{
        form::{Origin, Tokens},
        secret::SecretFile,
    },
};
use std::{net::IpAddr, sync::LazyLock};
use time::OffsetDateTime;

static TOKENS: LazyLock<Tokens> = LazyLock::new(Tokens::new);

fuzz_target!(|bytes: &[u8]| {
    let _ = SecretFile::parse(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = Language::accepted(&text);
    let safe = escape(&text);
    assert!(!safe.contains(['<', '>', '"', '\'']) && !safe.contains(char::is_control));
    if let Some(code) = claim_code(&text) {
        assert_eq!(code.len(), 14);
    }
    let client = IpAddr::from([10, 0, 0, 1]);
    assert!(!TOKENS.is_good(OffsetDateTime::UNIX_EPOCH, client, &text));
    let origin = Origin { host: Some(&text), origin: Some("http://10.0.0.2"), fetch_site: None };
    assert_eq!(origin.is_own(&["10.0.0.2"]), text == "10.0.0.2");
});
