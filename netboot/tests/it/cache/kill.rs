//! SIGKILL at random moments, and a disk that takes no more: what the cache serves is whole, and the old state or the new.

use super::{TEMPLATE, images::whole, mirroring, store};
use crate::common::World;
use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

fn serve(world: &World, shell: &str) -> Child {
    let config = world.write_config();
    let program = env!("CARGO_BIN_EXE_netboot");
    let script = format!("{shell}exec '{program}' serve --config '{}'", config.display());
    let log = std::fs::OpenOptions::new().append(true).create(true).open(world.folder.path().join("log")).unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap()
}

/// Random waits; the seed is printed so that a failure can be looked at again.
struct Waits(u64);

impl Waits {
    fn new() -> Self {
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
        eprintln!("seed of the waits: {seed}");
        Self(seed)
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        most.mul_f64((self.0 % 10_000) as f64 / 10_000.0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_serves_the_old_or_the_new_and_goes_on() {
    let (world, upstream, mut images) = store("").await;
    let (cache, root) = (world.folder.path().join("cache"), world.repository.root_json());
    let (mut waits, mut version, mut published) = (Waits::new(), 1, 1);
    let (mut kills, mut old, mut new, mut resumed) = (0, 0, 0, 0);
    // On a quick machine seven images may come without an unlucky moment.
    while version < 8 || old == 0 || resumed == 0 {
        // So slow that most of the time something is under way.
        upstream.faults().slow = Some(Duration::from_millis(4));
        let mut child = serve(&world, "");
        tokio::time::sleep(waits.up_to(Duration::from_millis(1200))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 120, "it never comes to version {published}");
        let now = whole(&cache, &root, TEMPLATE).await.map_or(0, |version| version.parse::<u64>().unwrap());
        assert!(now == version - u64::from(now < version) && now <= published, "{now}, not {version}");
        if now == published {
            new += 1;
            version = published + 1;
            published += 1;
            images.add(TEMPLATE, &published.to_string(), published * 15..published * 15 + 20);
            images.channel(TEMPLATE, &published.to_string());
            images.publish(&world.repository, published);
        } else {
            old += 1;
            resumed += std::fs::read_dir(cache.join(".partial")).map_or(0, Iterator::count);
        }
    }
    eprintln!("killed {kills} times: {old} old, {new} new, {resumed} partial files left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_is_named_and_nothing_half_is_served() {
    let (world, _upstream, _images) = store("").await;
    // No file may be larger than 256 KiB: the boot image does not fit.
    let mut child = serve(&world, "ulimit -f 512; trap '' XFSZ; ");
    let log = || std::fs::read_to_string(world.folder.path().join("log")).unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(30);
    while !log().contains("the cache is not complete") {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "{}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(log().contains("cannot write"), "{}", log());
    let (cache, root) = (world.folder.path().join("cache"), world.repository.root_json());
    assert_eq!(whole(&cache, &root, TEMPLATE).await, None);
    // With room it goes on where it was.
    let mut child = serve(&world, "");
    while whole(&cache, &root, TEMPLATE).await.is_none() {
        assert!(Instant::now() < end, "{}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_does_not_take_over_a_folder_that_something_else_syncs() {
    let mut world = mirroring(&[], "");
    world.serves = "repository: repository";
    world.more = "upstreams: ['http://127.0.0.1:9/']\n".into();
    let mut child = serve(&world, "");
    assert!(!child.wait().unwrap().success());
    let log = std::fs::read_to_string(world.folder.path().join("log")).unwrap();
    assert!(log.contains("something else has synced"), "{log}");
}
