//! A mirror that serves an older state, validly signed.

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_state_below_the_floor_is_refused() {
    let shop = Shop::new().await;
    shop.publish(4, &shop.manifest);
    let outcome = shop.install("", None).await;
    let error = outcome.error();
    assert!(error.contains("version 4 of the role timestamp") && error.contains("knows version 5"), "{error}");
    assert!(outcome.disk.is_empty(), "nothing was written");
    shop.publish(6, &shop.manifest);
    shop.install("", None).await.result.unwrap();
}
