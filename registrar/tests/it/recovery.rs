//! Recovery keys: handed over by the machine itself, shown to people by a command that writes down who asked.

use crate::world::{MAC, Machine, World, request};
use contracts::state::{RecoveryKey, recovery_key};
use std::process::{Command, Output};
use uuid::Uuid;

fn show(world: &World, arguments: &[&str]) -> Output {
    let state = world.folder.path().join("state");
    let mut command = Command::new(env!("CARGO_BIN_EXE_registrar"));
    command.arg("recovery-key").args(arguments).arg("--state").arg(state).env_remove("RUST_LOG").output().unwrap()
}

async fn hand_over(world: &World, machine: &Machine, key: &RecoveryKey) -> u16 {
    let call = world.machine_client(machine).post(world.url("/v1/recovery-keys")).json(key);
    call.send().await.unwrap().status().as_u16()
}

fn key(volume: u128, bits: u8) -> RecoveryKey {
    RecoveryKey { version: 1, volume: Uuid::from_u128(volume), key: recovery_key(&[bits; 32]) }
}

#[tokio::test]
async fn a_key_is_kept_for_its_machine_and_shown_on_record() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    assert_eq!(hand_over(&world, &machine, &key(1, 7)).await, 403, "it is not admitted yet");
    world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    assert_eq!(hand_over(&world, &machine, &key(1, 7)).await, 204);
    assert_eq!(hand_over(&world, &machine, &key(1, 7)).await, 204, "a repeat is harmless");
    assert_eq!(hand_over(&world, &machine, &key(2, 9)).await, 204, "a new volume after a reinstall");

    let shown = show(&world, &["w1", "--by", "Kim", "--json"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["keys"].as_array().unwrap().len(), 2);
    assert_eq!(shown["shown_before"].as_array().unwrap().len(), 0);
    let again = String::from_utf8(show(&world, &["w1", "--by", "Lou"]).stdout).unwrap();
    assert!(again.contains(&key(1, 7).key) && again.contains("shown to Kim"), "{again}");

    // The disk may turn up after the machine's place was given to another one.
    world.state.db.reopen("w1", time::OffsetDateTime::now_utc()).await.unwrap();
    assert!(show(&world, &["w1", "--by", "Kim"]).status.success());
    assert_eq!(hand_over(&world, &machine, &key(3, 3)).await, 403);
}

#[tokio::test]
async fn what_is_no_key_is_refused_and_not_repeated() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    let bad = RecoveryKey { key: "correct horse".into(), ..key(1, 1) };
    let call = world.machine_client(&machine).post(world.url("/v1/recovery-keys")).json(&bad);
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(!answer.text().await.unwrap().contains("horse"));
    assert_eq!(
        world.store_client(&store).post(world.url("/v1/recovery-keys")).json(&key(1, 1)).send().await.unwrap().status(),
        403
    );
    let nothing = show(&world, &["w1", "--by", "Kim"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("no recovery key of w1"));
}

#[tokio::test]
async fn a_machine_cannot_fill_the_database() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    let client = world.machine_client(&machine);
    for volume in 0..64 {
        let sent = client.post(world.url("/v1/recovery-keys")).json(&key(volume, 1)).send().await.unwrap();
        assert_eq!(sent.status(), 204);
    }
    assert_eq!(hand_over(&world, &machine, &key(64, 1)).await, 409);
    assert_eq!(hand_over(&world, &machine, &key(3, 1)).await, 204, "those that are there can still be repeated");
}
