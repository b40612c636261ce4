//! Help and errors as people see them. `INSTA_UPDATE=always cargo test -p netboot` writes them anew.

use crate::{common::World, program::Place};
use insta::assert_snapshot;
use std::time::{Duration, Instant};

const CHECK: [&str; 3] = ["check", "--config", "netboot.yaml"];
const SERVE: [&str; 3] = ["serve", "--config", "netboot.yaml"];

/// A netboot that would start, and its configuration.
fn ready() -> (Place, String) {
    let world = World::new();
    let text = std::fs::read_to_string(world.write_config()).unwrap();
    (Place::within(env!("CARGO_BIN_EXE_netboot"), world.folder), text)
}

/// Runs with a changed configuration.
fn with(change: impl FnOnce(&Place, String) -> String, arguments: &[&str]) -> String {
    let (place, text) = ready();
    let text = change(&place, text);
    place.file("netboot.yaml", &text);
    place.run(arguments)
}

#[test]
fn help_of_every_command() {
    let (place, _) = ready();
    let commands: [&[&str]; 7] = [
        &["--help"],
        &["serve", "--help"],
        &["status", "--help"],
        &["check", "--help"],
        &["pin", "set", "--help"],
        &["pin", "remove", "--help"],
        &["completions", "--help"],
    ];
    assert_snapshot!(commands.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn wrong_command_lines() {
    let (place, _) = ready();
    let all: [&[&str]; 3] = [&["dance"], &["serve"], &["serve", "--config"]];
    assert_snapshot!(all.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn wrong_configuration_files() {
    let (place, _) = ready();
    let missing = place.run(&["check", "--config", "none.yaml"]);
    std::fs::create_dir(place.path("folder.yaml")).unwrap();
    let folder = place.run(&["check", "--config", "folder.yaml"]);
    let broken = with(|_, _| "apiVersion: [broken".into(), &CHECK);
    let unknown = with(|_, _| "apiVersion: shelfboot.dev/v1\nkind: Netboot\nhtpPort: 80\n".into(), &CHECK);
    let kind = with(|_, text| text.replace("kind: Netboot", "kind: Registrar"), &CHECK);
    let version = with(|_, text| text.replace("dev/v1", "dev/v9"), &CHECK);
    // The list of all settings grows.
    let unknown = unknown.lines().map(|line| line.split(", expected one of ").next().unwrap()).collect::<Vec<_>>();
    assert_snapshot!([missing, folder, broken, unknown.join("\n"), kind, version].join("\n"));
}

#[test]
fn wrong_files_that_the_configuration_names() {
    let gone = |name: &'static str| {
        with(
            |place, text| {
                std::fs::remove_file(place.path(name)).unwrap();
                text
            },
            &CHECK,
        )
    };
    let changed = |name: &'static str, content: &'static str| {
        with(
            |place, text| {
                place.file(name, content);
                text
            },
            &CHECK,
        )
    };
    let no_repository = with(|_, text| text.replace("repository: repository", "repository: none"), &CHECK);
    let no_credential = gone("store.json");
    let wrong_credential = changed("store.json", "{\"version\": 1}");
    let no_trust = gone("root.json");
    let wrong_trust = changed("root.json", "{}");
    let all = [no_repository, no_credential, wrong_credential, no_trust, wrong_trust];
    // What was found good depends on the test's own names and ports.
    let all =
        all.map(|text| text.lines().filter(|line| !line.starts_with("registrars ")).collect::<Vec<_>>().join("\n"));
    assert_snapshot!(all.join("\n\n"));
}

#[test]
fn check_says_everything_at_once_and_as_json() {
    let (place, text) = ready();
    let broken = text.replace("interface: lo", "interface: wan7") + "htpPort: 81\ncheckEvery: soon\n";
    place.file("netboot.yaml", &broken);
    assert_eq!(place.run(&CHECK).matches("error: netboot.yaml:").count(), 2, "{}", place.run(&CHECK));
    place.file("netboot.yaml", &text.replace("interface: lo", "interface: wan7"));
    std::fs::remove_file(place.path("store.json")).unwrap();
    let output = place.command(&["check", "--json", "--config", "netboot.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "what the machine lacks counts more");
    assert!(output.stderr.is_empty());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["good"], false);
    let messages: Vec<_> =
        json["problems"].as_array().unwrap().iter().map(|p| p["message"].as_str().unwrap()).collect();
    assert!(messages[0].contains("wan7") && messages[1].contains("store.json") && messages.len() == 2, "{messages:?}");
}

#[test]
fn an_interface_that_is_not_there() {
    let said = with(|_, text| text.replace("interface: lo", "interface: wan7"), &CHECK);
    let others = said.find("there are: ").unwrap();
    let end = said[others..].find('\n').unwrap() + others;
    let said = said.replace(&said[others..end], "there are: OTHERS");
    let said: Vec<_> = said.lines().filter(|line| !line.starts_with("registrars ")).collect();
    assert_snapshot!(said.join("\n"));
}

#[test]
fn a_busy_port() {
    let (place, text) = ready();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let line = text.lines().find(|line| line.starts_with("httpPort")).unwrap();
    place.file("netboot.yaml", &text.replace(line, &format!("httpPort: {port}")));
    assert_snapshot!(place.run(&SERVE).replace(&port, "PORT"));
}

#[test]
fn a_state_folder_in_use() {
    let (place, _) = ready();
    let log = std::fs::File::create(place.path("log")).unwrap();
    let mut first = place.command(&SERVE).stderr(log).spawn().unwrap();
    wait_for(&place, "ready");
    // Other ports, the same state.
    let other = World::new();
    let text = std::fs::read_to_string(other.write_config()).unwrap();
    place.file("netboot.yaml", &text);
    let said = place.run(&SERVE);
    stop(&mut first, "TERM");
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_snapshot!(said);
}

#[test]
fn full_disks() {
    let (place, text) = ready();
    assert_snapshot!("full_output", place.run_into_full_output(&["completions", "bash"]));
    assert_snapshot!("full_output_of_check", place.run_into_full_output(&CHECK));
    place.file("netboot.yaml", &text.replace("state: state", "state: full/state"));
    let Some(said) = place.run_on_full_disk(0, &SERVE) else { return };
    assert_snapshot!("full_disk_for_the_state", said);
}

#[test]
fn a_signal_ends_the_service_in_good_order() {
    let (place, _) = ready();
    for signal in ["INT", "TERM"] {
        let log = std::fs::File::create(place.path("log")).unwrap();
        let mut child = place.command(&SERVE).stderr(log).spawn().unwrap();
        wait_for(&place, "ready");
        stop(&mut child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(0), "SIG{signal}");
    }
}

fn wait_for(place: &Place, word: &str) {
    let begin = Instant::now();
    while !std::fs::read_to_string(place.path("log")).unwrap().contains(word) {
        assert!(begin.elapsed() < Duration::from_secs(60), "it did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stop(child: &mut std::process::Child, signal: &str) {
    let sent = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}
