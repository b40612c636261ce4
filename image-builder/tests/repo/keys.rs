//! Keys that change while stores go on reading: rotation, revocation, signatures collected one by one.

use crate::world::{World, said};
use image_builder::{
    keys::Keys,
    repo::{
        chain,
        source::Source,
        verify::{self, Selection},
    },
};
use std::{fs, path::Path};

/// Ids of a role's keys, as `keys show` says them.
fn ids(world: &World, role: &str) -> Vec<String> {
    let shown: serde_json::Value = serde_json::from_str(&world.good("keys show --keys @keys --json")).unwrap();
    let roles = shown["roles"].as_array().unwrap();
    let keys = &roles.iter().find(|shown| shown["role"] == role).unwrap()["keys"];
    keys.as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
}

fn roots(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path("repo/metadata")).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with("root.json"));
    names.sort();
    names
}

#[tokio::test]
async fn every_role_is_rotated_and_readers_of_the_first_root_follow() {
    let world = World::new(&["1"]).await;
    for (number, role) in ["timestamp", "snapshot", "targets", "root"].into_iter().enumerate() {
        let before = ids(&world, role);
        world.good(&format!("keys rotate {role} --keys @keys"));
        assert_ne!(ids(&world, role), before);
        world.good("repo refresh @repo --keys @keys");
        world.assert_verified("repo");
        assert!(world.path(&format!("repo/metadata/{}.root.json", number + 2)).exists());
    }
    world.build("repo", "2", 300_000).await;
    world.assert_verified("repo");
    assert_eq!(roots(&world), ["1.root.json", "2.root.json", "3.root.json", "4.root.json", "5.root.json", "root.json"]);
    // The retired keys sign nothing any more.
    let first = fs::read(world.path("keys/tuf/1.root.json")).unwrap();
    let root = chain::trusted(&first).unwrap();
    let chain = chain::walk(&Source::Folder(world.path("repo")), root.clone(), jiff::Timestamp::now()).await.unwrap();
    assert!(root.signed.verify_role(chain.timestamp.as_ref().unwrap()).is_err());
    assert_eq!(fs::read_dir(world.path("keys/tuf/retired")).unwrap().count(), 4);
}

/// Between any two writes of the publication that brings a rotation, readers of the old root and of the new one verify.
#[tokio::test]
async fn a_rotation_is_published_without_a_gap() {
    let world = World::new(&["1"]).await;
    world.good("keys rotate timestamp --keys @keys");
    world.good("repo mirror @repo @before --root @keys/tuf/1.root.json");
    world.good("repo refresh @repo --keys @keys");
    let writes = ["2.snapshot.json", "timestamp.json", "2.root.json", "root.json"];
    for name in writes {
        fs::copy(world.path("repo/metadata").join(name), world.path("before/metadata").join(name)).unwrap();
        for root in [1, 2] {
            if root == 2 && !world.path("before/metadata/2.root.json").exists() {
                continue;
            }
            let root = world.path(&format!("keys/tuf/{root}.root.json"));
            let report =
                verify::verify(&world.path("before"), &root, &Selection::default(), jiff::Timestamp::now()).await;
            let report = report.unwrap();
            assert!(report.verified, "after {name}: {:?}", report.problems);
        }
    }
}

#[tokio::test]
async fn a_revoked_key_signs_nothing() {
    let world = World::new(&["1"]).await;
    fs::create_dir(world.path("thief")).unwrap();
    let stolen = fs::read(world.path("keys/tuf/targets.pk8")).unwrap();
    let id = ids(&world, "targets").remove(0);
    world.good(&format!("keys revoke {} --keys @keys", &id[..12]));
    assert!(!ids(&world, "targets").contains(&id));
    assert!(world.path(&format!("keys/tuf/revoked/{id}.pk8")).exists());
    world.good("repo refresh @repo --keys @keys");
    world.assert_verified("repo");
    let targets: serde_json::Value =
        serde_json::from_slice(&fs::read(world.path("repo/metadata/2.targets.json")).unwrap()).unwrap();
    assert_eq!(targets["signatures"].as_array().unwrap().len(), 1);
    assert_ne!(targets["signatures"][0]["keyid"], id.as_str());
    // Whoever has it, and the online keys, publishes nothing that is believed.
    let key = world.path("keys/tuf/targets.pk8");
    let own = fs::read(&key).unwrap();
    fs::write(&key, stolen).unwrap();
    let refused = world.run("repo channel remove @repo till stable --keys @keys");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    fs::write(&key, own).unwrap();
    world.assert_verified("repo");
    let unknown = world.run("keys revoke 0123456789 --keys @keys");
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
    let last = world.run(&format!("keys revoke {} --keys @keys", ids(&world, "root")[0]));
    assert_eq!(last.status.code(), Some(2), "the last root key: {}", said(&last));
}

#[tokio::test]
async fn a_root_of_trust_is_signed_by_holders_one_after_the_other() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    for holder in ["alice", "bob", "carol", "dave"] {
        world.good(&format!("keys root new --out @{holder}"));
    }
    let public =
        |names: &[&str]| names.iter().map(|name| format!(" --root-key @{name}/root.pub.json")).collect::<String>();
    world.good(&format!("keys init --out @keys --threshold 2{}", public(&["alice", "bob", "carol"])));
    let early = world.run("keys show --keys @keys");
    assert_eq!(early.status.code(), Some(3), "{}", said(&early));
    assert!(said(&early).contains("2 more of the root keys of version 1"), "{}", said(&early));
    // The file travels; the holders have nothing else.
    let travel = |names: &[&str], previous: &str| {
        fs::copy(world.path("keys/tuf/next/root.json"), world.path("travel.json")).unwrap();
        for name in names {
            world.good(&format!("keys root sign @travel.json --key @{name}/root.pk8{previous}"));
        }
    };
    travel(&["alice"], "");
    let half = world.run("keys root accept @travel.json --keys @keys");
    assert_eq!(half.status.code(), Some(3), "{}", said(&half));
    let stranger = world.run("keys root sign @travel.json --key @dave/root.pk8");
    assert_eq!(stranger.status.code(), Some(3), "{}", said(&stranger));
    travel(&["alice", "carol"], "");
    world.good("keys root accept @travel.json --keys @keys");
    world.build("repo", "1", 100_000).await;
    world.assert_verified("repo");
    // Alice leaves, Dave comes.
    let change = public(&["bob", "carol", "dave"]).replace("--root-key", "--public-key");
    world.good(&format!("keys rotate root --keys @keys --threshold 2{change}"));
    let waiting = world.run("keys rotate timestamp --keys @keys");
    assert_eq!(waiting.status.code(), Some(2), "{}", said(&waiting));
    travel(&["dave", "bob"], " --previous @keys/tuf/1.root.json");
    let half = world.run("keys root accept @travel.json --keys @keys");
    assert!(said(&half).contains("1 more of the root keys of version 1 (1 of 2)"), "{}", said(&half));
    travel(&["dave", "bob", "alice"], " --previous @keys/tuf/1.root.json");
    world.good("keys root accept @travel.json --keys @keys");
    world.good("repo refresh @repo --keys @keys");
    world.assert_verified("repo");
    assert_eq!(ids(&world, "root").len(), 3);
    let shown = world.run("keys show --keys @keys --repository @repo");
    assert!(said(&shown).contains("2 of 3 keys") && !said(&shown).contains("private root keys"), "{}", said(&shown));
}

#[tokio::test]
async fn the_targets_key_comes_from_the_environment() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let world = World::new(&["1", "2"]).await;
    let file = world.path("keys/tuf/targets.pk8");
    let key = STANDARD.encode(fs::read(&file).unwrap());
    fs::remove_file(&file).unwrap();
    let set = |version: u32| format!("repo channel set @repo till stable {version} --keys @keys");
    let without = world.run(&set(1));
    assert_eq!(without.status.code(), Some(1), "{}", said(&without));
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    for (version, key) in [(1, pem), (2, key)] {
        let output = world.command(&set(version)).env("SHELFBOOT_TARGETS_KEY", &key).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(world.stable("repo"), version.to_string());
    }
    let wrong = world.command(&set(1)).env("SHELFBOOT_TARGETS_KEY", "nonsense").output().unwrap();
    assert!(!wrong.status.success() && !said(&wrong).contains("nonsense"), "{}", said(&wrong));
}

#[tokio::test]
async fn an_end_is_warned_of() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.good("keys init --out @keys --root-days 20 --root-keys 3 --threshold 2");
    let shown = world.run("keys show --keys @keys");
    let text = said(&shown);
    assert!(shown.status.success() && text.contains("the root of trust expires in"), "{text}");
    assert!(text.contains("private root keys lie in the key set") && text.contains("root: 2 of 3 keys"), "{text}");
    world.good("keys root renew --keys @keys");
    assert!(!said(&world.run("keys show --keys @keys")).contains("the root of trust expires"));
    assert_eq!(
        Keys::open(&world.path("keys")).unwrap().root_json(),
        fs::canonicalize(world.path("keys")).unwrap().join("tuf/2.root.json")
    );
}

/// A change that was cut off is taken up again, or starts anew; what signs today goes on signing.
#[tokio::test]
async fn a_change_that_was_cut_off_does_no_harm() {
    let world = World::new(&["1"]).await;
    world.good("keys rotate timestamp --keys @keys");
    // As if it had been killed after the root counted and before the keys were moved.
    let tuf = world.path("keys/tuf");
    let retired = fs::read_dir(tuf.join("retired")).unwrap().next().unwrap().unwrap().path();
    fs::create_dir(tuf.join("next")).unwrap();
    fs::copy(tuf.join("2.root.json"), tuf.join("next/root.json")).unwrap();
    fs::rename(tuf.join("timestamp.pk8"), tuf.join("next/timestamp.pk8")).unwrap();
    fs::rename(&retired, tuf.join("timestamp.pk8")).unwrap();
    world.good("repo refresh @repo --keys @keys");
    world.assert_verified("repo");
    world.good("keys rotate snapshot --keys @keys");
    assert!(retired.exists() && !tuf.join("next").exists());
    // As if it had been killed before there was a root to sign.
    fs::create_dir(tuf.join("next")).unwrap();
    fs::copy(tuf.join("snapshot.pk8"), tuf.join("next/targets.pk8")).unwrap();
    world.good("keys rotate targets --keys @keys");
    world.good("repo refresh @repo --keys @keys");
    world.assert_verified("repo");
    assert_eq!(mode(&tuf.join("targets.pk8")), 0o600);
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
}
