//! Any bytes as SMBIOS tables: no panic, and what comes of them stays small and can be printed.
#![no_main]

use firstboot_agent::facts::smbios;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (entry_point, table) = bytes.split_at(bytes.len().min(31));
    let found = smbios::read(entry_point, table);
    assert!(found.memory.len() <= 128);
    let texts = [&found.smbios.manufacturer, &found.smbios.product, &found.smbios.serial, &found.smbios.board];
    assert!(texts.iter().all(|text| text.chars().count() <= 201 && !text.chars().any(char::is_control)));
});
