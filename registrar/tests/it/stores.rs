//! Assignments and events.

use crate::world::{INVENTORY, MAC, Machine, Store, World};
use contracts::event::{Event, StepEvent, StepStatus};
use contracts::step::Step;
use contracts::store::{MachineSelector, StoreAssignments};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use uuid::Uuid;

async fn assignments(world: &World, store: &Store, after: u64) -> Option<StoreAssignments> {
    let url = world.url(&format!("/v1/store/assignments?after={after}"));
    let answer = world.store_client(store).get(url).send().await.unwrap();
    match answer.status().as_u16() {
        200 => Some(contracts::read(&answer.bytes().await.unwrap()).unwrap()),
        204 => None,
        other => panic!("status {other}"),
    }
}

#[tokio::test]
async fn a_store_gets_its_own_machines_and_waits_for_changes() {
    let world = World::new().await;
    let (store, other) = (world.store("store-1").await, world.store("store-2").await);
    let first = assignments(&world, &store, 0).await.unwrap();
    assert_eq!((first.store.as_str(), first.machines.len()), ("store-1", 1));
    assert_eq!(first.machines[0].selector, MachineSelector::Mac(MAC.into()));
    assert_eq!(first.machines[0].epoch, 1);
    let others = assignments(&world, &other, 0).await.unwrap();
    assert_eq!(others.machines[0].name, "w2");

    // Another store's change does not wake this one; its own does, within seconds.
    let changed = INVENTORY.replace("name: w2", "name: w3");
    std::fs::write(world.inventory_file(), &changed).unwrap();
    let moved = assignments(&world, &other, others.generation).await.unwrap();
    assert_eq!((moved.generation, moved.machines[0].name.as_str()), (others.generation + 1, "w3"));
    assert_eq!(assignments(&world, &store, 0).await.unwrap().generation, first.generation);

    let started = Instant::now();
    let (answer, ()) = tokio::join!(assignments(&world, &store, first.generation), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Broken first: the old one stays in force, and nobody is woken.
        std::fs::write(world.inventory_file(), "stores: [").unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        world.state.db.reopen("w1", time::OffsetDateTime::now_utc()).await.unwrap();
    });
    let reopened = answer.unwrap();
    assert_eq!((reopened.generation, reopened.machines[0].epoch), (first.generation + 1, 2));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn generations_survive_a_restart() {
    let world = World::new().await;
    let store = world.store("store-1").await;
    world.state.db.reopen("w1", time::OffsetDateTime::now_utc()).await.unwrap();
    let before = assignments(&world, &store, 0).await.unwrap();
    let again = world.state.db.number("store-1", before.machines.clone(), vec![], vec![], vec![], None).await.unwrap();
    assert_eq!(again.generation, before.generation);
    let grown = world.state.db.number("store-1", vec![], vec![], vec![], vec![], None).await.unwrap();
    assert_eq!(grown.generation, before.generation + 1);
}

#[tokio::test]
async fn machines_and_former_credentials_are_not_stores() {
    let world = World::new().await;
    let url = world.url("/v1/store/assignments");
    let answer = world.machine_client(&Machine::new()).get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    let old = world.store("store-1").await;
    let new = world.store("store-1").await;
    assert_eq!(world.store_client(&old).get(&url).send().await.unwrap().status(), 403);
    assert_eq!(world.store_client(&new).get(&url).send().await.unwrap().status(), 200);
    let enrolling = world.store_client(&new).post(world.url("/v1/enrollments")).body("{}").send().await.unwrap();
    assert_eq!(enrolling.status(), 403);
}

fn event(status: StepStatus, time: OffsetDateTime) -> Event {
    let data = StepEvent {
        step: Step::Install,
        status,
        attempt: Some(Uuid::new_v4()),
        message: "chunks".into(),
        progress: Some(0.5),
        eta_seconds: None,
        code: None,
    };
    Event::new(Uuid::new_v4(), "agent", MAC, time, data)
}

#[tokio::test]
async fn repeated_events_count_once() {
    let world = World::new().await;
    let store = world.store("store-1").await;
    let client = world.store_client(&store);
    let now = OffsetDateTime::now_utc();
    let events = vec![event(StepStatus::Progress, now), event(StepStatus::Done, now + Duration::from_secs(1))];
    for _ in 0..2 {
        let sent = client.post(world.url("/v1/events")).json(&events).send().await.unwrap();
        assert_eq!(sent.status(), 204);
    }
    let kept = world.state.db.events_of(MAC).await.unwrap();
    assert_eq!(kept, events.iter().map(|event| serde_json::to_value(event).unwrap()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_newer_kind_of_event_is_kept_and_a_shapeless_one_is_named() {
    let world = World::new().await;
    let store = world.store("store-1").await;
    let client = world.store_client(&store);
    let mut newer = serde_json::to_value(event(StepStatus::Done, OffsetDateTime::now_utc())).unwrap();
    newer["data"] = serde_json::json!({ "step": "dance", "mood": 7 });
    let sent = client.post(world.url("/v1/events")).json(&[&newer]).send().await.unwrap();
    assert_eq!(sent.status(), 204);
    assert_eq!(world.state.db.events_of(MAC).await.unwrap(), [newer]);
    let sent = client.post(world.url("/v1/events")).body(r#"[{"id": 1}]"#).send().await.unwrap();
    assert_eq!(sent.status(), 400);
    let body: serde_json::Value = sent.json().await.unwrap();
    assert!(body["message"].as_str().unwrap().starts_with("event 0 of the array"), "{body}");
}

#[tokio::test]
async fn too_much_at_once_is_refused() {
    let world = World::new().await;
    let store = world.store("store-1").await;
    let client = world.store_client(&store);
    let many = format!("[{}]", vec!["1"; 1001].join(","));
    assert_eq!(client.post(world.url("/v1/events")).body(many).send().await.unwrap().status(), 413);
    let long = "x".repeat(1024 * 1024 + 1);
    let sent = client.post(world.url("/v1/events")).body(long).send().await;
    // The server answers before the whole body is there and hangs up; the client may see either.
    assert!(
        sent.is_err_and(|error| error.is_request() || error.is_body())
            || world.state.db.count_events(None).await.unwrap() == 0
    );
}
