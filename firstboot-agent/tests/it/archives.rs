//! The chunked archive: its header, its chunks, and chunks that swell.

use crate::shop::{Lie, Shop, pack};

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_the_header_is_found_before_anything_parses_it() {
    let shop = Shop::new().await;
    let last = i64::try_from(shop.manifest.archive.header_bytes).unwrap() - 1;
    for at in [0, 20, last] {
        let outcome = shop.install(".bita", Some(Lie::Flip(at))).await;
        let error = outcome.error();
        assert!(error.contains("header of") && error.contains(&shop.manifest.archive.path), "byte {at}: {error}");
        assert!(outcome.disk.is_empty(), "nothing was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_a_chunk_names_file_and_chunk() {
    let shop = Shop::new().await;
    let header = i64::try_from(shop.manifest.archive.header_bytes).unwrap();
    // The first byte of the first chunk, one in the middle, and the last of the last chunk.
    for at in [header, header + 100_000, -1] {
        let error = shop.install(".bita", Some(Lie::Flip(at))).await.error();
        assert!(error.contains(&shop.manifest.archive.path) && error.contains("chunk "), "byte {at}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_swells_is_cut_off_at_its_declared_size() {
    let shop = Shop::new().await;
    let archive = std::fs::read(shop.path(&shop.manifest.archive.path)).unwrap();
    let header = usize::try_from(shop.manifest.archive.header_bytes).unwrap();
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 512 << 20), 1).unwrap();
    // A bomb of half a gigabyte of zeros behind the signed header: in the place of the last compressed chunk, which begins
    // with zstd's magic number, and at the beginning, over many chunks of which any may be the first to be found out.
    let last = archive.windows(4).rposition(|bytes| bytes == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    for (start, complaint) in [(last, "does not unpack to the "), (header, "chunk ")] {
        let mut forged = archive.clone();
        let end = forged.len().min(start + bomb.len());
        forged[start..end].copy_from_slice(&bomb[..end - start]);
        let before = peak_memory();
        let error = shop.install(".bita", Some(Lie::Replace(forged))).await.error();
        assert!(error.contains("chunk ") && error.contains(complaint), "{error}");
        assert!(peak_memory() - before < 256 << 20, "memory grew by {} MiB", (peak_memory() - before) >> 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_another_size_than_the_manifest_says_is_refused() {
    let shop = Shop::new().await;
    let other = pack(&vec![1; 100_000], &shop.path("other")).await;
    std::fs::rename(shop.path("other"), shop.path(&other.path)).unwrap();
    let manifest = contracts::manifest::ImageManifest { archive: other, ..shop.manifest.clone() };
    shop.publish(6, &manifest);
    let error = shop.install("", None).await.error();
    assert!(error.contains("100000") && error.contains("manifest"), "{error}");
}

/// The most memory that this process ever held, in bytes (proc(5), VmHWM).
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}
