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

/// A packet of the agent as a relay at 127.0.0.5 passes it on: what it asks, and the address that it says it has.
fn relayed(message: u8, address: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..4].copy_from_slice(&[1, 1, 6, 1]);
    packet[24..28].copy_from_slice(&[127, 0, 0, 5]);
    packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0xaa, 0xbb, 1]);
    packet.extend_from_slice(&[99, 130, 83, 99, 53, 1, message, 50, 4]);
    packet.extend_from_slice(&address);
    let class = contracts::discovery::VENDOR_CLASS.as_bytes();
    packet.extend_from_slice(&[60, class.len() as u8]);
    packet.extend_from_slice(class);
    packet.extend_from_slice(&[82, 4, 1, 2, 0, 7, 255]);
    packet
}

/// The loopback's addresses know no neighbours: to netboot they are beyond a router.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_behind_a_listed_relay_is_vouched_for_and_nobody_else_there() {
    use std::net::UdpSocket;
    for (listed, expected) in [("relays: [127.0.0.5, 127.0.0.6]", "vouched"), ("", "not-a-neighbour")] {
        let mut world = World::new();
        world.more = listed.into();
        world.know(assignments(1, 1));
        let netboot = world.start().await;
        let voucher = |from: [u8; 4]| {
            let client =
                reqwest::Client::builder().no_proxy().local_address(std::net::IpAddr::from(from)).build().unwrap();
            client.post(netboot.url("/v1/vouchers")).json(&json!({ "fingerprint": "ab".repeat(32) })).send()
        };
        let code = |answer: reqwest::Response| async move { answer.json::<Value>().await.unwrap()["code"].clone() };
        let (own, other) = ([127, 0, 0, 50], [127, 0, 0, 51]);
        let relay = UdpSocket::bind("127.0.0.6:0").unwrap();
        let dhcp = ("127.0.0.1", world.port("dhcp"));
        let mut said = Value::Null;
        // It asks again, as the agent does: netboot listens to a LAN for a moment before it answers for the first time.
        for _ in 0..30 {
            relay.send_to(&relayed(3, own), dhcp).unwrap();
            relay.send_to(&relayed(1, own), dhcp).unwrap();
            let answer = voucher(own).await.unwrap();
            let good = answer.status() == 200;
            said = answer.json().await.unwrap();
            if good || expected != "vouched" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        }
        let Some(statement) = said["statement"].as_str() else {
            assert_eq!(said["code"], expected, "{said}");
            netboot.stop().await;
            continue;
        };
        let statement: Value = serde_json::from_str(statement).unwrap();
        assert_eq!((&statement["mac"], expected), (&MAC.into(), "vouched"));
        assert_eq!(statement["relay"], json!({ "address": "127.0.0.5", "information": "01020007" }));
        assert_eq!(code(voucher(other).await.unwrap()).await, "not-a-neighbour", "an address that nobody claimed");
        // Somebody sends packets of the same kind without being the relay.
        UdpSocket::bind("127.0.0.7:0").unwrap().send_to(&relayed(1, other), dhcp).unwrap();
        // And somebody behind the relay takes the machine's address.
        let mut second = relayed(3, own);
        second[33] = 2;
        relay.send_to(&second, dhcp).unwrap();
        crate::common::until(|| netboot.running.shared.lan.behind_relay(own.into()).is_err()).await;
        assert_eq!(code(voucher(own).await.unwrap()).await, "relay-contested");
        assert_eq!(code(voucher(other).await.unwrap()).await, "not-a-neighbour");
        netboot.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_firmware_hangs_in_large_downloads_gets_them_slowly() {
    let mut world = World::new();
    world.more = "relays: [127.0.0.5, 127.0.0.6]\nslowDown: [{mac: '52:54:00:aa', limit: 1Mbit/s}]".into();
    world.know(assignments(1, 1));
    let netboot = world.start().await;
    netboot.loaded().await;
    let own = [127, 0, 0, 50];
    let relay = std::net::UdpSocket::bind("127.0.0.6:0").unwrap();
    let known = || {
        for message in [3, 1] {
            relay.send_to(&relayed(message, own), ("127.0.0.1", world.port("dhcp"))).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(600));
        netboot.running.shared.lan.behind_relay(own.into()).is_ok()
    };
    crate::common::until(known).await;
    let fetch = async |from: [u8; 4]| {
        let client = reqwest::Client::builder().no_proxy().local_address(std::net::IpAddr::from(from)).build().unwrap();
        let begin = std::time::Instant::now();
        let bytes = client.get(netboot.url("/boot/k8s-worker.efi")).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes, crate::common::uki());
        begin.elapsed().as_secs_f64()
    };
    let (slow, other) = (fetch(own).await, fetch([127, 0, 0, 51]).await);
    // 300123 bytes at 125000 a second, less what goes at once.
    assert!((2.2..20.0).contains(&slow) && other < slow, "{slow} s, others {other} s");
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
