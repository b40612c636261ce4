//! Any bytes as an OCI archive, and as a manifest or index: no panic, and nothing that does not have its digest is believed.
#![no_main]

use image_builder::oci::{self, Kind, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut digests = vec![format!("sha256:{}", "0".repeat(64))];
    if let Ok(read) = oci::read_blob(bytes) {
        assert!(!read.media_type().is_empty());
        match read {
            Kind::Index(index) => digests.extend(index.manifests.into_iter().map(|entry| entry.digest)),
            Kind::Manifest(manifest) => digests.push(manifest.config.digest),
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let Ok(source) = Source::open(file.path()) else { return };
    let out = tempfile::tempdir().unwrap();
    for digest in digests {
        if let Ok(image) = oci::find(&source, &digest) {
            assert_eq!(image.root.digest, digest);
            let _ = oci::copy(&source, &image, out.path());
        }
    }
});
