//! Who gets in, over the wire.

use crate::world::{MAC, Machine, World, refused_code, request};
use contracts::enrollment::EnrollmentState;

#[tokio::test]
async fn a_vouched_machine_is_admitted_under_its_entrys_name() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let answer = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    let EnrollmentState::Admitted(admission) = answer.state else { panic!("{answer:?}") };
    assert_eq!((admission.name.as_str(), admission.join, admission.ready), ("w1", None, false));
    let shown = world.state.db.machines(Some("w1")).await.unwrap().remove(0);
    assert_eq!(shown.fingerprint, Some(machine.fingerprint()));
    assert_eq!((shown.last_step.as_deref(), shown.last_status.as_deref()), (Some("enroll"), Some("done")));
}

#[tokio::test]
async fn a_tampered_voucher_is_refused() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let mut voucher = store.vouch(&machine, "52:54:00:00:00:77");
    voucher.statement = voucher.statement.replace("00:77", "00:01");
    let answer = world.enroll(&machine, &request(voucher)).await;
    assert_eq!(refused_code(&answer), "voucher-signature");
}

#[tokio::test]
async fn another_stores_voucher_is_refused() {
    let world = World::new().await;
    let (_, second, machine) = (world.store("store-1").await, world.store("store-2").await, Machine::new());
    // Signed by store-2, but in store-1's name.
    let mut forged = second;
    forged.credential.store = "store-1".into();
    let answer = world.enroll(&machine, &request(forged.vouch(&machine, MAC))).await;
    assert_eq!(refused_code(&answer), "voucher-signature");
}

#[tokio::test]
async fn a_voucher_for_another_machine_is_refused() {
    let world = World::new().await;
    let (store, machine, thief) = (world.store("store-1").await, Machine::new(), Machine::new());
    let answer = world.enroll(&thief, &request(store.vouch(&machine, MAC))).await;
    assert_eq!(refused_code(&answer), "voucher-fingerprint");
}

#[tokio::test]
async fn a_second_key_waits_until_the_entry_is_reopened() {
    let world = World::new().await;
    let (store, first, second) = (world.store("store-1").await, Machine::new(), Machine::new());
    let admitted = world.enroll(&first, &request(store.vouch(&first, MAC))).await;
    let intruder = request(store.vouch(&second, MAC));
    assert_eq!(refused_code(&world.enroll(&second, &intruder).await), "key-pinned");
    assert_eq!(refused_code(&world.enroll(&second, &intruder).await), "key-pinned");
    let events = world.state.db.events_of(MAC).await.unwrap();
    let told = events.iter().filter(|event| event["data"]["code"] == "key-pinned").count();
    assert_eq!(told, 1, "a refusal is told once");

    assert_eq!(world.state.db.reopen("w1", time::OffsetDateTime::now_utc()).await.unwrap(), Some(true));
    let answer = world.enroll(&second, &intruder).await;
    assert!(matches!(answer.state, EnrollmentState::Admitted(_)), "{answer:?}");
    assert_eq!(world.show(&first, admitted.id).await.status(), 404, "the old machine's enrollment is gone");
    assert_eq!(refused_code(&world.enroll(&first, &request(store.vouch(&first, MAC))).await), "key-pinned");
}

#[tokio::test]
async fn two_machines_at_once_get_one_entry() {
    let world = World::new().await;
    let store = world.store("store-2").await;
    let machines: Vec<Machine> = (0..4).map(|_| Machine::new()).collect();
    let requests: Vec<_> = machines.iter().map(|machine| request(store.vouch(machine, MAC))).collect();
    let calls = machines.iter().zip(&requests).map(|(machine, request)| world.enroll(machine, request));
    let answers = futures_util::future::join_all(calls).await;
    let admitted = answers.iter().filter(|a| matches!(a.state, EnrollmentState::Admitted(_))).count();
    assert_eq!(admitted, 1, "{answers:?}");
}

#[tokio::test]
async fn a_repeat_is_the_same_enrollment() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let asked = request(store.vouch(&machine, MAC));
    let first = world.enroll(&machine, &asked).await;
    assert_eq!(first, world.enroll(&machine, &asked).await);
    let mut next_call = asked.clone();
    next_call.nonce = "f".repeat(32);
    assert_eq!(first.id, world.enroll(&machine, &next_call).await.id, "the same attempt of the same boot");
    let after_reboot = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    assert_ne!(first.id, after_reboot.id);
    assert_eq!(world.state.db.count_events(Some(MAC)).await.unwrap(), 2, "one enroll event per enrollment");
}

#[tokio::test]
async fn an_enrollment_is_shown_to_its_own_machine_only() {
    let world = World::new().await;
    let (store, machine, other) = (world.store("store-1").await, Machine::new(), Machine::new());
    let id = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await.id;
    let answer = world.show(&other, id).await;
    assert_eq!(answer.status(), 404);
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["code"], "not-found");
}

#[tokio::test]
async fn documents_that_cannot_be_used_are_named() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let good = serde_json::to_value(request(store.vouch(&machine, MAC))).unwrap();
    for (field, value) in
        [("version", 2.into()), ("nonce", "short".into()), ("boot_id", "?".into()), ("facts", 7.into())]
    {
        let mut bad = good.clone();
        bad[field] = value;
        let answer = world.machine_client(&machine).post(world.url("/v1/enrollments")).json(&bad).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{field}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["code"], "bad-document", "{field}");
    }
}
