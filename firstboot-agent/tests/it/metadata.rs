//! Flipped bytes in the files of TUF's roles.

use crate::shop::{Lie, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_store_is_believed() {
    let shop = Shop::new().await;
    let outcome = shop.install("", None).await;
    outcome.result.unwrap();
    assert_eq!(outcome.disk, shop.source());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_names_its_role() {
    let shop = Shop::new().await;
    for (file, role) in
        [("timestamp.json", "role timestamp"), ("5.snapshot.json", "role snapshot"), ("5.targets.json", "role targets")]
    {
        let length = i64::try_from(std::fs::read(shop.path(&format!("metadata/{file}"))).unwrap().len()).unwrap();
        // In the middle, in the signature or what is signed, and the last brace.
        for at in [0, length / 3, length / 2, length - 1] {
            let outcome = shop.install(file, Some(Lie::Flip(at))).await;
            let error = outcome.error();
            assert!(error.contains(role) && error.contains(file), "byte {at}: {error}");
            assert!(outcome.disk.is_empty(), "nothing was written");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_next_root_names_its_role() {
    let shop = Shop::new().await;
    let own = std::fs::read(shop.path("metadata/1.root.json")).unwrap();
    std::fs::write(shop.path("metadata/2.root.json"), &own).unwrap();
    let error = shop.install("2.root.json", Some(Lie::Flip(200))).await.error();
    assert!(error.contains("role root") && error.contains("2.root.json"), "{error}");
}
