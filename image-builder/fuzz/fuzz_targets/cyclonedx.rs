//! Any bytes in place of a published CycloneDX list: what can be read is equal to itself, and can be shown.
#![no_main]

use image_builder::{
    diff::{Side, compare::compare, table::show},
    sbom::cyclonedx::Bom,
};
use libfuzzer_sys::fuzz_target;

const MANIFEST: &str = r#"{"version":1,"template":"t","image_version":"1","architecture":"x86_64",
    "root":{"data_bytes":0,"hash_bytes":0,"root_hash":""},"archive":{"path":"","header_bytes":0,"header_sha256":"","bytes":0},
    "uki":"","boot_loader":"","registrar_ca":""}"#;

fuzz_target!(|bytes: &[u8]| {
    let Ok(list) = serde_json::from_slice::<Bom>(bytes) else { return };
    let Ok(manifest) = serde_json::from_str(MANIFEST) else { unreachable!("it is a manifest") };
    let side = Side { name: "t@1".into(), manifest, uki: (0, String::new()), chunks: Default::default(), list };
    let same = compare(&side, &side);
    assert!(same.packages.is_empty() && same.files.is_empty() && same.transfer.bytes == 0);
    let empty = Bom { components: Vec::new(), ..side.list.clone() };
    let _ = show(&compare(&Side { list: empty, ..side.clone() }, &side), true);
});
