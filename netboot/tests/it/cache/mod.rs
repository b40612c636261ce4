//! The cache, against real web servers on the loopback that are broken in turn.

pub(crate) mod images;
mod kill;
mod passed;
pub(crate) mod upstream;

use crate::common::{Netboot, World, assignments, until};
use contracts::{
    rollout::{Ring, Rollout},
    status::{CacheState, CacheStatus},
};
use images::{Images, uki, whole};
use std::time::Duration;
use time::OffsetDateTime;
use upstream::Upstream;

const TEMPLATE: &str = "k8s-worker";

/// A world whose netboot mirrors from these upstreams, with one machine assigned.
fn mirroring(upstreams: &[&Upstream], more: &str) -> World {
    let mut world = World::new();
    world.know(assignments(1, 1));
    world.serves = "repository: cache";
    let list: Vec<_> = upstreams.iter().map(|upstream| upstream.url.as_str()).collect();
    world.more = format!("upstreams: [{}]\ncheckEvery: 1s\n{more}", list.join(", "));
    world
}

/// A world with one upstream that serves its repository, and version 1 of an image of 20 chunks.
pub(crate) async fn store(more: &str) -> (World, Upstream, Images) {
    let upstream = Upstream::start("/nonexistent".into()).await;
    let world = mirroring(&[&upstream], more);
    let mut images = Images::default();
    images.add(TEMPLATE, "1", 0..20);
    images.add("other", "1", 100..120);
    images.channel(TEMPLATE, "1");
    images.channel("other", "1");
    images.publish(&world.repository, 1);
    upstream.serve(world.repository.folder.clone());
    (world, upstream, images)
}

impl Netboot {
    fn cache(&self) -> CacheStatus {
        self.running.shared.status().cache.unwrap()
    }

    async fn boots(&self, version: &str) {
        let boot = || self.running.shared.boot.get("k8s-worker.efi");
        until(|| boot().is_some_and(|file| file.version == version)).await;
        assert_eq!(boot().unwrap().content.to_bytes().unwrap(), uki(TEMPLATE, version));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_needs_is_mirrored_verified_and_served() {
    let (world, upstream, images) = store("").await;
    let netboot = world.start().await;
    netboot.boots("1").await;
    let cache = world.folder.path().join("cache");
    assert_eq!(whole(&cache, &world.repository.root_json(), TEMPLATE).await.unwrap(), "1");
    // As the agent asks, with names that tough makes.
    let (path, bytes) = images.archives.iter().next().unwrap();
    let paths: Vec<_> = images.archives.keys().filter(|path| cache.join(path).exists()).collect();
    assert_eq!(paths.len(), 1, "the other template's archive is nobody's here");
    let served = netboot.client.get(netboot.url(&format!("/repo/{}", paths[0]))).send().await.unwrap();
    assert_eq!(served.bytes().await.unwrap(), images.archives[paths[0]]);
    assert!(images.archives[path] == *bytes);
    for never in ["sbom", "other"] {
        assert!(upstream.asked(never).is_empty(), "{never}");
    }
    let hidden = netboot.client.get(netboot.url("/repo/.generations/1/timestamp.json")).send().await.unwrap();
    assert_eq!(hidden.status(), 404);
    let timestamp = netboot.client.get(netboot.url("/repo/metadata/timestamp.json")).send().await.unwrap();
    assert_eq!(timestamp.status(), 200);
    until(|| netboot.cache().state == CacheState::Complete).await;
    let status = netboot.cache();
    assert!(status.images.len() == 1 && status.images[0].complete && status.version == Some(1), "{status:?}");
    netboot.stop().await;

    // The line is down, and netboot starts again.
    upstream.faults().status = Some(503);
    upstream.sent();
    let netboot = world.start().await;
    netboot.boots("1").await;
    until(|| netboot.cache().upstreams.iter().any(|upstream| upstream.problem.is_some())).await;
    assert_eq!(netboot.cache().state, CacheState::Complete);
    assert_eq!(upstream.sent(), 0);
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_served_when_all_of_it_is_here_and_only_its_new_chunks_are_fetched() {
    let (world, upstream, mut images) = store("").await;
    let netboot = world.start().await;
    netboot.boots("1").await;
    upstream.sent();
    // 2 of 60 chunks are new, the others are in the archive that is here.
    images.add(TEMPLATE, "2", (0..20).chain([500, 501]));
    images.channel(TEMPLATE, "2");
    upstream.faults().lacks = Some("uki.efi");
    images.publish(&world.repository, 2);
    until(|| netboot.cache().upstreams[0].problem.as_ref().is_some_and(|problem| problem.contains("uki"))).await;
    let archive = images.archive_bytes(TEMPLATE, "2");
    let sent = upstream.sent();
    assert!(sent < archive / 4, "{sent} of {archive}");
    let served = || async {
        let text = netboot.client.get(netboot.url("/repo/metadata/timestamp.json")).send().await.unwrap();
        text.json::<serde_json::Value>().await.unwrap()["signed"]["version"].as_u64().unwrap()
    };
    assert_eq!(served().await, 1, "not before all of it is here");
    netboot.boots("1").await;
    upstream.faults().lacks = None;
    netboot.boots("2").await;
    assert_eq!(served().await, 2);
    let cache = world.folder.path().join("cache");
    assert_eq!(whole(&cache, &world.repository.root_json(), TEMPLATE).await.unwrap(), "2");
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_broke_off_goes_on_where_it_was() {
    for no_ranges in [false, true] {
        let (world, upstream, images) = store("").await;
        upstream.faults().cuts = (3, 120_000);
        upstream.faults().no_ranges = no_ranges;
        let netboot = world.start().await;
        netboot.boots("1").await;
        let cache = world.folder.path().join("cache");
        assert_eq!(whole(&cache, &world.repository.root_json(), TEMPLATE).await.unwrap(), "1");
        let resumed = upstream.asked("uki.efi").into_iter().chain(upstream.asked("archives/"));
        assert!(resumed.filter(|asked| asked.range.as_deref().is_some_and(|range| range != "bytes=0-")).count() >= 3);
        if !no_ranges {
            let (sent, all) = (upstream.sent(), images.archive_bytes(TEMPLATE, "1") + uki(TEMPLATE, "1").len() as u64);
            assert!(sent < all * 5 / 4, "{sent} of {all}: little was fetched twice");
            let tagged = upstream.asked("uki.efi").iter().any(|asked| asked.if_range.is_some());
            assert!(tagged || upstream.asked("uki.efi").len() == 1);
        }
        netboot.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_lies_is_named_and_another_one_asked() {
    for lie in ["uki.efi", "archives/", "manifest.json", "timestamp.json", "targets.json"] {
        let (mut world, good, _images) = store("").await;
        let liar = Upstream::start(world.repository.folder.clone()).await;
        liar.faults().lies_about = Some(lie);
        world.more = format!("upstreams: ['{}', '{}']\ncheckEvery: 1s\n", liar.url, good.url);
        let netboot = world.start().await;
        netboot.boots("1").await;
        let cache = world.folder.path().join("cache");
        assert_eq!(whole(&cache, &world.repository.root_json(), TEMPLATE).await.unwrap(), "1");
        until(|| netboot.cache().state == CacheState::Complete).await;
        let status = netboot.cache();
        let problem = status.upstreams[0].problem.clone().unwrap_or_else(|| panic!("{lie}: {status:?}"));
        assert!(problem.contains("signed") || problem.contains("its metadata"), "{problem}");
        assert_eq!(status.upstreams[1].problem, None);
        netboot.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_goes_back_is_not_followed() {
    let (world, upstream, mut images) = store("").await;
    let old = world.folder.path().join("old");
    copy(&world.repository.folder, &old);
    images.add(TEMPLATE, "2", 0..21);
    images.channel(TEMPLATE, "2");
    images.publish(&world.repository, 2);
    let netboot = world.start().await;
    netboot.boots("2").await;
    upstream.serve(old.clone());
    let problem = || netboot.cache().upstreams[0].problem.clone();
    until(|| problem().is_some_and(|text| text.contains("went back") || text.contains("older"))).await;
    netboot.boots("2").await;
    netboot.stop().await;
    // Also when netboot has forgotten everything but its folders.
    let netboot = world.start().await;
    netboot.boots("2").await;
    until(|| netboot.cache().upstreams[0].problem.is_some()).await;
    netboot.boots("2").await;
    netboot.stop().await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_shows_an_old_state_hides_no_new_one() {
    let (mut world, upstream, mut images) = store("").await;
    let frozen_folder = world.folder.path().join("frozen");
    world.repository.expires("2020-01-01T00:00:00Z");
    images.publish(&world.repository, 1);
    copy(&world.repository.folder, &frozen_folder);
    world.repository.expires("2099-01-01T00:00:00Z");
    images.add(TEMPLATE, "2", 0..21);
    images.channel(TEMPLATE, "2");
    images.publish(&world.repository, 2);
    let frozen = Upstream::start(frozen_folder).await;
    world.more = format!("upstreams: ['{}', '{}']\ncheckEvery: 1s\n", frozen.url, upstream.url);
    let netboot = world.start().await;
    netboot.boots("2").await;
    until(|| netboot.cache().upstreams[0].problem.as_ref().is_some_and(|text| text.contains("expired"))).await;
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_said_and_what_is_assigned_stays() {
    let (mut world, _upstream, mut images) = store("").await;
    let bytes = images.archive_bytes(TEMPLATE, "1") + 700_000;
    world.more.push_str(&format!("cacheSize: {bytes}\n"));
    let netboot = world.start().await;
    netboot.boots("1").await;
    images.add(TEMPLATE, "2", 200..230);
    images.channel(TEMPLATE, "2");
    images.publish(&world.repository, 2);
    until(|| netboot.cache().state == CacheState::Full).await;
    let message = netboot.cache().message;
    assert!(message.contains("cacheSize") && message.contains("k8s-worker 2"), "{message}");
    netboot.boots("1").await;
    let cache = world.folder.path().join("cache");
    assert_eq!(whole(&cache, &world.repository.root_json(), TEMPLATE).await.unwrap(), "1");
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_version_is_here_before_it_starts() {
    let (mut world, upstream, mut images) = store("").await;
    world.more.push_str("prefetch: {lead: 1h, spread: 0s}\n");
    images.add(TEMPLATE, "2", 0..22);
    let ring = Ring { after_hours: 0, percent: 100, stores: vec![] };
    let mut rollout = Rollout {
        version: 1,
        template: TEMPLATE.into(),
        channel: "stable".into(),
        image_version: "2".into(),
        start: OffsetDateTime::now_utc() + Duration::from_secs(3 * 3600),
        rings: vec![ring],
        window: None,
        halted: false,
    };
    images.rollout(&rollout);
    images.publish(&world.repository, 2);
    let netboot = world.start().await;
    netboot.boots("1").await;
    until(|| netboot.cache().images.len() == 2).await;
    let announced = || netboot.cache().images.into_iter().find(|image| image.version == "2").unwrap();
    assert!(announced().due.is_some_and(|due| due > OffsetDateTime::now_utc()) && !announced().complete);
    assert!(upstream.asked("/2/uki.efi").is_empty(), "not yet");
    rollout.start = OffsetDateTime::now_utc() + Duration::from_secs(3600);
    images.rollout(&rollout);
    images.publish(&world.repository, 3);
    until(|| announced().complete).await;
    netboot.boots("1").await;
    // The day has come, and the line is not needed for it.
    upstream.sent();
    images.channel(TEMPLATE, "2");
    images.publish(&world.repository, 4);
    netboot.boots("2").await;
    assert!(upstream.sent() < 40_000);
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_and_a_waiting_machine_has_its_own() {
    let (mut world, upstream, images) = store("").await;
    world.more.push_str("bandwidth: {limit: 800kbit/s, waiting: none}\n");
    let begin = std::time::Instant::now();
    let netboot = world.start().await;
    until(|| netboot.cache().fetching.is_some_and(|fetching| fetching.rate > 0)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (sent, seconds) = (upstream.sent(), begin.elapsed().as_secs_f64());
    let fetched = netboot.running.shared.cache.as_ref().unwrap().limiter.fetched();
    assert!((fetched as f64) < 100_000.0 * seconds + 200_000.0, "{fetched} in {seconds} s ({sent} sent)");
    let fetching = netboot.cache().fetching.unwrap();
    assert!(fetching.limit == Some(100_000) && fetching.eta_seconds.is_some_and(|eta| eta < 60), "{fetching:?}");
    assert!(netboot.running.shared.boot.current().problem.as_ref().unwrap().contains("being fetched"));
    assert!(images.archive_bytes(TEMPLATE, "1") > 150_000);
    netboot.running.shared.cache.as_ref().unwrap().machine_waits();
    let before = std::time::Instant::now();
    netboot.boots("1").await;
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_that_ended_are_used_for_as_long_as_the_policy_says_and_then_not_at_all() {
    let ended = |ago: Duration| {
        let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        let text = (OffsetDateTime::now_utc() - ago).format(&format).unwrap();
        &*Box::leak(text.into_boxed_str())
    };
    let (mut world, _upstream, images) = store("").await;
    world.repository.expires(ended(Duration::from_secs(3600)));
    images.publish(&world.repository, 2);
    world.more.push_str("staleMetadata: {maxAge: 0s}\n");
    let netboot = world.start().await;
    until(|| netboot.cache().upstreams[0].problem.as_ref().is_some_and(|text| text.contains("expired"))).await;
    assert!(netboot.running.shared.boot.get("k8s-worker.efi").is_none());
    netboot.stop().await;

    // Root and targets of these repositories expire with the others unless they are signed apart.
    world.repository.expires_apart("2099-01-01T00:00:00Z", ended(Duration::from_secs(3600)));
    images.publish(&world.repository, 3);
    let allowed = Duration::from_secs(3600) + Duration::from_secs(8);
    world.more = world.more.replace("maxAge: 0s", &format!("maxAge: {}s", allowed.as_secs()));
    let netboot = world.start().await;
    netboot.boots("1").await;
    until(|| netboot.cache().state == CacheState::Stale).await;
    assert!(netboot.cache().message.contains("still used until"), "{}", netboot.cache().message);
    // Nothing changes but the time.
    until(|| netboot.running.shared.boot.get("k8s-worker.efi").is_none()).await;
    let problem = netboot.running.shared.boot.current().problem.clone().unwrap();
    assert!(problem.contains("signed for no longer than") || problem.contains("expired"), "{problem}");
    until(|| netboot.cache().state == CacheState::Expired).await;
    // The region signs again, and all is well.
    world.repository.expires("2099-01-01T00:00:00Z");
    images.publish(&world.repository, 4);
    netboot.boots("1").await;
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fix_does_not_wait_for_what_is_being_fetched() {
    let (world, upstream, mut images) = store("").await;
    let netboot = world.start().await;
    netboot.boots("1").await;
    // Minutes of work.
    images.add(TEMPLATE, "2", 1000..1100);
    images.channel(TEMPLATE, "2");
    upstream.faults().slow = Some(Duration::from_millis(1500));
    images.publish(&world.repository, 2);
    until(|| netboot.cache().fetching.is_some_and(|fetching| fetching.what.contains(" 2"))).await;
    images.add(TEMPLATE, "3", 0..21);
    images.channel(TEMPLATE, "3");
    images.publish(&world.repository, 3);
    until(|| netboot.cache().fetching.is_some_and(|fetching| fetching.what.contains(" 3"))).await;
    upstream.faults().slow = None;
    netboot.boots("3").await;
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_every_upstream_and_keeps_nothing() {
    let (mut world, upstream, _images) = store("").await;
    let liar = Upstream::start(world.repository.folder.clone()).await;
    liar.faults().lies_about = Some("timestamp.json");
    world.more = format!("upstreams: ['{}', '{}']\n", liar.url, upstream.url);
    let check = || {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_netboot"));
        command.arg("check").arg("--config").arg(world.write_config());
        command
    };
    let output = check().output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("upstream") || line.starts_with("cache")).collect();
    assert!(lines.len() == 3 && lines[0].contains("does not verify"), "{text}");
    assert!(lines[1].ends_with("(version 1, verified)") && lines[2].ends_with("(empty)"), "{text}");
    assert!(!world.folder.path().join("cache").exists());
    upstream.faults().status = Some(500);
    let output = check().output().await.unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8(output.stderr).unwrap().contains("hint: look at the lines above"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_forgot_is_fetched_again() {
    let (world, upstream, images) = store("").await;
    let netboot = world.start().await;
    netboot.boots("1").await;
    until(|| netboot.cache().state == CacheState::Complete).await;
    netboot.stop().await;
    let cache = world.folder.path().join("cache");
    let rot = |path: &std::path::Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let at = bytes.len() - 1000;
        bytes[at] ^= 4;
        std::fs::write(path, bytes).unwrap();
    };
    let archive = std::fs::read_dir(cache.join("archives")).unwrap().next().unwrap().unwrap().path();
    let boot = cache.join("targets");
    let boot = std::fs::read_dir(boot).unwrap().map(|entry| entry.unwrap().path().join("k8s-worker/1/uki.efi"));
    let boot: Vec<_> = boot.filter(|path| path.exists()).collect();
    rot(&archive);
    rot(&boot[0]);
    upstream.sent();
    let netboot = world.start().await;
    netboot.boots("1").await;
    until(|| upstream.asked("archives/").len() >= 3).await;
    until(|| netboot.cache().state == CacheState::Complete && archive.exists()).await;
    assert_eq!(whole(&cache, &world.repository.root_json(), TEMPLATE).await.unwrap(), "1");
    let sent = upstream.sent();
    let all = images.archive_bytes(TEMPLATE, "1") + uki(TEMPLATE, "1").len() as u64;
    assert!(sent < uki(TEMPLATE, "1").len() as u64 + 60_000, "only the end of the archive: {sent} of {all}");
    netboot.stop().await;
}

/// What the fuzz target `cache` begins with is real: each seed is what its name says.
#[test]
fn the_seeds_of_the_fuzz_target_are_what_their_names_say() {
    use contracts::manifest::{Channel, ImageManifest};
    use tough::schema::{Root, Signed, Snapshot, Targets, Timestamp};
    let seed = |name: &str| std::fs::read(format!("{}/fuzz/seeds/cache/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let root: Signed<Root> = serde_json::from_slice(&seed("root")).unwrap();
    root.signed.verify_role(&root).unwrap();
    root.signed.verify_role(&serde_json::from_slice::<Signed<Timestamp>>(&seed("timestamp")).unwrap()).unwrap();
    root.signed.verify_role(&serde_json::from_slice::<Signed<Snapshot>>(&seed("snapshot")).unwrap()).unwrap();
    root.signed.verify_role(&serde_json::from_slice::<Signed<Targets>>(&seed("targets")).unwrap()).unwrap();
    let manifest: ImageManifest = contracts::read(&seed("manifest")).unwrap();
    assert!(!contracts::archive::read_header(&seed("archive")).unwrap().chunks.is_empty());
    assert_eq!(contracts::read::<Channel>(&seed("channel")).unwrap().image_version, manifest.image_version);
    contracts::read::<Rollout>(&seed("rollout")).unwrap();
}
