//! A store that could not renew its metadata: how long what it serves is believed after it has expired.

use crate::shop::Shop;
use contracts::manifest::Staleness;
use firstboot_agent::{
    install::{
        freshness::{Clock, Expired},
        repository::Repository,
        source::Source,
    },
    net::client::Netboot,
};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// So many days ago, as metadata has it.
fn days_ago(days: i64) -> &'static str {
    let time = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap() - Duration::days(days);
    time.format(&Rfc3339).unwrap().leak()
}

/// A store whose timestamp and snapshot expired so many days ago, for an image that allows so many.
async fn shop(expired_days_ago: i64, allowed: u16) -> Shop {
    let mut shop = Shop::new().await;
    shop.signer.fresh = Some(days_ago(expired_days_ago));
    shop.floor.staleness = Staleness { max_age_days: allowed };
    shop.publish(6, &shop.manifest);
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_its_line_goes_on_installing_for_as_long_as_the_image_allows() {
    let within = shop(5, 7).await;
    let outcome = within.install("", None).await;
    outcome.result.unwrap();
    assert_eq!(outcome.disk, within.source());
    for (expired, allowed, days) in [(8, 7, "for 7 days"), (1, 0, "for 0 days"), (91, u16::MAX, "for 90 days")] {
        let outcome = shop(expired, allowed).await.install("", None).await;
        let error = outcome.error();
        assert!(
            error.contains("timestamp or snapshot expired") && error.contains(days),
            "{expired} {allowed}: {error}"
        );
        assert!(outcome.result.unwrap_err().is::<Expired>(), "it has its own code");
        assert!(outcome.disk.is_empty(), "nothing was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_end_when_they_say() {
    let mut shop = shop(1, 30).await;
    shop.signer.expires = days_ago(1);
    shop.publish(6, &shop.manifest);
    let error = shop.install("", None).await.error();
    assert!(error.contains("role targets expired"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_state_is_refused_however_it_is_dated() {
    let shop = shop(1, 30).await;
    shop.publish(4, &shop.manifest);
    let error = shop.install("", None).await.error();
    assert!(error.contains("knows version 5"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_time_is_known_for_certain_nothing_expired_is_believed() {
    let shop = shop(1, 30).await;
    let base = shop.serve().await;
    let source = Source::Store(Netboot::new(&base).unwrap());
    let now = OffsetDateTime::now_utc();
    let root = shop.signer.root();
    let load = |clock| Repository::load_at(&source, &root, &shop.floor, clock);
    let without = load(Clock { now, authenticated: None }).await.unwrap();
    assert!(without.stale().is_some_and(|stale| stale.until > now.unix_timestamp()));
    let error = load(Clock { now, authenticated: Some(now) }).await.unwrap_err();
    assert!(error.to_string().contains("by the region's own time"), "{error}");
    // A clock that was set back does not help.
    let early = Clock { now: now - Duration::days(30), authenticated: Some(now) };
    assert!(load(early).await.unwrap_err().is::<Expired>());
}
