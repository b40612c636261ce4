//! Machines that a person has to admit, over the wire and with the real command.

use crate::world::{INVENTORY, MAC, Machine, World, refused_code, request};
use contracts::claim;
use contracts::enrollment::{Enrollment, EnrollmentState};
use registrar::db::Approval;
use std::process::Command;
use time::{Duration, OffsetDateTime};

const POLICY: &str = "templates:\n  - {name: k8s-worker, admission: person}\nstores:";

async fn strict_world() -> World {
    World::with_inventory(&INVENTORY.replace("stores:", POLICY)).await
}

fn code(answer: &Enrollment) -> String {
    match &answer.state {
        EnrollmentState::Pending { claim_code: Some(code), .. } => code.clone(),
        other => panic!("it does not wait for a person: {other:?}"),
    }
}

fn approve(world: &World, code: &str) -> (Option<i32>, String) {
    let state = world.folder.path().join("state");
    let output = Command::new(env!("CARGO_BIN_EXE_registrar"))
        .args(["machine", "approve", "--code", code, "--state"])
        .arg(state)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_a_machine_lets_in_that_machine_and_no_other() {
    let world = strict_world().await;
    let store = world.store("store-1").await;
    let (machine, other) = (Machine::new(), Machine::new());
    let asked = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    let shown = code(&asked);
    assert_eq!(shown, claim::code(&machine.fingerprint(), asked.id), "the machine can work it out for itself");
    let again = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    assert_eq!(code(&again), shown, "the code stays while it is good");
    assert_eq!(code(&world.shown(&machine, asked.id).await), shown);
    assert_eq!(world.show(&other, asked.id).await.status(), 404, "it is not another machine's");
    let others = code(&world.enroll(&other, &request(store.vouch(&other, MAC))).await);
    assert_ne!(others, shown);

    let (status, said) = approve(&world, "0000-0000-0000");
    assert_eq!(status, Some(1), "{said}");
    let (status, said) = approve(&world, &shown.to_lowercase().replace('-', " "));
    assert!(status == Some(0) && said.contains("w1") && said.contains(MAC), "{said}");
    // The other machine stands at the same place, with the same store's word: the approval is not for its key.
    assert_eq!(code(&world.enroll(&other, &request(store.vouch(&other, MAC))).await), others);
    let admitted = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    assert!(matches!(admitted.state, EnrollmentState::Admitted(_)), "{admitted:?}");
    let (status, said) = approve(&world, &shown);
    assert_eq!(status, Some(1), "a code is used up: {said}");

    let later = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    assert!(matches!(later.state, EnrollmentState::Admitted(_)), "once is enough: {later:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_too_old_lets_nobody_in() {
    let world = strict_world().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let shown = code(&world.enroll(&machine, &request(store.vouch(&machine, MAC))).await);
    let tomorrow = OffsetDateTime::now_utc() + Duration::hours(25);
    assert!(matches!(world.state.db.approve(&shown, tomorrow).await.unwrap(), Approval::Expired(_)));
    let waiting = world.state.db.claims(OffsetDateTime::now_utc()).await.unwrap();
    assert!(waiting.len() == 1 && !waiting[0].approved, "{waiting:?}");
    assert!(world.state.db.claims(tomorrow).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_without_end_do_not_fill_the_registrar() {
    let world = strict_world().await;
    let store = world.store("store-1").await;
    for _ in 0..64 {
        let machine = Machine::new();
        code(&world.enroll(&machine, &request(store.vouch(&machine, MAC))).await);
    }
    let machine = Machine::new();
    let answer = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    assert_eq!(refused_code(&answer), "too-many-claims");
    assert_eq!(world.state.db.claims(OffsetDateTime::now_utc()).await.unwrap().len(), 64);
}
