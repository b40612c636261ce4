//! `repo mirror`: complete before it is switched, taken up again, never older.

use crate::{
    server::serve,
    world::{World, files, said},
};
use std::{fs, path::Path, sync::atomic::Ordering};

#[tokio::test]
async fn a_copy_is_the_same_and_copying_again_copies_nothing() {
    let world = World::new(&["1", "2"]).await;
    world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    world.assert_verified("copy");
    let bytes = |folder: &str| {
        let folder = world.path(folder);
        files(&folder).into_iter().map(|path| (path.clone(), fs::read(folder.join(path)).unwrap())).collect::<Vec<_>>()
    };
    let current = |folder: &str| {
        let old = |path: &str| path.contains("1.targets.json") || path.contains("1.snapshot.json");
        let mut all = bytes(folder);
        // The state before is not part of a copy that is made now; nor are channels that it named.
        all.retain(|(path, _)| !old(path) && !path.contains("stable.json"));
        all
    };
    assert_eq!(current("repo"), current("copy"));
    let again = world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json --json");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&again).unwrap()["fetched"], 0, "{again}");
    world.build("repo", "3", 300_000).await;
    world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    world.assert_verified("copy");
    assert_eq!(world.stable("copy"), "3");
}

#[tokio::test]
async fn an_older_or_damaged_source_is_refused() {
    let world = World::new(&["1"]).await;
    world.good("repo mirror @repo @older --root @keys/tuf/1.root.json");
    world.build("repo", "2", 300_000).await;
    world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    let before = files(&world.path("copy"));
    let older = world.run("repo mirror @older @copy --root @keys/tuf/1.root.json");
    assert_eq!(older.status.code(), Some(1), "{}", said(&older));
    assert!(said(&older).contains("the copy has 2 already"), "{}", said(&older));
    world.build("repo", "3", 300_000).await;
    let all = files(&world.path("repo/archives"));
    let known = files(&world.path("copy/archives"));
    let new = world.path("repo/archives").join(all.iter().find(|path| !known.contains(path)).unwrap());
    let whole = fs::read(&new).unwrap();
    let mut bytes = whole.clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&new, bytes).unwrap();
    let damaged = world.run("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    assert_eq!(damaged.status.code(), Some(1), "{}", said(&damaged));
    assert!(said(&damaged).contains("not what was signed"), "{}", said(&damaged));
    assert_eq!(world.stable("copy"), "2");
    world.assert_verified("copy");
    assert!(
        files(&world.path("copy"))
            .iter()
            .filter(|path| path.starts_with("archives/"))
            .eq(before.iter().filter(|path| path.starts_with("archives/")))
    );
    fs::write(&new, whole).unwrap();
    world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    assert_eq!(world.stable("copy"), "3");
}

#[tokio::test]
async fn a_copy_follows_a_rotation_and_has_every_root() {
    let world = World::new(&["1"]).await;
    world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    for role in ["timestamp", "root"] {
        world.good(&format!("keys rotate {role} --keys @keys"));
    }
    world.good("repo refresh @repo --keys @keys");
    world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    world.good("repo mirror @repo @late --root @keys/tuf/3.root.json");
    for copy in ["copy", "late"] {
        world.assert_verified(copy);
        for name in ["1.root.json", "2.root.json", "3.root.json", "root.json"] {
            let own = fs::read(world.path("repo/metadata").join(name)).unwrap();
            assert_eq!(fs::read(world.path(copy).join("metadata").join(name)).unwrap(), own, "{copy} {name}");
        }
    }
    assert!(!world.run("repo channel set @repo till ../stable 1 --keys @keys").status.success());
}

fn size(folder: &Path) -> u64 {
    files(folder).iter().map(|path| fs::metadata(folder.join(path)).unwrap().len()).sum()
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_off() {
    let world = World::new(&["1"]).await;
    let (base, sent) = serve(world.path("repo"), 2);
    world.good(&format!("repo mirror {base} @copy --root @keys/tuf/1.root.json"));
    world.assert_verified("copy");
    assert_eq!(sent.load(Ordering::Relaxed), size(&world.path("repo/archives")), "no byte of it came twice");
    let (base, _) = serve(world.path("none"), 0);
    let none = world.run(&format!("repo mirror {base} @other --root @keys/tuf/1.root.json"));
    assert_eq!(none.status.code(), Some(1));
    assert!(said(&none).contains("timestamp.json: it is not there"), "{}", said(&none));
    assert!(!world.path("other/metadata/timestamp.json").exists());
}
