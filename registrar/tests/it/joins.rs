//! From a CSR to a node that the cluster reports ready.

use crate::world::{INVENTORY, MAC, Machine, World, kubelet_csr, refused_code, request};
use contracts::enrollment::{Admission, Enrollment, EnrollmentRequest, EnrollmentState};

fn admission(enrollment: Enrollment) -> Admission {
    match enrollment.state {
        EnrollmentState::Admitted(admission) => admission,
        other => panic!("not admitted: {other:?}"),
    }
}

fn certificate(admission: &Admission) -> &str {
    let Some(material) = &admission.join else { panic!("{admission:?}") };
    &material.certificates["kubelet-client"]
}

#[tokio::test]
async fn a_csr_brings_join_material_once() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let mut asked = request(store.vouch(&machine, MAC));
    let first = world.enroll(&machine, &asked).await;
    asked.csrs.push(kubelet_csr("w1"));
    let joined = world.enroll(&machine, &asked).await;
    assert_eq!(first.id, joined.id);
    assert_eq!(certificate(&admission(joined)), "certificate 1");
    // The answer may have been lost: a repeat brings the same certificate, and the cluster is not asked again.
    assert_eq!(certificate(&admission(world.enroll(&machine, &asked).await)), "certificate 1");
    assert_eq!(certificate(&admission(world.shown(&machine, first.id).await)), "certificate 1");
    let joins = world.cluster.joins.lock().unwrap().clone();
    assert_eq!(joins.len(), 1);
    assert_eq!((joins[0].id, joins[0].name.as_str()), (first.id, "w1"));
}

#[tokio::test]
async fn a_new_key_gets_a_new_certificate() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let mut asked = request(store.vouch(&machine, MAC));
    asked.csrs = vec![kubelet_csr("w1")];
    world.enroll(&machine, &asked).await;
    asked.csrs = vec![kubelet_csr("w1")];
    assert_eq!(certificate(&admission(world.enroll(&machine, &asked).await)), "certificate 2");
}

#[tokio::test]
async fn a_csr_for_another_node_is_refused() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let mut asked = request(store.vouch(&machine, MAC));
    asked.csrs.push(kubelet_csr("w2"));
    assert_eq!(refused_code(&world.enroll(&machine, &asked).await), "csr-subject");
    assert!(world.cluster.joins.lock().unwrap().is_empty());
    let entry = world.state.db.machines(Some("w1")).await.unwrap().remove(0);
    assert_eq!(entry.fingerprint, None, "a refused request pins nothing");
}

#[tokio::test]
async fn a_cluster_that_is_down_is_waited_for() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    *world.cluster.down.lock().unwrap() = true;
    let mut asked = request(store.vouch(&machine, MAC));
    asked.csrs.push(kubelet_csr("w1"));
    let pending = world.enroll(&machine, &asked).await;
    let EnrollmentState::Pending { reason, .. } = &pending.state else { panic!("{pending:?}") };
    assert!(reason.contains("connection refused"), "{reason}");
    *world.cluster.down.lock().unwrap() = false;
    assert_eq!(certificate(&admission(world.shown(&machine, pending.id).await)), "certificate 1");
}

#[tokio::test]
async fn a_template_without_a_broker_waits_and_is_named() {
    let world = World::with_inventory(&INVENTORY.replace("k8s-worker", "till")).await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let asked = EnrollmentRequest { template: "till".into(), ..request(store.vouch(&machine, MAC)) };
    assert_eq!(admission(world.enroll(&machine, &asked).await).name, "w1");
    let asked = EnrollmentRequest { join: true, ..asked };
    let answer = world.enroll(&machine, &asked).await;
    let EnrollmentState::Pending { claim_code: None, reason } = answer.state else { panic!("{answer:?}") };
    assert!(reason.contains("no cluster for the template till"), "{reason}");
}

#[tokio::test]
async fn ready_is_told_once_and_only_for_this_boot() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let asked = request(store.vouch(&machine, MAC));
    let id = world.enroll(&machine, &asked).await.id;
    *world.cluster.ready_boot.lock().unwrap() = Some("another boot".into());
    let waiting = admission(world.shown(&machine, id).await);
    assert_eq!((waiting.ready, waiting.ready_reason.as_deref()), (false, Some("no node yet")));
    *world.cluster.ready_boot.lock().unwrap() = Some(asked.boot_id.clone());
    for _ in 0..2 {
        let ready = admission(world.shown(&machine, id).await);
        assert_eq!((ready.ready, ready.ready_reason), (true, None));
    }
    let events = world.state.db.events_of(MAC).await.unwrap();
    let told: Vec<_> = events.iter().filter(|event| event["data"]["step"] == "ready").collect();
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["source"], &told[0]["data"]["status"]), (&"registrar".into(), &"done".into()));
    let view = world.state.db.machines(Some("w1")).await.unwrap().remove(0);
    assert!(view.ready_since.is_some());
    assert_eq!(view.boot_id.as_ref(), Some(&asked.boot_id));

    // Power off and on: the pinned key comes back with another boot id, and that boot is not ready yet.
    let again = request(store.vouch(&machine, MAC));
    let id = world.enroll(&machine, &again).await.id;
    assert!(!admission(world.shown(&machine, id).await).ready);
    assert!(world.state.db.machines(Some("w1")).await.unwrap()[0].ready_since.is_none());
    *world.cluster.ready_boot.lock().unwrap() = Some(again.boot_id.clone());
    assert!(admission(world.shown(&machine, id).await).ready);
}

#[tokio::test]
async fn a_revoked_machine_stays_out_until_its_entry_is_opened_again() {
    let world = World::new().await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let mut asked = request(store.vouch(&machine, MAC));
    asked.csrs = vec![kubelet_csr("w1")];
    let joined = world.enroll(&machine, &asked).await;
    let now = time::OffsetDateTime::now_utc();
    assert_eq!(world.state.db.revoke("w1", now).await.unwrap().as_deref(), Some("k8s-worker"));
    assert_eq!(world.state.db.revoke("w9", now).await.unwrap(), None);
    assert_eq!(world.show(&machine, joined.id).await.status(), 404, "what it was given is forgotten");
    assert_eq!(refused_code(&world.enroll(&machine, &asked).await), "revoked");
    let another = Machine::new();
    assert_eq!(refused_code(&world.enroll(&another, &request(store.vouch(&another, MAC))).await), "revoked");
    world.state.db.reopen("w1", time::OffsetDateTime::now_utc()).await.unwrap();
    let again = world.enroll(&another, &request(store.vouch(&another, MAC))).await;
    assert_eq!(admission(again).name, "w1");
}

#[tokio::test]
async fn a_revoked_key_gets_in_nowhere_else() {
    let inventory = |first: &str| {
        format!(
            "apiVersion: shelfboot.dev/v1\nkind: Inventory\nstores:\n  - name: store-1\n    machines:\n{first}      \
             - {{name: spare, template: k8s-worker, channel: stable, any: true}}\n"
        )
    };
    let named = "      - {name: w1, template: k8s-worker, channel: stable, mac: '52:54:00:00:00:01'}\n";
    let world = World::with_inventory(&inventory(named)).await;
    let (store, machine) = (world.store("store-1").await, Machine::new());
    let asked = request(store.vouch(&machine, MAC));
    assert_eq!(admission(world.enroll(&machine, &asked).await).name, "w1");
    world.state.db.revoke("w1", time::OffsetDateTime::now_utc()).await.unwrap();
    // The natural next step: IT takes the entry out of the inventory.
    std::fs::write(world.inventory_file(), inventory("")).unwrap();
    let begin = std::time::Instant::now();
    while world.state.db.machines(Some("w1")).await.unwrap().remove(0).listed {
        assert!(begin.elapsed() < std::time::Duration::from_secs(30), "the inventory was not read again");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(refused_code(&world.enroll(&machine, &asked).await), "revoked");
    let honest = Machine::new();
    let other = request(store.vouch(&honest, "52:54:00:00:00:02"));
    assert_eq!(admission(world.enroll(&honest, &other).await).name, "spare");
}
