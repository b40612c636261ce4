//! Retiring a machine and looking at spares: ordered with the program, handed to the store, recorded when a machine says so.

use crate::world::{MAC, Machine, Store, World, refused_code, request};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use contracts::fleet::{Envelope, Order};
use contracts::store::StoreAssignments;
use serde_json::{Value, json};
use std::process::{Command, Output};

fn registrar(world: &World, arguments: &[&str]) -> Output {
    let config = world.folder.path().join("registrar.yaml");
    let text =
        "apiVersion: shelfboot.dev/v1\nkind: Registrar\nlisten: 127.0.0.1:0\nstate: state\ninventory: inventory.yaml\n";
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_registrar"));
    let folder = world.folder.path().join("state");
    let named = if arguments[0] == "retire" { ("--config", config) } else { ("--state", folder) };
    command.args(arguments).arg(named.0).arg(named.1).env_remove("RUST_LOG").output().unwrap()
}

fn printed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn assignments(world: &World, store: &Store) -> StoreAssignments {
    let answer = world.store_client(store).get(world.url("/v1/store/assignments")).send().await.unwrap();
    contracts::read(&answer.bytes().await.unwrap()).unwrap()
}

async fn tell(world: &World, store: &Store, kind: &str, id: u128, data: Value) {
    let event = json!({
        "specversion": "1.0", "id": uuid::Uuid::from_u128(id), "source": "agent", "type": kind, "subject": MAC,
        "time": "2026-11-21T10:00:00Z", "datacontenttype": "application/json", "data": data,
    });
    let sent = world.store_client(store).post(world.url("/v1/events")).json(&json!([event])).send().await.unwrap();
    assert_eq!(sent.status(), 204);
}

async fn says_retired(world: &World, store: &Store, id: u128) {
    let data = json!({"step": "partition", "status": "waiting", "code": "retired", "message": "vda is wiped"});
    tell(world, store, "dev.shelfboot.step.v1", id, data).await;
}

#[tokio::test]
async fn a_retired_machine_is_kept_out_ordered_to_be_wiped_and_on_record_until_its_entry_is_opened_again() {
    let world = World::new().await;
    let (store, other, machine) = (world.store("store-1").await, world.store("store-2").await, Machine::new());
    let early = registrar(&world, &["retire", "w1", "--by", "Kim"]);
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(
        early.status.code() == Some(1)
            && said.contains("no machine was ever admitted as w1")
            && said.contains("hint: ")
    );
    world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    let before = assignments(&world, &store).await;

    let given = printed(&registrar(&world, &["retire", "w1", "--by", "Kim", "--json"]));
    let after = assignments(&world, &store).await;
    assert_eq!((after.orders.len(), after.generation), (1, before.generation + 1));
    assert_eq!((after.retired[0].mac.as_str(), after.retired[0].name.as_str()), (MAC, "w1"));
    let envelope: Envelope = serde_json::from_value(after.orders[0].envelope.clone()).unwrap();
    let order: Order = serde_json::from_slice(&STANDARD.decode(&envelope.payload).unwrap()).unwrap();
    let Order::Retire(order) = order else { panic!("{order:?}") };
    assert_eq!((order.mac.as_str(), order.key, order.by.as_str()), (MAC, machine.fingerprint(), "Kim"));
    assert_eq!(given["order"]["id"], order.id.to_string());
    let elsewhere = assignments(&world, &other).await;
    assert!(elsewhere.orders.is_empty() && elsewhere.retired.is_empty());
    assert_eq!(refused_code(&world.enroll(&machine, &request(store.vouch(&machine, MAC))).await), "revoked");

    // Again: the newer order takes the older one's place.
    printed(&registrar(&world, &["retire", "w1", "--by", "Kim", "--json"]));
    assert_eq!(assignments(&world, &store).await.orders.len(), 1);
    says_retired(&world, &other, 1).await;
    let done = |world: &World| printed(&registrar(world, &["retired", "--json"]))[0]["done"].clone();
    assert_eq!(done(&world), Value::Null, "another store knows nothing of it");
    says_retired(&world, &store, 2).await;
    assert!(done(&world).is_string());
    let list = String::from_utf8(registrar(&world, &["retired"]).stdout).unwrap();
    assert!(list.contains("ready for the shelf since") && list.contains("withdrawn"), "{list}");

    assert!(registrar(&world, &["machine", "reopen", "w1"]).status.success());
    let opened = assignments(&world, &store).await;
    assert!(opened.orders.is_empty() && opened.retired.is_empty());
    assert_eq!(opened.machines[0].epoch, 2);
}

#[tokio::test]
async fn what_a_machine_was_found_to_be_is_on_record() {
    let world = World::new().await;
    let store = world.store("store-1").await;
    let open = ["stage", "open", "--store", "store-1", "--template", "k8s-worker", "--by", "Kim"];
    assert!(registrar(&world, &open).status.success());
    let staging = assignments(&world, &store).await.staging.unwrap();
    assert_eq!(staging.image.template, "k8s-worker");
    let unknown = ["stage", "open", "--store", "store-9", "--template", "k8s-worker", "--by", "Kim"];
    assert_eq!(registrar(&world, &unknown).status.code(), Some(1));

    let mut record: Value =
        serde_json::from_slice(include_bytes!("../../../contracts/tests/golden/stage-record.json")).unwrap();
    for (id, passes) in [(1, false), (2, true), (1, false)] {
        record["passes"] = passes.into();
        tell(&world, &store, contracts::staging::STAGED_EVENT, id, record.clone()).await;
    }
    let staged = printed(&registrar(&world, &["staged", "--json"]));
    assert_eq!(staged.as_array().unwrap().len(), 1);
    assert_eq!(staged[0]["record"]["passes"], true, "the newest counts, and a repeat is none");
    assert_eq!(printed(&registrar(&world, &["staged", "02:00:00:00:00:99", "--json"])), json!([]));
    let one = String::from_utf8(registrar(&world, &["staged", MAC]).stdout).unwrap();
    assert!(one.contains("can go to the shelf") && one.contains("no disk fits"), "{one}");
    tell(&world, &store, contracts::staging::STAGED_EVENT, 3, json!({"a": "newer shape"})).await;

    assert!(registrar(&world, &["stage", "close", "--store", "store-1"]).status.success());
    assert_eq!(assignments(&world, &store).await.staging, None);
}
