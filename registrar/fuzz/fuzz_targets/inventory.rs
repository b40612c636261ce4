//! Any text as an inventory: an inventory, or a complaint with its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registrar::inventory;
use std::path::Path;

fuzz_target!(|text: &str| {
    match inventory::parse(Path::new("inventory.yaml"), text) {
        Ok(inventory) => assert!(inventory.entries().all(|(_, machine)| inventory::is_label(&machine.name))),
        Err(error) => assert!(error.to_string().contains("inventory.yaml")),
    }
});
