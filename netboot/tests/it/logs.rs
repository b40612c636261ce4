//! What machines log of their attempts: taken from the machine itself, bounded, and read with one command.

use crate::common::{MAC, World, assignments};
use contracts::logs::{LARGEST, LogBundle};
use serde_json::{Value, json};
use std::process::Command;

fn bundle(mac: &str, attempt: u128) -> Value {
    json!({
        "version": 1, "attempt": uuid::Uuid::from_u128(attempt), "mac": mac, "part": "installer", "agent": "0.1.0",
        "time": "2026-11-21T09:00:00Z",
        "end": {"step": "plan", "status": "failed", "code": "foreign-data", "message": "sda holds \u{1b}[2J data"},
        "lines": "    1.250 [plan] ... choosing the disk", "kernel": "[    0.000000] Linux version 6.12",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_asked_hands_its_log_over_and_it_reads_it_with_one_command() {
    let world = World::new();
    world.know(assignments(1, 1));
    let netboot = world.start().await;
    let send = |body: String| netboot.client.post(netboot.url("/v1/logs")).body(body).send();
    let code = |answer: reqwest::Response| async move {
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned())
    };
    // Nobody on the loopback is a neighbour: only an attempt that was reported may be spoken of.
    let stranger = send(bundle(MAC, 1).to_string()).await.unwrap();
    assert_eq!(code(stranger).await, (403, "not-your-machine".into()));
    let smbios = json!({ "manufacturer": "", "product": "", "serial": "", "uuid": "" });
    let report = json!({
        "version": 1, "attempt": uuid::Uuid::from_u128(1), "boot_mode": "installer", "mac": MAC, "boot_id": "b",
        "facts": { "version": 1, "firmware": "uefi", "smbios": smbios, "cpus": 2, "memory_bytes": 1, "disks": [], "nics": [] },
    });
    let asked = netboot.client.post(netboot.url("/v1/machines")).json(&report).send().await.unwrap();
    assert_eq!(asked.status(), 200);
    assert_eq!(send(bundle(MAC, 1).to_string()).await.unwrap().status(), 204);
    assert_eq!(code(send(bundle(MAC, 1).to_string()).await.unwrap()).await, (429, "too-many-logs".into()));
    assert_eq!(code(send(bundle(MAC, 2).to_string()).await.unwrap()).await, (403, "not-your-machine".into()));
    assert_eq!(code(send("x".repeat(LARGEST + 1)).await.unwrap()).await, (413, "body-too-large".into()));
    assert_eq!(code(send("{}".into()).await.unwrap()).await, (400, "bad-document".into()));
    let read = netboot.client.get(netboot.url("/v1/logs")).send().await.unwrap();
    assert_eq!(read.status(), 405, "logs are served to nobody on the LAN");
    netboot.stop().await;

    let ask = |more: &[&str]| {
        let config = world.folder.path().join("netboot.yaml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_netboot"));
        let output = command.arg("logs").arg("--config").arg(config).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, list, _) = ask(&[]);
    assert!(code == Some(0) && list.contains("foreign-data: sda holds  [2J data"), "{list}");
    let (code, text, _) = ask(&[MAC]);
    assert!(code == Some(0) && text.contains("choosing the disk") && text.contains("Linux version 6.12"), "{text}");
    let (code, json, _) = ask(&[MAC, "--attempt", "00000000", "--json"]);
    let bundle: LogBundle = serde_json::from_str(&json).unwrap();
    assert_eq!((code, bundle.end.code.as_deref()), (Some(0), Some("foreign-data")));
    let (code, _, error) = ask(&["02:00:00:00:00:99"]);
    assert!(code == Some(1) && error.contains("no log is kept") && error.contains("hint:"), "{error}");
}
