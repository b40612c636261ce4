//! SIGKILL at random moments: what is there afterwards verifies, is complete, and is the old state or the new one.

use crate::world::World;
use image_builder::repo::{
    chain,
    verify::{self, Selection},
};
use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{Duration, Instant},
};

/// Starts the program and kills it after this time. True when it was still running then.
fn killed_after(world: &World, arguments: &str, wait: Duration) -> bool {
    let mut child = world.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(wait);
    let running = child.try_wait().unwrap().is_none();
    // SIGKILL.
    let _ = child.kill();
    child.wait().unwrap();
    running
}

/// How long the program takes when it is left alone.
fn takes(world: &World, arguments: &str) -> Duration {
    let begin = Instant::now();
    world.good(arguments);
    begin.elapsed()
}

/// Everything is looked at, by the code behind `repo verify`.
async fn assert_whole(world: &World, repository: &str) {
    let (place, root) = (world.path(repository), world.path("keys/tuf/1.root.json"));
    let report = verify::verify(&place, &root, &Selection::default(), jiff::Timestamp::now()).await.unwrap();
    assert!(report.verified, "{:#?}", report.problems);
    chain::trusted(&std::fs::read(root).unwrap()).unwrap();
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

#[tokio::test]
async fn channels_and_renewals() {
    let world = World::new(&["1", "2"]).await;
    let typical = takes(&world, "repo channel set @repo till stable 1 --keys @keys");
    let (mut waits, mut seen, mut killed) = (Waits::new(), BTreeMap::<String, u32>::new(), 0);
    let mut before = "1".to_owned();
    for round in 0..60 {
        let wanted = if before == "1" { "2" } else { "1" };
        let command = match round % 3 {
            2 => "repo refresh @repo --keys @keys".to_owned(),
            _ => format!("repo channel set @repo till stable {wanted} --keys @keys"),
        };
        killed += u32::from(killed_after(&world, &command, waits.up_to(typical.mul_f64(1.3))));
        assert_whole(&world, "repo").await;
        let now = world.stable("repo");
        assert!(now == before || now == wanted, "{now}");
        *seen.entry(if now == before { "old" } else { "new" }.to_owned()).or_default() += 1;
        before = now;
    }
    eprintln!("killed {killed} of 60, {seen:?}");
    assert!(killed > 10 && seen.len() == 2, "killed {killed} of 60, {seen:?}");
}

#[tokio::test]
async fn publishing_an_image() {
    let world = World::new(&["1"]).await;
    world.build("staging", "2", 6_000_000).await;
    world.good("repo mirror @repo @trial --root @keys/tuf/1.root.json");
    let import = "repo import @REPO --from @staging --template till --version 2 --channel stable --keys @keys";
    let typical = takes(&world, &import.replace("REPO", "trial"));
    let (mut waits, mut killed, mut old, mut new) = (Waits::new(), 0, 0, 0);
    for round in 0..40 {
        let name = format!("round-{}", round / 4);
        if round % 4 == 0 {
            world.good(&format!("repo mirror @repo @{name} --root @keys/tuf/1.root.json"));
        }
        killed += u32::from(killed_after(&world, &import.replace("REPO", &name), waits.up_to(typical.mul_f64(1.2))));
        assert_whole(&world, &name).await;
        match world.stable(&name).as_str() {
            "1" => old += 1,
            "2" => new += 1,
            other => panic!("{other}"),
        }
        // What lies about is swept, and takes nothing with it.
        world.good(&format!("repo gc @{name} --root @keys/tuf/1.root.json --grace-hours 0"));
        assert_whole(&world, &name).await;
    }
    eprintln!("killed {killed} of 40: {old} old, {new} new");
    assert!(killed > 10 && old > 0, "killed {killed} of 40: {old} old, {new} new");
}

#[tokio::test]
async fn mirroring_and_cleaning_up() {
    let world = World::new(&["1", "2"]).await;
    world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    let (mut waits, mut killed) = (Waits::new(), 0);
    let mut typical = Duration::from_millis(150);
    for round in 0..30 {
        if round % 3 == 0 {
            world.build("repo", &format!("{}", round + 3), 2_000_000).await;
            let _ = std::fs::remove_dir_all(world.path("trial"));
            typical = takes(&world, "repo mirror @repo @trial --root @keys/tuf/1.root.json");
        }
        let command = match round % 3 {
            2 => "repo gc @copy --root @keys/tuf/1.root.json --grace-hours 0",
            _ => "repo mirror @repo @copy --root @keys/tuf/1.root.json",
        };
        killed += u32::from(killed_after(&world, command, waits.up_to(typical)));
        assert_whole(&world, "copy").await;
    }
    assert!(killed > 8, "killed {killed} of 30");
    world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    assert_whole(&world, "copy").await;
    assert_eq!(world.stable("copy"), world.stable("repo"));
}
