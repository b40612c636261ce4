//! `repo verify` finds whatever is wrong, says all of it, and agrees with the client that machines have.

use crate::world::{World, files, said};
use image_builder::repo::{chain, source::Source};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tough::{ExpirationEnforcement, FilesystemTransport, RepositoryLoader};
use url::Url;

fn file_named(world: &World, what: &str) -> PathBuf {
    let all = files(&world.path("repo"));
    let found: Vec<_> = all.iter().filter(|path| path.contains(what)).collect();
    assert!(!found.is_empty(), "no {what} in {all:?}");
    world.path("repo").join(found[0])
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    // A new inode: a file may have a second name.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn an_honest_repository_verifies_and_its_bytes_are_counted() {
    let world = World::new(&["1", "2"]).await;
    let report = world.verify("repo");
    assert_eq!(report["verified"], true, "{report:#}");
    assert_eq!(report["images"], serde_json::json!(["till 1", "till 2"]));
    assert_eq!(report["targets"], 7);
    assert!(report["chunks"].as_u64().unwrap() > 6, "{report:#}");
    let one = world.run("repo verify @repo --root @keys/tuf/1.root.json --template till --version 2 --json");
    let one: serde_json::Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!((&one["verified"], &one["images"]), (&true.into(), &serde_json::json!(["till 2"])));
    assert_eq!(one["targets"], 4, "manifest, UKI, boot loader, CA: {one:#}");
}

#[tokio::test]
async fn every_problem_is_said_at_once() {
    let world = World::new(&["1", "2"]).await;
    let archive = file_named(&world, "archives/");
    let length = fs::metadata(&archive).unwrap().len() as usize;
    flip(&archive, length - 5);
    flip(&file_named(&world, "images/till/1/"), 10);
    let uki = file_named(&world, ".uki.efi");
    fs::remove_file(&uki).unwrap();
    let loader = file_named(&world, "systemd-bootx64.efi");
    fs::write(&loader, b"short").unwrap();
    let problems = world.problems("repo");
    for code in ["chunk archives/", "hash targets/", "missing targets/", "length targets/"] {
        assert!(problems.iter().any(|problem| problem.starts_with(code)), "{code}: {problems:?}");
    }
    let people = world.run("repo verify @repo --root @keys/tuf/1.root.json");
    assert_eq!(people.status.code(), Some(1));
    assert!(said(&people).contains("not verified: "), "{}", said(&people));
}

#[tokio::test]
async fn both_names_of_a_target_are_looked_at() {
    let world = World::new(&["1"]).await;
    let all = files(&world.path("repo/targets"));
    let names: Vec<_> = all.iter().filter(|path| path.ends_with("uki.efi")).collect();
    assert_eq!(names.len(), 2, "{all:?}");
    for name in names {
        let path = world.path("repo/targets").join(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(world.problems("repo"), [format!("missing targets/{name}")]);
        fs::write(&path, bytes).unwrap();
    }
    world.assert_verified("repo");
}

#[tokio::test]
async fn an_archive_is_held_against_its_manifest() {
    let world = World::new(&["1"]).await;
    let archive = file_named(&world, "archives/");
    let whole = fs::read(&archive).unwrap();
    let mut seen = Vec::new();
    for at in [0, 8, 60, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&archive, &bytes).unwrap();
        let problems = world.problems("repo");
        assert_eq!(problems.len(), 1, "byte {at}: {problems:?}");
        seen.push(problems[0].split(' ').next().unwrap().to_owned());
    }
    assert_eq!(seen, ["hash", "hash", "hash", "chunk", "chunk"]);
    fs::write(&archive, [whole.as_slice(), b"more"].concat()).unwrap();
    assert!(world.problems("repo")[0].starts_with("length "));
    fs::remove_file(&archive).unwrap();
    assert!(world.problems("repo")[0].starts_with("missing archives/"));
}

#[tokio::test]
async fn expiry_is_a_problem() {
    let world = World::new(&["1"]).await;
    let root = chain::trusted(&fs::read(world.path("keys/tuf/1.root.json")).unwrap()).unwrap();
    let later = image_builder::repository::days_from_now(31);
    let chain = chain::walk(&Source::Folder(world.path("repo")), root, later).await.unwrap();
    let expired: Vec<_> = chain.problems.iter().map(|problem| (problem.code, problem.file.as_str())).collect();
    assert_eq!(expired, [("expired", "metadata/timestamp.json"), ("expired", "metadata/1.snapshot.json")]);
    assert_eq!(chain.all.len(), 5, "what has expired is looked at all the same");
}

#[tokio::test]
async fn wrong_roots_and_folders() {
    let world = World::new(&["1"]).await;
    image_builder::keys::init(&world.path("other")).await.unwrap();
    let strange = world.run("repo verify @repo --root @other/tuf/1.root.json");
    assert_eq!(strange.status.code(), Some(1));
    assert!(said(&strange).contains("timestamp.json: signature: "), "{}", said(&strange));
    fs::write(world.path("half.json"), b"{").unwrap();
    for arguments in [
        "repo verify @repo --root @half.json",
        "repo verify @repo --root @none.json",
        "repo verify @none --root @keys/tuf/1.root.json",
    ] {
        let output = world.run(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments}: {}", said(&output));
        assert!(said(&output).contains("hint: "), "{arguments}: {}", said(&output));
    }
}

/// Wherever a byte of the metadata is flipped: what the client of the machines refuses is a problem, and the other way
/// round.
#[tokio::test]
async fn the_chain_is_followed_as_tough_follows_it() {
    let world = World::new(&["1"]).await;
    let trust = fs::read(world.path("keys/tuf/1.root.json")).unwrap();
    let root = chain::trusted(&trust).unwrap();
    let place = fs::canonicalize(world.path("repo")).unwrap();
    let url = |part: &str| Url::from_directory_path(place.join(part)).unwrap();
    let (mut refused, mut believed) = (0, 0);
    for name in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let path = place.join("metadata").join(name);
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 2;
            fs::write(&path, &bytes).unwrap();
            let chain =
                chain::walk(&Source::Folder(place.clone()), root.clone(), jiff::Timestamp::now()).await.unwrap();
            let loader = RepositoryLoader::new(&trust, url("metadata"), url("targets"))
                .transport(FilesystemTransport)
                .expiration_enforcement(ExpirationEnforcement::Safe);
            let tough = loader.load().await;
            assert_eq!(chain.problems.is_empty(), tough.is_ok(), "{name} byte {at}: {:?}", chain.problems);
            if tough.is_ok() { believed += 1 } else { refused += 1 }
        }
        fs::write(&path, &whole).unwrap();
    }
    // White space in timestamp.json is nobody's business.
    assert!(refused > 200 && believed > 0 && believed < refused, "{refused} refused, {believed} believed");
    world.assert_verified("repo");
}
