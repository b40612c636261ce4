//! The same repository on a medium: believed no more than a store's, except that nobody can say how old it may be.

use crate::shop::Shop;
use contracts::manifest::Archive;
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn a_medium_installs_what_a_store_installs() {
    let shop = Shop::new().await;
    let outcome = shop.install_from_medium().await;
    outcome.result.unwrap();
    assert_eq!(outcome.disk, shop.source());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_on_a_medium_stops_the_install() {
    let shop = Shop::new().await;
    let archive = shop.manifest.archive.path.clone();
    let header = usize::try_from(shop.manifest.archive.header_bytes).unwrap();
    for (file, at, complaint) in [
        ("metadata/timestamp.json", 40, "role timestamp"),
        ("metadata/5.targets.json", 40, "role targets"),
        (archive.as_str(), 30, "header of"),
        (archive.as_str(), header + 9, "chunk "),
    ] {
        let path = shop.path(file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        let error = shop.install_from_medium().await.error();
        assert!(error.contains(complaint), "{file}: {error}");
        fs::write(&path, &good).unwrap();
    }
    fs::write(shop.path(&archive), &fs::read(shop.path(&archive)).unwrap()[..header + 100]).unwrap();
    // Waits a little before each of its tries, as for a connection that breaks.
    let error = shop.install_from_medium().await.error();
    assert!(error.contains("ended early"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_state_is_refused_from_a_store_and_taken_from_a_medium() {
    let mut shop = Shop::new().await;
    shop.signer.expires = "2020-01-01T00:00:00Z";
    shop.publish(5, &shop.manifest);
    let error = shop.install("", None).await.error();
    assert!(error.contains("expired"), "{error}");
    shop.install_from_medium().await.result.unwrap();
    shop.publish(4, &shop.manifest);
    let error = shop.install_from_medium().await.error();
    assert!(error.contains("knows version 5"), "below the floor: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_of_the_repository_is_read() {
    let mut shop = Shop::new().await;
    let path = format!("../{}", shop.path("archives").file_name().unwrap().display());
    shop.manifest.archive = Archive { path, ..shop.manifest.archive.clone() };
    shop.publish(6, &shop.manifest);
    let error = shop.install_from_medium().await.error();
    assert!(error.contains("no path inside the repository"), "{error}");
}
