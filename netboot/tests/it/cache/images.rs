//! Repositories with real archives, and a look at what a cache made of them.

use crate::common::tuf::Repository;
use bitar::chunk_dictionary::{ChunkCompression, ChunkDescriptor, ChunkDictionary, chunk_compression::CompressionType};
use blake2::{Blake2b512, Digest};
use contracts::{archive, manifest::ImageManifest, repository, rollout::Rollout};
use serde_json::json;
use sha2::Sha256;
use std::{collections::BTreeMap, path::Path};

pub(crate) const CHUNK: usize = 20_000;

/// Bytes that do not compress well, the same for the same number.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Half of it is always the same: there is something to pack.
        (state >> 40) as u8 & 0x3f
    };
    (0..bytes).map(step).collect()
}

/// A chunked archive of these chunks: its bytes, and the length of its header.
pub(crate) fn archive(chunks: &[Vec<u8>]) -> (Vec<u8>, usize) {
    let (mut descriptors, mut body) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let packed = zstd::encode_all(chunk.as_slice(), 3).unwrap();
        let stored = if packed.len() < chunk.len() { &packed } else { chunk };
        descriptors.push(ChunkDescriptor {
            checksum: Blake2b512::digest(chunk).to_vec(),
            archive_size: stored.len() as u32,
            archive_offset: body.len() as u64,
            source_size: chunk.len() as u32,
        });
        body.extend_from_slice(stored);
    }
    let dictionary = ChunkDictionary {
        rebuild_order: (0..chunks.len() as u32).collect(),
        source_total_size: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        chunk_compression: Some(ChunkCompression { compression: CompressionType::Zstd as i32, compression_level: 3 }),
        chunk_descriptors: descriptors,
        ..ChunkDictionary::default()
    };
    let header = bitar::header::build(&dictionary, None).unwrap();
    let length = header.len();
    ([header, body].concat(), length)
}

/// The images of a repository.
#[derive(Default)]
pub(crate) struct Images {
    files: BTreeMap<String, Vec<u8>>,
    pub(crate) archives: BTreeMap<String, Vec<u8>>,
}

impl Images {
    /// Adds an image: its root is made of the chunks with these numbers.
    pub(crate) fn add(&mut self, template: &str, version: &str, chunks: impl IntoIterator<Item = u64>) {
        let chunks: Vec<_> = chunks.into_iter().map(|seed| noise(seed, CHUNK)).collect();
        let (bytes, header) = archive(&chunks);
        let digest = hex::encode(Sha256::digest(&bytes[..header]));
        let path = repository::archive_path(&digest);
        let source: usize = chunks.iter().map(Vec::len).sum();
        let manifest = json!({
            "version": 1, "template": template, "image_version": version, "architecture": "x86_64",
            "root": { "data_bytes": source - 4096, "hash_bytes": 4096, "root_hash": "0".repeat(64) },
            "archive": { "path": path, "header_bytes": header, "header_sha256": digest, "bytes": bytes.len() },
            "uki": format!("images/{template}/{version}/uki.efi"), "boot_loader": "boot/x86_64/systemd-bootx64.efi",
            "registrar_ca": "region/registrar-ca.pem",
        });
        let mut put = |name: String, bytes: Vec<u8>| drop(self.files.insert(name, bytes));
        put(ImageManifest::target_name(template, version), manifest.to_string().into_bytes());
        put(format!("images/{template}/{version}/uki.efi"), uki(template, version));
        put(format!("images/{template}/{version}/sbom.cdx.json"), b"{\"large\": true}".to_vec());
        put("boot/x86_64/systemd-bootx64.efi".into(), b"boot loader".to_vec());
        put("region/registrar-ca.pem".into(), b"certificates".to_vec());
        self.archives.insert(path, bytes);
    }

    pub(crate) fn channel(&mut self, template: &str, version: &str) {
        let channel = json!({ "version": 1, "image_version": version });
        self.files.insert(format!("channels/{template}/stable.json"), channel.to_string().into_bytes());
    }

    pub(crate) fn rollout(&mut self, rollout: &Rollout) {
        let name = Rollout::target_name(&rollout.template, &rollout.channel);
        self.files.insert(name, serde_json::to_vec(rollout).unwrap());
    }

    pub(crate) fn publish(&self, to: &Repository, version: u64) {
        for (path, bytes) in &self.archives {
            std::fs::write(to.folder.join(path), bytes).unwrap();
        }
        let files: Vec<_> = self.files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        to.publish_files(version, &files);
    }

    /// Bytes of an image's archive.
    pub(crate) fn archive_bytes(&self, template: &str, version: &str) -> u64 {
        let manifest: ImageManifest =
            serde_json::from_slice(&self.files[&ImageManifest::target_name(template, version)]).unwrap();
        manifest.archive.bytes
    }
}

/// An image's boot image.
pub(crate) fn uki(template: &str, version: &str) -> Vec<u8> {
    let seed = template.bytes().chain(version.bytes()).fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    // Real ones are large.
    noise(seed, if version.starts_with("large") { 1_500_123 } else { 300_123 })
}

/// Looks at a cache as a stranger would: what its metadata leads to for this template is there, with the bytes that were
/// signed. Gives the version of the channel `stable`; `None` when the cache has no metadata yet.
pub(crate) async fn whole(cache: &Path, root: &[u8], template: &str) -> Option<String> {
    if !cache.join("metadata").exists() {
        return None;
    }
    let verified = netboot::cache::metadata::open(cache, root, None).await.expect("the cache's metadata verifies");
    let read = |name: &str| {
        let (bytes, digest) = verified.targets[name];
        let [_, path] = repository::target_paths(name, &hex::encode(digest));
        let found = std::fs::read(cache.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!((found.len() as u64, Sha256::digest(&found)[..].to_vec()), (bytes, digest.to_vec()), "{name}");
        found
    };
    let channel: contracts::manifest::Channel =
        contracts::read(&read(&format!("channels/{template}/stable.json"))).unwrap();
    let name = ImageManifest::target_name(template, &channel.image_version);
    let manifest: ImageManifest = contracts::read(&read(&name)).unwrap();
    manifest.targets().into_iter().for_each(|name| drop(read(name)));
    let bytes = std::fs::read(cache.join(&manifest.archive.path)).expect("its archive is there");
    assert_eq!(bytes.len() as u64, manifest.archive.bytes);
    let header = &bytes[..manifest.archive.header_bytes as usize];
    assert_eq!(hex::encode(Sha256::digest(header)), manifest.archive.header_sha256);
    for chunk in archive::read_header(header).unwrap().chunks {
        let stored = &bytes[chunk.at as usize..][..chunk.stored as usize];
        archive::check_chunk(&chunk, stored, &mut Vec::new()).unwrap();
    }
    Some(channel.image_version)
}
