//! Flipped bytes in what TUF signs: the manifest, the channel, the boot image.

use crate::shop::{Lie, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_names_its_target() {
    let shop = Shop::new().await;
    for name in ["channels/k8s-worker/stable.json", "images/k8s-worker/1/manifest.json", "images/k8s-worker/1/uki.efi"]
    {
        for at in [0, -1] {
            let error = shop.install(name, Some(Lie::Flip(at))).await.error();
            assert!(error.contains(&format!("target {name}")), "byte {at}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_grew_is_cut_off() {
    let shop = Shop::new().await;
    let outcome = shop.install("manifest.json", Some(Lie::Append(50 << 20))).await;
    let error = outcome.error();
    assert!(error.contains("target images/k8s-worker/1/manifest.json"), "{error}");
    assert!(outcome.disk.is_empty(), "nothing was written");
}
