//! Permits: given with the program, handed to the store in whose name they were given, as long as they count.

use crate::world::{Store, World};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use contracts::fleet::{Envelope, Order, WipePermit};
use contracts::store::StoreAssignments;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

fn permit(world: &World, arguments: &[&str]) -> Output {
    let state = world.folder.path().join("state");
    let mut command = Command::new(env!("CARGO_BIN_EXE_registrar"));
    command.arg("permit").args(arguments).arg("--state").arg(state).env_remove("RUST_LOG").output().unwrap()
}

const WIPE: [&str; 11] = [
    "wipe",
    "--store",
    "store-1",
    "--mac",
    "52-54-00-00-00-01",
    "--disk",
    "DISK-7",
    "--number",
    "k7qm 2f9x",
    "--by",
    "Kim",
];

async fn assignments(world: &World, store: &Store) -> StoreAssignments {
    let answer = world.store_client(store).get(world.url("/v1/store/assignments")).send().await.unwrap();
    contracts::read(&answer.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_permit_reaches_its_store_and_no_other_until_it_is_withdrawn() {
    let world = World::new().await;
    let (store, other) = (world.store("store-1").await, world.store("store-2").await);
    let before = assignments(&world, &store).await;
    let given = permit(&world, &[WIPE.as_slice(), &["--json"]].concat());
    assert!(given.status.success(), "{}", String::from_utf8_lossy(&given.stderr));
    let permit_given: WipePermit = serde_json::from_slice(&given.stdout).unwrap();
    assert_eq!((permit_given.mac.as_str(), permit_given.number.as_str()), ("52:54:00:00:00:01", "K7QM-2F9X"));
    assert_eq!(permit_given.expires - permit_given.issued, time::Duration::hours(24));

    let after = assignments(&world, &store).await;
    assert_eq!((after.orders.len(), after.generation), (1, before.generation + 1));
    assert_eq!(after.orders[0].mac, "52:54:00:00:00:01");
    let envelope: Envelope = serde_json::from_value(after.orders[0].envelope.clone()).unwrap();
    let order: Order = serde_json::from_slice(&STANDARD.decode(&envelope.payload).unwrap()).unwrap();
    assert_eq!(order, Order::Wipe(permit_given.clone()));
    assert!(assignments(&world, &other).await.orders.is_empty());
    let key = world.folder.path().join("state/fleet.key");
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);

    let list = String::from_utf8(permit(&world, &["list"]).stdout).unwrap();
    assert!(list.contains("DISK-7") && list.contains("Kim") && list.contains("until "), "{list}");
    let id = permit_given.id.to_string();
    assert!(permit(&world, &["withdraw", &id]).status.success());
    assert_eq!(permit(&world, &["withdraw", &id]).status.code(), Some(1), "once is enough");
    assert!(assignments(&world, &store).await.orders.is_empty());
    assert!(String::from_utf8(permit(&world, &["list"]).stdout).unwrap().contains("withdrawn"));
}

#[tokio::test]
async fn mistakes_give_no_permit() {
    let world = World::new().await;
    world.store("store-1").await;
    let with = |at: usize, value: &'static str| {
        let mut arguments = WIPE;
        arguments[at] = value;
        permit(&world, &arguments)
    };
    for (wrong, code, words) in [
        (with(2, "store-9"), 1, "there is no store store-9"),
        (with(4, "52:54:00"), 2, "is not a MAC address"),
        (with(6, " "), 2, "the disk has no name"),
        (with(8, "K7QM"), 2, "two groups of four"),
    ] {
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert_eq!(wrong.status.code(), Some(code), "{said}");
        assert!(said.contains(words) && said.contains("hint: "), "{said}");
    }
    assert_eq!(world.state.db.permits().await.unwrap(), []);
}
