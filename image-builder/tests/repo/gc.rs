//! `repo gc` takes what nobody needs and nothing else.

use crate::world::{World, files};
use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

/// Sets the time at which every file was written back, as if it had been hours ago.
fn age(folder: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    for path in files(folder) {
        File::options().write(true).open(folder.join(path)).unwrap().set_modified(then).unwrap();
    }
}

#[tokio::test]
async fn a_fresh_repository_has_no_garbage() {
    let world = World::new(&["1", "2"]).await;
    let before = files(&world.path("repo"));
    world.good("repo gc @repo --root @keys/tuf/1.root.json");
    assert_eq!(files(&world.path("repo")), before, "what was current a moment ago is still being read");
}

#[tokio::test]
async fn old_versions_go_and_what_is_named_stays() {
    let world = World::new(&["1", "2", "3", "4"]).await;
    world.good("repo channel set @repo till old 1 --keys @keys");
    world.good("repo gc @repo --keys @keys --keep 2");
    assert_eq!(files(&world.path("repo/archives")).len(), 4, "the grace period protects what was just withdrawn");
    let listed = world.good("repo list @repo --keys @keys");
    assert!(!listed.contains("till                     2 "), "{listed}");
    age(&world.path("repo"), 48);
    let dry = world.good("repo gc @repo --root @keys/tuf/1.root.json --dry-run");
    let report = world.good("repo gc @repo --root @keys/tuf/1.root.json --dry-run --json");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let before = files(&world.path("repo"));
    assert!(before.len() > 20);
    let done = world.good("repo gc @repo --root @keys/tuf/1.root.json");
    assert_eq!(dry, done, "a dry run says what a run does");
    let after = files(&world.path("repo"));
    let named: Vec<_> = report["removed"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect();
    let gone: Vec<_> = before.iter().filter(|path| !after.contains(path)).map(String::as_str).collect();
    assert_eq!(
        {
            let mut named = named.clone();
            named.sort();
            named
        },
        gone
    );
    assert!(report["bytes"].as_u64().unwrap() > 200_000 && report["bytes"].as_u64().unwrap() < 1_000_000);
    world.assert_verified("repo");
    assert_eq!(files(&world.path("repo/archives")).len(), 3, "1, 3 and 4");
    assert!(
        after.contains(&"metadata/1.root.json".to_owned()) && !after.contains(&"metadata/1.targets.json".to_owned())
    );
    assert!(!world.path("repo/targets/images/till/2").exists());
    assert_eq!(world.good("repo gc @repo --root @keys/tuf/1.root.json"), "");
}

#[tokio::test]
async fn what_a_killed_publisher_left_goes() {
    let world = World::new(&["1"]).await;
    for left in
        [".new-abc/x", "metadata/.new-abc", "targets/images/.new-1", "archives/.new-2", "metadata/9.targets.json"]
    {
        let path = world.path("repo").join(left);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"left").unwrap();
    }
    let said = world.good("repo gc @repo --root @keys/tuf/1.root.json");
    assert_eq!(said.lines().count(), 5, "{said}");
    world.assert_verified("repo");
    assert!(!files(&world.path("repo")).iter().any(|path| path.contains(".new-")));
}

#[tokio::test]
async fn a_damaged_repository_is_left_alone() {
    let world = World::new(&["1", "2"]).await;
    let manifest = files(&world.path("repo/targets"));
    for path in manifest.iter().filter(|path| path.contains("/1/") && path.ends_with("manifest.json")) {
        fs::remove_file(world.path("repo/targets").join(path)).unwrap();
    }
    let before = files(&world.path("repo"));
    let output = world.run("repo gc @repo --root @keys/tuf/1.root.json --grace-hours 0");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(files(&world.path("repo")), before);
}
