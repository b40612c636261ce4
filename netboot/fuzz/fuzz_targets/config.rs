//! Any text as configuration file: no panic, a bounded message, and what is taken differs in nothing from itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::{config::Config, reload::merge};
use std::path::Path;

fuzz_target!(|text: &str| {
    match Config::parse(text, Path::new("/etc/shelfboot/netboot.yaml")) {
        Ok(config) => {
            let merged = merge(&config, &config);
            assert!(merged.live.is_empty() && merged.restart.is_empty() && merged.config == config);
        }
        Err(error) => assert!(error.to_string().len() < 64 * 1024 + 8 * text.len()),
    }
});
