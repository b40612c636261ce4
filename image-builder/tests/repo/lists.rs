//! Channels, rollouts, renewal, import: small publications.

use crate::world::{World, said};
use contracts::rollout::Rollout;
use std::fs;

fn version_of(world: &World, file: &str) -> u64 {
    let bytes = fs::read(world.path("repo/metadata").join(file)).unwrap();
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["signed"]["version"].as_u64().unwrap()
}

#[tokio::test]
async fn a_channel_is_moved_once() {
    let world = World::new(&["1", "2"]).await;
    assert_eq!(world.stable("repo"), "2");
    world.good("repo channel set @repo till stable 1 --keys @keys");
    assert_eq!((world.stable("repo").as_str(), version_of(&world, "timestamp.json")), ("1", 3));
    let again = world.run("repo channel set @repo till stable 1 --keys @keys");
    assert!(again.status.success() && said(&again).contains("nothing to do"), "{}", said(&again));
    assert_eq!(version_of(&world, "timestamp.json"), 3);
    let missing = world.run("repo channel set @repo till stable 9 --keys @keys");
    assert_eq!(missing.status.code(), Some(2));
    assert!(said(&missing).contains("no image till 9") && said(&missing).contains("hint: "), "{}", said(&missing));
    world.good("repo channel remove @repo till stable --keys @keys");
    assert_eq!(world.run("repo channel remove @repo till stable --keys @keys").status.code(), Some(2));
    world.assert_verified("repo");
}

#[tokio::test]
async fn refresh_needs_the_online_keys_only() {
    let world = World::new(&["1"]).await;
    for name in ["root.pk8", "targets.pk8"] {
        fs::remove_file(world.path("keys/tuf").join(name)).unwrap();
    }
    fs::remove_dir_all(world.path("keys/secure-boot")).unwrap();
    let soon = world.run("repo refresh @repo --keys @keys --if-within-days 10");
    assert!(soon.status.success() && said(&soon).contains("nothing to do"), "{}", said(&soon));
    world.good("repo refresh @repo --keys @keys --timestamp-days 60");
    assert_eq!(version_of(&world, "timestamp.json"), 2);
    assert_eq!(version_of(&world, "2.snapshot.json"), 2);
    assert!(!world.path("repo/metadata/2.targets.json").exists());
    world.assert_verified("repo");
    let change = world.run("repo channel remove @repo till stable --keys @keys");
    assert_eq!(change.status.code(), Some(1), "{}", said(&change));
    assert!(said(&change).contains("keys show"), "{}", said(&change));
    world.assert_verified("repo");
    // A timestamp key of somebody else signs nothing.
    fs::remove_file(world.path("keys/tuf/timestamp.pk8")).unwrap();
    fs::copy(world.path("keys/tuf/snapshot.pk8"), world.path("keys/tuf/timestamp.pk8")).unwrap();
    assert_eq!(world.run("repo refresh @repo --keys @keys").status.code(), Some(1));
    world.assert_verified("repo");
}

#[tokio::test]
async fn a_rollout_from_start_to_finish() {
    let world = World::new(&["1", "2"]).await;
    world.good("repo channel set @repo till stable 1 --keys @keys");
    world.good(
        "repo rollout start @repo till stable 2 --keys @keys --ring 0=store-0042 --ring 24=10% --ring 72=100% \
         --start 2026-11-21T02:00:00Z --window 22:00-05:00",
    );
    let rollout = || {
        let listed = world.good("repo list @repo --root @keys/tuf/1.root.json --json");
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        listed["rollouts"].as_array().unwrap().iter().map(|r| serde_json::from_value(r.clone()).unwrap()).collect()
    };
    let found: Vec<Rollout> = rollout();
    assert_eq!((found[0].image_version.as_str(), found[0].rings.len(), found[0].halted), ("2", 3, false));
    assert!(found[0].reaches("store-0042", time::macros::datetime!(2026-11-21 02:00 UTC)));
    world.good("repo rollout halt @repo till stable --keys @keys");
    assert!(rollout()[0].halted);
    world.assert_verified("repo");
    world.good("repo rollout resume @repo till stable --keys @keys");
    world.good("repo rollout finish @repo till stable --keys @keys");
    assert_eq!((world.stable("repo").as_str(), rollout().len()), ("2", 0));
    assert_eq!(world.run("repo rollout drop @repo till stable --keys @keys").status.code(), Some(2));
    let wrong = world.run("repo rollout start @repo till stable 1 --keys @keys --ring 5=10% --ring 0=20%");
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    world.assert_verified("repo");
}

#[tokio::test]
async fn what_was_tested_is_what_is_published() {
    let world = World::new(&["1"]).await;
    for version in ["2", "3", "4"] {
        world.build("staging", version, 300_000).await;
    }
    world.good("repo import @repo --from @staging --template till --version 3 --channel stable --keys @keys");
    world.assert_verified("repo");
    assert_eq!(world.stable("repo"), "3");
    // The image was built for version 2 of the roles, and staging is at 3 by now.
    assert_eq!(version_of(&world, "timestamp.json"), 3);
    let missing = world.run("repo import @repo --from @staging --template till --version 9 --keys @keys");
    assert!(!missing.status.success() && said(&missing).contains("no such image"), "{}", said(&missing));
    let archive = std::fs::read_dir(world.path("staging/archives")).unwrap();
    for path in archive.map(|entry| entry.unwrap().path()) {
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let damaged = world.run("repo import @repo --from @staging --template till --version 4 --keys @keys");
    assert_eq!(damaged.status.code(), Some(1), "{}", said(&damaged));
    world.assert_verified("repo");
    assert_eq!(world.stable("repo"), "3");
}
