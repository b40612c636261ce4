//! The agent's calls over a real connection, and what must outlive a restart.

use crate::common::{MAC, Netboot, World, assignments};
use contracts::{
    assignment::{Action, Assignment},
    event::{Event, StepEvent, StepStatus},
    status::StoreStatus,
    step::Step,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

fn report(mac: &str, mode: &str) -> Value {
    let smbios = json!({ "manufacturer": "", "product": "", "serial": "", "uuid": "" });
    json!({
        "version": 1, "attempt": Uuid::from_u128(1), "boot_mode": mode, "mac": mac, "boot_id": "b",
        "facts": { "version": 1, "firmware": "uefi", "smbios": smbios, "cpus": 2, "memory_bytes": 1, "disks": [], "nics": [] },
    })
}

fn event(step: Step, status: StepStatus) -> Event {
    let data = StepEvent {
        step,
        status,
        attempt: Some(Uuid::from_u128(1)),
        message: "from the agent".into(),
        progress: None,
        eta_seconds: None,
        code: None,
    };
    Event::new(Uuid::new_v4(), "agent", MAC, OffsetDateTime::now_utc(), data)
}

async fn ask(netboot: &Netboot, mac: &str, mode: &str) -> Assignment {
    let sent = netboot.client.post(netboot.url("/v1/machines")).json(&report(mac, mode)).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    sent.json().await.unwrap()
}

async fn say(netboot: &Netboot, events: &[Event]) -> u16 {
    netboot.client.post(netboot.url("/v1/events")).json(events).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_machine_is_told_to_boot_also_after_a_restart_of_netboot() {
    let world = World::new();
    let netboot = world.start().await;
    let early = ask(&netboot, MAC, "installer").await;
    assert_eq!(early.action, Action::Wait, "the region was never reached: {}", early.reason);
    assert_eq!(ask(&netboot, MAC, "installed").await.action, Action::Boot);
    netboot.stop().await;

    world.know(assignments(1, 1));
    let netboot = world.start().await;
    netboot.loaded().await;
    let assignment = ask(&netboot, MAC, "installer").await;
    assert_eq!(assignment.action, Action::Install);
    assert_eq!(assignment.image.unwrap().template, "k8s-worker");
    assert!(assignment.registrars[0].relay.starts_with("127.0.0.1:"));
    assert_eq!(assignment.registrars[0].server_name, "registrar.region.test");
    assert_eq!(ask(&netboot, "02:00:00:00:00:99", "installer").await.action, Action::Refuse);

    let verified = event(Step::Verify, StepStatus::Done);
    assert_eq!(say(&netboot, &[event(Step::Verify, StepStatus::Started), verified.clone()]).await, 204);
    assert_eq!(say(&netboot, &[verified]).await, 204, "a repeat is harmless");
    assert_eq!(ask(&netboot, MAC, "installer").await.action, Action::Boot);
    let status: StoreStatus = netboot.client.get(netboot.url("/v1/status")).send().await.unwrap().json().await.unwrap();
    assert_eq!((status.store.as_str(), status.region_reachable, status.events_waiting), ("store-17", false, 2));
    let machine = status.machines.iter().find(|m| m.mac == MAC).unwrap();
    assert!(machine.installed && machine.name.as_deref() == Some("w1"));
    netboot.stop().await;

    let netboot = world.start().await;
    assert_eq!(ask(&netboot, MAC, "installer").await.action, Action::Boot, "after a restart");
    netboot.stop().await;

    world.know(assignments(2, 2));
    let netboot = world.start().await;
    netboot.loaded().await;
    assert_eq!(ask(&netboot, MAC, "installer").await.action, Action::Install, "IT ordered a reinstall");
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_answered_with_a_code() {
    let world = World::new();
    let netboot = world.start().await;
    let post = |path: &str, body: String| netboot.client.post(netboot.url(path)).body(body).send();
    for (path, body, status, code) in [
        ("/v1/machines", "{}".to_owned(), 400, "bad-document"),
        ("/v1/machines", report("no mac", "installer").to_string(), 400, "bad-document"),
        ("/v1/machines", "x".repeat(300 << 10), 413, "body-too-large"),
        ("/v1/events", "[1]".to_owned(), 400, "bad-document"),
        // The loopback has no neighbours: netboot vouches only for what it sees on its LAN.
        ("/v1/vouchers", json!({ "fingerprint": "ab".repeat(32) }).to_string(), 409, "not-a-neighbour"),
    ] {
        let answer = post(path, body).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], code, "{path}");
    }
    let time: Value = netboot.client.get(netboot.url("/v1/time")).send().await.unwrap().json().await.unwrap();
    assert_eq!(time["source"], "system-clock");
    let page = netboot.client.get(netboot.url("/")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Store store-17") && page.contains("line to head office is down"), "{page}");
    netboot.stop().await;
}
