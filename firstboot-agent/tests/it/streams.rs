//! Files that are too long, and streams without an end: reading stops at what was signed or allowed.

use crate::shop::{Lie, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_stream_is_left() {
    let shop = Shop::new().await;
    for (file, words) in [
        ("timestamp.json", "role timestamp"),
        ("5.snapshot.json", "role snapshot"),
        ("5.targets.json", "role targets"),
        ("manifest.json", "target images/k8s-worker/1/manifest.json"),
        (".bita", "the header of"),
    ] {
        let outcome = shop.install(file, Some(Lie::Endless)).await;
        let error = outcome.error();
        assert!(error.contains(words), "{file}: {error}");
        assert!(outcome.sent < 40 << 20, "{file}: {} MiB were taken", outcome.sent >> 20);
        assert!(outcome.disk.is_empty(), "{file}: nothing was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_role_is_refused() {
    let shop = Shop::new().await;
    let error = shop.install("timestamp.json", Some(Lie::Append(2 << 20))).await.error();
    assert!(error.contains("role timestamp") && error.contains("size"), "{error}");
}
