//! Any text in place of dpkg's status, file lists and diversions, and of a copyright file.
#![no_main]

use image_builder::sbom::{
    copyright,
    dpkg::{self, Diversions},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str)| {
    let (status, list, copyright) = input;
    let packages = dpkg::parse_status(status);
    assert_eq!(dpkg::dependencies(&packages).len(), packages.len());
    let owners = dpkg::owners([("p", list)], &Diversions::parse(status));
    assert!(owners.values().all(|owner| owner == "p"));
    for text in [copyright.to_owned(), format!("Format: copyright-format/1.0\n\n{copyright}")] {
        if let Some(declared) = copyright::read("p", Some(&text)).declared() {
            let open = declared.expression.matches('(').count();
            assert_eq!(open, declared.expression.matches(')').count());
            assert!(!declared.expression.is_empty());
        }
    }
});
