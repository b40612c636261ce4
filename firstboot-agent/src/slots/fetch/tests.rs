use super::*;
use bitar::{
    chunk_dictionary::{
        ChunkCompression, ChunkDescriptor, ChunkDictionary, ChunkerParameters, chunk_compression::CompressionType,
        chunker_parameters::ChunkingAlgorithm,
    },
    header,
};
use contracts::manifest::{Archive, Root};
use std::path::PathBuf;

/// Bytes that do not repeat.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        out.extend(seed.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// An archive of `source`, cut as image-builder cuts; zstd for every second chunk.
fn archive_of(source: &[u8], folder: &Path) -> Archive {
    let mut descriptors: Vec<ChunkDescriptor> = Vec::new();
    let (mut order, mut body, mut known) = (Vec::new(), Vec::new(), HashMap::new());
    for segment in source.chunks(SEGMENT) {
        futures_util::FutureExt::now_or_never(async {
            let mut chunks = archive::chunker().new_chunker(segment);
            while let Some(Ok((_, chunk))) = chunks.next().await {
                let hash = Blake2b512::digest(chunk.data())[..HASH_BYTES].to_vec();
                let index = *known.entry(hash.clone()).or_insert_with(|| {
                    let packed = zstd::encode_all(chunk.data(), 3).unwrap();
                    let stored = if packed.len() < chunk.len() { packed } else { chunk.data().to_vec() };
                    descriptors.push(ChunkDescriptor {
                        checksum: hash,
                        archive_size: stored.len() as u32,
                        archive_offset: body.len() as u64,
                        source_size: chunk.len() as u32,
                    });
                    body.extend(stored);
                    descriptors.len() as u32 - 1
                });
                order.push(index);
            }
        })
        .unwrap();
    }
    let dictionary = ChunkDictionary {
        application_version: "test".into(),
        source_checksum: Blake2b512::digest(source).to_vec(),
        source_total_size: source.len() as u64,
        chunker_params: Some(ChunkerParameters {
            chunking_algorithm: ChunkingAlgorithm::Rollsum as i32,
            chunk_hash_length: HASH_BYTES as u32,
            ..ChunkerParameters::default()
        }),
        chunk_compression: Some(ChunkCompression { compression: CompressionType::Zstd as i32, compression_level: 3 }),
        rebuild_order: order,
        chunk_descriptors: descriptors,
        ..ChunkDictionary::default()
    };
    let header = header::build(&dictionary, None).unwrap();
    let path = "archives/test.bita".to_owned();
    std::fs::create_dir_all(folder.join("archives")).unwrap();
    std::fs::write(folder.join(&path), [header.clone(), body].concat()).unwrap();
    let bytes = std::fs::metadata(folder.join(&path)).unwrap().len();
    Archive { path, header_bytes: header.len() as u64, header_sha256: hex::encode(Sha256::digest(&header)), bytes }
}

fn manifest(archive: Archive, data_bytes: u64, hash_bytes: u64) -> ImageManifest {
    ImageManifest {
        version: 1,
        template: "t".into(),
        image_version: "2".into(),
        architecture: "x86_64".into(),
        root: Root { data_bytes, hash_bytes, root_hash: "ab".repeat(32) },
        archive,
        uki: String::new(),
        boot_loader: String::new(),
        registrar_ca: String::new(),
        bios: None,
        disks: contracts::disks::DiskPolicy::default(),
        state: Default::default(),
    }
}

struct Shop {
    folder: tempfile::TempDir,
    new: Vec<u8>,
    manifest: ImageManifest,
}

const DATA: u64 = 12 << 20;
const TREE: u64 = 1 << 20;

impl Shop {
    /// The old root is 13 MiB of noise; in the new one 300 KiB are inserted at a place.
    fn new() -> (Self, Stream) {
        let folder = tempfile::tempdir().unwrap();
        let old = noise((DATA + TREE) as usize, 7);
        let mut new = old.clone();
        let inserted = noise(300 << 10, 9);
        new.splice((5 << 20)..(5 << 20), inserted);
        new.truncate((DATA + TREE) as usize);
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("data"), &old[..DATA as usize]).unwrap();
        std::fs::write(path("tree"), &old[DATA as usize..]).unwrap();
        for name in ["new-data", "new-tree"] {
            File::create(path(name)).unwrap().set_len(16 << 20).unwrap();
        }
        let open = |name: &str| File::open(path(name)).unwrap();
        let running = Stream { data: open("data"), tree: open("tree"), data_bytes: DATA, bytes: DATA + TREE };
        let manifest = manifest(archive_of(&new, folder.path()), DATA, TREE);
        (Self { folder, new, manifest }, running)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn fill(&self, running: &Stream) -> Result<Moved> {
        let slot = Stream::to_write(&self.path("new-data"), &self.path("new-tree"), &self.manifest).unwrap();
        let source = Source::Folder(self.folder.path().to_owned());
        fill(&source, &self.manifest, running, &slot, &|_, _| ()).await
    }

    fn is_there(&self) -> bool {
        let data = std::fs::read(self.path("new-data")).unwrap();
        let tree = std::fs::read(self.path("new-tree")).unwrap();
        data[..DATA as usize] == self.new[..DATA as usize] && tree[..TREE as usize] == self.new[DATA as usize..]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_neither_slot_has_is_fetched() {
    let (shop, running) = Shop::new();
    let moved = shop.fill(&running).await.unwrap();
    assert!(shop.is_there());
    assert_eq!(moved.kept, 0);
    // What was inserted, and the chunks at its ends; not those at the ends of the segments behind it.
    assert!(moved.fetched < 900 << 10 && moved.copied > 12 << 20, "{moved:?}");

    // Cut off: what was written is not moved again.
    let cut = OpenOptions::new().write(true).open(shop.path("new-data")).unwrap();
    cut.write_all_at(&vec![0; 1 << 20], 8 << 20).unwrap();
    let again = shop.fill(&running).await.unwrap();
    assert!(shop.is_there());
    assert!(again.fetched < 512 << 10 && again.copied < 2 << 20 && again.kept > 11 << 20, "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_match_is_not_written() {
    let (shop, running) = Shop::new();
    let path = shop.path(&shop.manifest.archive.path);
    let mut bytes = std::fs::read(&path).unwrap();
    let header = shop.manifest.archive.header_bytes as usize;
    bytes[header..].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(&path, &bytes).unwrap();
    let slot = Stream::to_write(&shop.path("new-data"), &shop.path("new-tree"), &shop.manifest).unwrap();
    let read = archive::read_header(&bytes[..header]).unwrap();
    let places = places(&read);
    let (missing, _) =
        take_from_disk(&read, &places, &beside(&read, &index(&running).unwrap(), &running), &running, &slot).unwrap();
    let groups = group(&read.chunks, &missing);
    let source = Source::Folder(shop.folder.path().to_owned());
    let error = fetch_group(&source, &shop.manifest, &read, &places, &groups[0], &slot).await.unwrap_err();
    assert!(format!("{error:#}").contains("chunk "), "{error:#}");
    assert!(!shop.is_there());
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = shop.fill(&running).await.unwrap_err();
    assert!(format!("{error:#}").contains("signed"), "{error:#}");
}

#[test]
fn requests_join_what_lies_close_and_stay_small() {
    let chunk = |at, stored| Chunk { at, stored, size: 1, hash: vec![], packed: true };
    let far = 10 << 20;
    let chunks = [chunk(0, 100), chunk(100, 100), chunk(200, 100), chunk(200 + far, 5), chunk(300 + far, 7 << 20)];
    let groups = group(&chunks, &[0, 2, 3, 4]);
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert_eq!((groups[0].start, groups[0].end, groups[0].chunks.as_slice()), (0, 300, &[0, 2][..]));
    assert_eq!(groups[1].chunks, [3, 4]);
    assert!(group(&chunks, &[]).is_empty());
}
