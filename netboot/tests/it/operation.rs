//! What monitoring and IT see of a running netboot.

use crate::common::{MAC, World, assignments, uki, until};
use contracts::status::Health;
use std::{
    net::UdpSocket,
    process::{Command, Stdio},
};

async fn health(netboot: &crate::common::Netboot) -> (u16, Health) {
    let answer = netboot.client.get(netboot.url("/v1/health")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{series}\n{text}"));
    line.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_tell_how_the_service_is() {
    let world = World::new();
    world.know(assignments(1, 1));
    let netboot = world.start().await;
    netboot.loaded().await;
    let (status, health) = health(&netboot).await;
    assert_eq!((status, health.ready, health.reasons), (200, true, vec![]));
    assert_eq!(health.warnings[0].code, "region-unreachable");

    for path in ["/boot/k8s-worker.efi", "/repo/metadata/root.json", "/nothing", "/also-nothing"] {
        netboot.client.get(netboot.url(path)).send().await.unwrap().bytes().await.unwrap();
    }
    let answer = netboot.client.get(netboot.url("/metrics")).send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(value(&text, "netboot_http_requests_total{area=\"boot\",status=\"2xx\"}"), 1.0);
    assert_eq!(value(&text, "netboot_http_requests_total{area=\"other\",status=\"4xx\"}"), 2.0);
    let boot = crate::common::uki().len() as f64;
    assert_eq!(value(&text, "netboot_sent_bytes_total{way=\"http-boot\"}"), boot);
    assert_eq!(value(&text, "netboot_ready "), 1.0);
    assert_eq!(value(&text, "netboot_region_reachable "), 0.0);
    assert_eq!(value(&text, "netboot_machines_assigned "), 1.0);
    assert!(value(&text, "netboot_process_resident_memory_bytes ") > 1e6);
    assert!(!text.contains(MAC), "no machine is a label");
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_never_heard_from_its_region_is_not_ready() {
    let world = World::new();
    let netboot = world.start().await;
    let (status, health) = health(&netboot).await;
    assert_eq!((status, health.ready), (503, false));
    assert_eq!(health.reasons[0].code, "no-assignments");
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_asks_the_running_service() {
    let world = World::new();
    world.know(assignments(1, 1));
    let netboot = world.start().await;
    netboot.loaded().await;
    let config = world.folder.path().join("netboot.yaml");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_netboot")).arg("status").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = run(&["--url", &netboot.base]);
    assert!(table.contains("store         store-17\n") && table.contains("ready         yes\n"), "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&["--json", "--config", config.to_str().unwrap()])).unwrap();
    assert_eq!((&json["health"]["ready"], &json["status"]["store"]), (&true.into(), &"store-17".into()));
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_json_where_that_is_asked_for() {
    let world = World::new();
    world.know(assignments(1, 1));
    let config = world.write_config();
    let log = world.folder.path().join("log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_netboot"))
        .args(["serve", "--log-format", "json", "--config"])
        .arg(&config)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(&log).unwrap();
    until(|| read().contains("ready: ")).await;
    until(|| read().contains("boot file k8s-worker.efi")).await;
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"\0\x01none\0octet\0", ("127.0.0.1", world.tftp)).unwrap();
    until(|| read().contains("no-such-file")).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let lines: Vec<serde_json::Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    // What programs look for stands beside the sentence, each in a field of its own.
    let loaded = lines.iter().find(|line| line["file"] == "k8s-worker.efi").unwrap();
    assert_eq!((&loaded["version"], &loaded["bytes"]), (&"1".into(), &uki().len().into()));
    let refused = lines.iter().find(|line| line["code"] == "no-such-file").unwrap();
    assert_eq!((&refused["path"], &refused["answered"]), (&"tftp".into(), &false.into()));
    assert_eq!((&refused["client"], &refused["mac"]), (&"127.0.0.1".into(), &serde_json::Value::Null));
}

#[test]
fn a_service_that_nobody_stopped_does_not_keep_its_runtime_from_ending() {
    let (done, ended) = std::sync::mpsc::channel();
    let world = World::new();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        // What a failed assertion does.
        let failed = runtime.block_on(async {
            tokio::spawn(async move {
                let netboot = world.start().await;
                netboot.loaded().await;
                panic!("on purpose: {}", netboot.base);
            })
            .await
        });
        assert!(failed.unwrap_err().is_panic());
        drop(runtime);
        done.send(()).unwrap();
    });
    ended.recv_timeout(std::time::Duration::from_secs(30)).expect("the runtime ends");
    thread.join().unwrap();
}
