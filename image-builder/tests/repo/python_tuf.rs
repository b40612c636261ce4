//! Our repository, read by the reference client of The Update Framework, which knows nothing of us: what is right it
//! accepts, and each attack it refuses for the reason that belongs to it.
//!
//! `cargo xtask test` makes an environment for Python with tests/python-tuf/requirements.txt and runs these.

use crate::{
    server::serve,
    world::{EXPIRY, World, files},
};
use image_builder::{
    files::sha256,
    keys::Keys,
    repository::{Expiry, Repository},
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

const WHY: &str = "needs python-tuf; cargo xtask test brings it";
const UKI: &str = "images/till/1/uki.efi";

/// A client with a memory, and the store that it asks.
struct Client<'a> {
    world: &'a World,
    name: &'static str,
}

impl Client<'_> {
    fn update(&self, repository: &str, targets: &[&str]) -> Value {
        let python = std::env::var_os("SHELFBOOT_PYTHON_TUF").unwrap_or_else(|| panic!("{WHY}"));
        let (base, _) = serve(self.world.path(repository), 0);
        let output = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python-tuf/client.py"))
            .args([self.world.path(self.name).as_os_str(), base.as_ref()])
            .arg(self.world.path("keys/tuf/1.root.json"))
            .args(targets)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"))
    }

    fn accepts(&self, repository: &str, versions: [u64; 4]) -> Value {
        let result = self.update(repository, &[UKI, "channels/till/stable.json"]);
        let [root, timestamp, snapshot, targets] = versions;
        let expected = json!({"root": root, "timestamp": timestamp, "snapshot": snapshot, "targets": targets});
        assert_eq!(result["versions"], expected, "{result:#}");
        result
    }

    fn refuses(&self, repository: &str, error: &str, words: &str) {
        let result = self.update(repository, &[UKI]);
        assert_eq!(result["error"], error, "{result:#}");
        assert!(result["message"].as_str().unwrap().contains(words), "{result:#}");
    }
}

fn copy(world: &World, from: &str, to: &str) {
    for path in files(&world.path(from)) {
        let place = world.path(to).join(&path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(world.path(from).join(path), place).unwrap();
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The place of a target under the name that the specification gives it.
fn place(world: &World, repository: &str, name: &str) -> std::path::PathBuf {
    let (folder, file) = name.rsplit_once('/').unwrap();
    let all = fs::read_dir(world.path(repository).join("targets").join(folder)).unwrap();
    let found = all.flatten().find(|entry| entry.file_name().to_string_lossy().ends_with(&format!(".{file}")));
    found.unwrap().path()
}

#[tokio::test]
#[ignore = "needs python-tuf; cargo xtask test brings it"]
async fn an_update_is_followed() {
    let world = World::new(&["1"]).await;
    let client = Client { world: &world, name: "client" };
    let first = client.accepts("repo", [1, 1, 1, 1]);
    assert_eq!(first["targets"][UKI], sha256(&place(&world, "repo", UKI)).unwrap());
    world.build("repo", "2", 300_000).await;
    let second = client.accepts("repo", [1, 2, 2, 2]);
    assert_eq!(first["targets"][UKI], second["targets"][UKI]);
    assert_ne!(first["targets"]["channels/till/stable.json"], second["targets"]["channels/till/stable.json"]);
    world.good("repo refresh @repo --keys @keys");
    client.accepts("repo", [1, 3, 3, 2]);
    world.good("repo mirror @repo @copy --root @keys/tuf/1.root.json");
    client.accepts("copy", [1, 3, 3, 2]);
}

#[tokio::test]
#[ignore = "needs python-tuf; cargo xtask test brings it"]
async fn rotated_and_revoked_keys_are_followed() {
    let world = World::new(&["1"]).await;
    let (client, late) = (Client { world: &world, name: "client" }, Client { world: &world, name: "late" });
    client.accepts("repo", [1, 1, 1, 1]);
    for role in ["root", "timestamp", "snapshot", "targets"] {
        world.good(&format!("keys rotate {role} --keys @keys"));
    }
    world.good("repo refresh @repo --keys @keys");
    client.accepts("repo", [5, 2, 2, 2]);
    let id = serde_json::from_slice::<Value>(&fs::read(world.path("keys/tuf/5.root.json")).unwrap()).unwrap();
    let id = id["signed"]["roles"]["snapshot"]["keyids"][0].as_str().unwrap().to_owned();
    world.good(&format!("keys revoke {id} --keys @keys"));
    world.good("repo refresh @repo --keys @keys");
    client.accepts("repo", [6, 3, 3, 2]);
    // One that was away since the first root.
    late.accepts("repo", [6, 3, 3, 2]);
}

#[tokio::test]
#[ignore = "needs python-tuf; cargo xtask test brings it"]
async fn a_rollback_is_refused() {
    let world = World::new(&["1"]).await;
    copy(&world, "repo", "old");
    world.build("repo", "2", 300_000).await;
    let client = Client { world: &world, name: "client" };
    client.accepts("repo", [1, 2, 2, 2]);
    client.refuses("old", "BadVersionNumberError", "version");
    // The same with a timestamp that is newer than all that the client knows, and a snapshot and targets that are not.
    let keys = Keys::open(&world.path("keys")).unwrap();
    for _ in 0..2 {
        let repository = Repository::open(&world.path("old"), keys.clone()).await.unwrap();
        repository.refresh(EXPIRY).await.unwrap();
    }
    client.refuses("old", "BadVersionNumberError", "targets");
}

#[tokio::test]
#[ignore = "needs python-tuf; cargo xtask test brings it"]
async fn a_freeze_is_refused() {
    let world = World::new(&["1"]).await;
    let client = Client { world: &world, name: "client" };
    client.accepts("repo", [1, 1, 1, 1]);
    // What a mirror serves that goes on serving the same for longer than it is believed.
    let keys = Keys::open(&world.path("keys")).unwrap();
    let repository = Repository::open(&world.path("repo"), keys).await.unwrap();
    repository.refresh(Expiry { targets_days: 1, timestamp_days: -1 }).await.unwrap();
    client.refuses("repo", "ExpiredMetadataError", "timestamp.json is expired");
    world.good("repo refresh @repo --keys @keys");
    client.accepts("repo", [1, 3, 3, 1]);
}

#[tokio::test]
#[ignore = "needs python-tuf; cargo xtask test brings it"]
async fn a_mix_of_two_states_is_refused() {
    let world = World::new(&["1"]).await;
    copy(&world, "repo", "old");
    world.build("repo", "2", 300_000).await;
    for (new, old) in [("2.snapshot.json", "1.snapshot.json"), ("2.targets.json", "1.targets.json")] {
        let mixed = format!("mixed-{new}");
        copy(&world, "repo", &mixed);
        fs::copy(world.path("old/metadata").join(old), world.path(&mixed).join("metadata").join(new)).unwrap();
        // The other state is just as well signed; it does not belong to this timestamp.
        Client { world: &world, name: "client" }.refuses(
            &mixed,
            "LengthOrHashMismatchError",
            "does not match expected",
        );
    }
    Client { world: &world, name: "client" }.accepts("repo", [1, 2, 2, 2]);
}

#[tokio::test]
#[ignore = "needs python-tuf; cargo xtask test brings it"]
async fn wrong_and_oversized_files_are_refused() {
    let world = World::new(&["1"]).await;
    let client = Client { world: &world, name: "client" };
    copy(&world, "repo", "wrong");
    change(&place(&world, "wrong", UKI), |bytes| bytes[100] ^= 1);
    client.refuses("wrong", "LengthOrHashMismatchError", "hash");
    copy(&world, "repo", "long");
    change(&place(&world, "long", UKI), |bytes| bytes.extend([0; 1000]));
    client.refuses("long", "DownloadLengthMismatchError", "");
    copy(&world, "repo", "endless");
    change(&world.path("endless/metadata/timestamp.json"), |bytes| bytes.resize(4 << 20, b' '));
    client.refuses("endless", "DownloadLengthMismatchError", "");
    copy(&world, "repo", "forged");
    change(&world.path("forged/metadata/timestamp.json"), |bytes| {
        let at = bytes.windows(6).position(|part| part == b"\"sig\":").unwrap() + 10;
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    });
    client.refuses("forged", "UnsignedMetadataError", "timestamp");
    client.accepts("repo", [1, 1, 1, 1]);
}
