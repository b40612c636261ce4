//! Whatever a repository or a key set may hold: headers and chunks of archives, documents, roots of trust, URIs of keys; and
//! programs that are to be signed.
#![no_main]

use blake2::{Blake2b512, Digest};
use image_builder::{
    authenticode,
    keys::{roots, token::Uri},
    repo::{archive_check, chain, content, layout},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = archive_check::read_header(bytes);
    // The dictionary itself, past magic, lengths and checksum.
    let mut header = [b"BITA1\0".as_slice(), &(bytes.len() as u64).to_le_bytes(), bytes].concat();
    header.extend((header.len() as u64 + 72).to_le_bytes());
    let sum = Blake2b512::digest(&header);
    header.extend(sum);
    if let Ok(dictionary) = archive_check::read_header(&header) {
        let mut end = header.len() as u64;
        for chunk in &dictionary.chunks {
            assert_eq!(chunk.at, end);
            end += u64::from(chunk.stored);
            let mut buffer = Vec::new();
            let _ = archive_check::check_chunk(chunk, bytes, &mut buffer);
            assert!(buffer.len() <= chunk.size as usize + 1);
        }
    }
    for name in ["images/t/1/manifest.json", "channels/t/stable.json", "rollouts/t/stable.json"] {
        if let Some(Ok(content::Document::Manifest(manifest))) = content::read_document(name, bytes) {
            assert!(layout::is_safe(&manifest.archive.path));
        }
    }
    let _ = chain::trusted(bytes);
    // Without a certificate it gets as far as the digest.
    assert!(authenticode::sign(bytes, &[], |_| Ok(Vec::new())).is_err());
    if let Ok(root) = roots::read(bytes) {
        let _ = roots::missing(&root, Some(&root.signed));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Uri::parse(text);
    let _ = layout::metadata_version(text);
    if layout::is_safe(text) {
        // A digest makes a name longer than what a repository may name, and never longer than a file system takes.
        let fits = |part: &str| (1..=255).contains(&part.len()) && part != "." && part != "..";
        let paths = layout::target_paths(text, &"0".repeat(64));
        assert!(paths.iter().all(|path| path.starts_with("targets/") && path.split('/').all(fits)));
    }
});
