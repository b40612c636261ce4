//! A state folder and a cache on file systems that are full: nothing is lost, it is said, and it goes on when there is room.

use crate::{
    cache::{images, store},
    common::{MAC, World, assignments, until},
    running::Program,
};
use contracts::event::{Event, StepEvent, StepStatus};
use serde_json::Value;
use std::{fs, path::Path, process::Command, time::Duration};

/// Set inside the namespace.
const INSIDE: &str = "SHELFBOOT_TEST_MOUNTS";

/// Runs one ignored test of this program in a mount namespace, where it may mount file systems that nobody else sees.
fn run(test: &str) {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("timeout").arg("180").arg(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let output = command.output().expect("unshare (util-linux) and timeout (coreutils) are needed for this test");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{test} inside a namespace:\n{text}");
}

fn mount(options: &str, at: &Path) {
    assert!(std::env::var_os(INSIDE).is_some(), "this test is run by another one, in a mount namespace");
    fs::create_dir_all(at).unwrap();
    let output = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).output().unwrap();
    assert!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr));
}

fn events(from: u32, count: u32) -> Vec<Event> {
    let one = |number: u32| {
        let data = StepEvent {
            step: contracts::step::Step::Install,
            status: StepStatus::Progress,
            attempt: None,
            message: format!("event {number} {}", "x".repeat(1500)),
            progress: Some(0.5),
            eta_seconds: None,
            code: None,
        };
        let failed = StepEvent { status: StepStatus::Failed, ..data };
        Event::new(uuid::Uuid::new_v4(), "agent", MAC, time::OffsetDateTime::now_utc(), failed)
    };
    (from..from + count).map(one).collect()
}

fn fill(folder: &Path) -> std::path::PathBuf {
    let filler = folder.join("filler");
    let output = Command::new("dd").args(["if=/dev/zero", "bs=4096"]).arg(format!("of={}", filler.display())).output();
    assert!(!output.unwrap().status.success(), "the file system has an end");
    filler
}

#[test]
fn events_that_find_no_room_stay_with_the_agent() {
    run("full::inside_queue");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a namespace by another test"]
async fn inside_queue() {
    let world = World::new();
    mount("size=4m", &world.state());
    world.know(assignments(1, 1));
    let mut program = Program::start(&world, "").await;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = program.base.clone();
    let say = |batch: Vec<Event>| {
        let request = client.post(format!("{base}/v1/events")).json(&batch).send();
        async move { request.await.unwrap() }
    };
    let waiting = async |program: &Program| -> u64 {
        let status: Value = serde_json::from_slice(&program.get("/v1/status").await).unwrap();
        status["events_waiting"].as_u64().unwrap()
    };
    assert_eq!(say(events(0, 10)).await.status(), 204);
    assert_eq!(waiting(&program).await, 10);

    let filler = fill(&world.state());
    let mut taken = 10;
    // The file may have room left in its last page.
    let mut answer = say(events(1000, 10)).await;
    for round in 0..20 {
        if answer.status() != 204 {
            break;
        }
        taken += 10;
        answer = say(events(2000 + 10 * round, 10)).await;
    }
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_server_error() && text.contains("No space left"), "{status} {text}");
    assert!(program.log().contains("events cannot be written down"), "{}", program.log());
    assert_eq!(waiting(&program).await, taken, "what was not taken does not count");
    // Everything else goes on.
    assert!(!program.get("/boot/k8s-worker.efi").await.is_empty());

    fs::remove_file(filler).unwrap();
    let again = events(5000, 10);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while say(again.clone()).await.status() != 204 {
        assert!(std::time::Instant::now() < end, "{}", program.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(waiting(&program).await, taken + 10, "the same events, told several times, count once");
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    let program = Program::start(&world, "").await;
    assert_eq!(waiting(&program).await, taken + 10, "after SIGKILL");
    program.end().await;
}

#[test]
fn a_cache_that_has_no_room_says_so_and_goes_on_when_it_has() {
    run("full::inside_cache");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a namespace by another test"]
async fn inside_cache() {
    let (world, upstream, images) = store("").await;
    let cache = world.folder.path().join("cache");
    mount("size=72m", &cache);
    // So little is left that the cache would have to take what belongs to the rest of the machine.
    let half = images.archive_bytes("k8s-worker", "1") / 2;
    let filler = cache.join(".filler");
    let size = (free(&cache) - (64 << 20)).saturating_sub(half);
    fs::write(&filler, vec![0; usize::try_from(size).unwrap()]).unwrap();
    upstream.faults().slow = Some(Duration::from_millis(20));
    let program = Program::start(&world, "").await;
    program.says("the cache is not complete").await;
    let status: Value = serde_json::from_slice(&program.get("/v1/status").await).unwrap();
    assert_eq!(status["cache"]["state"], "full", "{status}");
    assert!(status["cache"]["message"].as_str().unwrap().contains("too little room"), "{status}");

    // Somebody makes room, and while the image is on its way somebody else takes all of it.
    fs::remove_file(&filler).unwrap();
    until(|| fs::read_dir(cache.join(".partial")).unwrap().next().is_some()).await;
    let filler = fill(&cache);
    program.says("No space left").await;
    let log = program.log();
    assert!(!log.contains("boot file k8s-worker.efi"), "nothing half is offered: {log}");
    fs::remove_file(filler).unwrap();
    upstream.faults().slow = None;
    program.says("boot file k8s-worker.efi").await;
    let whole = images::whole(&cache, &world.repository.root_json(), "k8s-worker").await;
    assert_eq!(whole.as_deref(), Some("1"));
    program.end().await;
}

fn free(folder: &Path) -> u64 {
    let found = nix::sys::statvfs::statvfs(folder).unwrap();
    found.blocks_available() * found.fragment_size()
}
