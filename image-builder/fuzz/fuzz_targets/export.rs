//! What `export` reads: names of images, archives whose header is signed and still any bytes, the index of an OCI layout.
#![no_main]

use contracts::manifest::{Archive, ImageManifest, Root};
use image_builder::export::{oci, staged::Wanted, unpack};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

fuzz_target!(|input: (u8, &[u8])| {
    let (split, bytes) = input;
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(wanted) = text.parse::<Wanted>()
    {
        assert_eq!(wanted.to_string().parse(), Ok(wanted));
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.json"), bytes).unwrap();
    let _ = oci::read_index(folder.path());

    // As if somebody had signed a header that lies about its chunks.
    let mut header = bytes[..bytes.len().min(usize::from(split) * 4)].to_vec();
    if header.len() > 86 {
        let dictionary = (header.len() - 86) as u64;
        header[..6].copy_from_slice(b"BITA1\0");
        header[6..14].copy_from_slice(&dictionary.to_le_bytes());
    }
    let rest = &bytes[header.len()..];
    let path = folder.path().join("archive");
    std::fs::write(&path, [&header, rest].concat()).unwrap();
    let manifest = ImageManifest {
        version: 1,
        template: "till".into(),
        image_version: "1".into(),
        architecture: "x86_64".into(),
        root: Root { data_bytes: 4096, hash_bytes: 4096, root_hash: String::new() },
        archive: Archive {
            path: String::new(),
            header_bytes: header.len() as u64,
            header_sha256: hex::encode(Sha256::digest(&header)),
            bytes: 0,
        },
        uki: String::new(),
        boot_loader: String::new(),
        registrar_ca: String::new(),
        bios: None,
        disks: contracts::disks::DiskPolicy::default(),
        state: Default::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _ = runtime.block_on(unpack::check(&path, &manifest));
});
