//! Without a disk for a cache.

use super::{TEMPLATE, images::uki, store, upstream::Upstream};
use crate::common::{World, until};
use contracts::{manifest::ImageManifest, repository, status::CacheState};
use sha2::{Digest, Sha256};
use std::path::Path;

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            if path.is_symlink() {
                0
            } else if path.is_dir() {
                bytes_below(&path)
            } else {
                path.metadata().map_or(0, |found| found.len())
            }
        })
        .sum()
}

async fn diskless() -> (World, Upstream, super::Images) {
    let (mut world, upstream, mut images) = store("").await;
    world.serves = "";
    images.add(TEMPLATE, "large-1", 0..150);
    images.channel(TEMPLATE, "large-1");
    images.publish(&world.repository, 2);
    (world, upstream, images)
}

#[tokio::test(flavor = "multi_thread")]
async fn images_come_through_from_the_region_and_stay_nowhere() {
    let (world, upstream, images) = diskless().await;
    let netboot = world.start().await;
    netboot.boots("large-1").await;
    until(|| netboot.cache().state == CacheState::Complete).await;
    let status = netboot.cache();
    assert!(!status.on_disk && status.message.contains("about") && status.message.contains("minutes"), "{status:?}");
    // The boot image is in memory: what is asked for twice is fetched once.
    upstream.sent();
    let name = format!("images/{TEMPLATE}/large-1/uki.efi");
    let [_, path] = repository::target_paths(&name, &hex::encode(Sha256::digest(uki(TEMPLATE, "large-1"))));
    for url in [format!("/repo/{path}"), "/boot/k8s-worker.efi".to_owned()] {
        let got = netboot.client.get(netboot.url(&url)).send().await.unwrap().bytes().await.unwrap();
        assert!(got == uki(TEMPLATE, "large-1"), "{url}");
    }
    // It may look for news meanwhile; that is a timestamp, and not the image.
    let again = upstream.sent();
    assert!(again < uki(TEMPLATE, "large-1").len() as u64, "{again} bytes were fetched again");
    // The archive is not kept; a line that breaks is taken up again, a machine that asks for the rest gets the rest.
    let manifest = format!("images/{TEMPLATE}/large-1/manifest.json");
    let archive =
        images.archives.iter().find(|(_, bytes)| bytes.len() as u64 == images.archive_bytes(TEMPLATE, "large-1"));
    let (path, bytes) = archive.unwrap();
    upstream.faults().cuts = (2, 200_000);
    let url = netboot.url(&format!("/repo/{path}"));
    let got = netboot.client.get(&url).send().await.unwrap();
    assert_eq!(got.content_length(), Some(bytes.len() as u64));
    let etag = got.headers()["etag"].clone();
    assert!(got.bytes().await.unwrap() == *bytes);
    assert!(upstream.asked("archives/").len() >= 3);
    let rest = netboot.client.get(&url).header("range", "bytes=100000-").header("if-range", etag).send().await.unwrap();
    assert_eq!(rest.status(), 206);
    assert!(rest.bytes().await.unwrap() == bytes[100_000..]);
    let part = netboot.client.get(&url).header("range", "bytes=5-9").send().await.unwrap();
    assert!(part.bytes().await.unwrap() == bytes[5..10]);
    // Small things are with the state, and nothing else.
    let kept = bytes_below(world.folder.path().join("state/repository").as_path());
    assert!(kept < 200_000 && ImageManifest::target_name(TEMPLATE, "large-1") == manifest, "{kept}");
    // What is not this store's is not passed through.
    let other = images.archives.keys().find(|other| *other != path).unwrap();
    let refused = netboot.client.get(netboot.url(&format!("/repo/{other}"))).send().await.unwrap();
    assert_eq!(refused.status(), 404);
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_image_that_is_not_the_signed_one_is_never_offered() {
    let (mut world, good, _images) = diskless().await;
    let liar = Upstream::start(world.repository.folder.clone()).await;
    liar.faults().lies_about = Some("uki.efi");
    world.more = format!("upstreams: ['{}']\ncheckEvery: 1s\n", liar.url);
    let netboot = world.start().await;
    until(|| netboot.cache().upstreams[0].problem.as_ref().is_some_and(|text| text.contains("signed"))).await;
    assert!(netboot.running.shared.boot.get("k8s-worker.efi").is_none());
    netboot.stop().await;
    world.more = format!("upstreams: ['{}', '{}']\ncheckEvery: 1s\n", liar.url, good.url);
    let netboot = world.start().await;
    netboot.boots("large-1").await;
    netboot.stop().await;
}
