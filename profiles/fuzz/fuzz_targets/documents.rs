//! Any text in place of a template, a profile or settings: every mistake has a place inside the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|input: (u8, &str)| {
    let kinds = ["MachineTemplate", "SoftwareProfile", "ConfigurationProfile", "Settings"];
    let kind = kinds[usize::from(input.0) % kinds.len()];
    let text = format!("apiVersion: shelfboot.dev/v1\nkind: {kind}\n{}", input.1);
    for problem in profiles::check_text(Path::new("fuzzed.yaml"), text.clone()) {
        assert!(text.get(problem.bytes.clone()).is_some(), "{problem:?}");
        assert!(problem.line >= 1 && problem.column >= 1);
    }
});
