//! What is old or too much goes, what is needed stays.

use crate::world::{MAC, Machine, World, request};
use contracts::event::{Event, StepEvent, StepStatus};
use contracts::step::Step;
use registrar::db::{Removed, from_json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

const KEEP: Duration = Duration::days(90);

async fn keep_events(world: &World, store: &str, count: u64, at: OffsetDateTime) {
    let rows: Vec<_> = (0..count)
        .map(|number| {
            let data = StepEvent {
                step: Step::Install,
                status: StepStatus::Progress,
                attempt: None,
                message: number.to_string(),
                progress: None,
                eta_seconds: None,
                code: None,
            };
            let event = Event::new(Uuid::new_v4(), "agent", "02:00:00:00:00:01", at, data);
            from_json(&serde_json::to_value(event).unwrap()).unwrap()
        })
        .collect();
    world.state.db.keep_events(store, &rows, at).await.unwrap();
}

#[tokio::test]
async fn old_events_and_the_surplus_of_one_store_are_removed() {
    let world = World::new().await;
    let now = OffsetDateTime::now_utc();
    keep_events(&world, "store-1", 7, now - Duration::days(91)).await;
    keep_events(&world, "store-1", 12, now - Duration::hours(1)).await;
    keep_events(&world, "store-2", 3, now).await;
    // The running server may have been there first.
    world.state.db.remove_old(now, KEEP, 10).await.unwrap();
    assert_eq!(world.state.db.count_events(None).await.unwrap(), 13);
    assert_eq!(world.state.db.remove_old(now, KEEP, 10).await.unwrap(), Removed::default());
}

#[tokio::test]
async fn the_latest_enrollment_of_a_machine_stays_however_old() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let first = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    let second = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    let later = OffsetDateTime::now_utc() + Duration::days(91);
    let removed = world.state.db.remove_old(later, KEEP, 10).await.unwrap();
    assert_eq!(removed.enrollments, 1);
    assert_eq!(world.show(&machine, first.id).await.status(), 404);
    assert_eq!(world.show(&machine, second.id).await.status(), 200);
}
