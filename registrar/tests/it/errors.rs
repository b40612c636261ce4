//! Help and errors as people see them. `INSTA_UPDATE=always cargo test -p registrar` writes them anew.

use crate::program::Place;
use insta::assert_snapshot;
use std::time::{Duration, Instant};

const CONFIG: &str = "apiVersion: shelfboot.dev/v1\nkind: Registrar\nlisten: \"127.0.0.1:0\"\nstate: state\n\
                      inventory: inventory.yaml\n";
const INIT: [&str; 5] = ["init", "--state", "state", "--server-name", "registrar.test"];

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_registrar"))
}

/// A registrar that would start.
fn ready() -> Place {
    let place = place();
    assert!(place.run(&INIT).contains("exit code: 0"));
    place.file("registrar.yaml", CONFIG);
    place.file("inventory.yaml", "apiVersion: shelfboot.dev/v1\nkind: Inventory\nstores: []\n");
    place
}

fn serve(place: &Place) -> String {
    place.run(&["serve", "--config", "registrar.yaml"])
}

#[test]
fn help_of_every_command() {
    let commands: [&[&str]; 15] = [
        &["--help"],
        &["init", "--help"],
        &["store", "--help"],
        &["store", "add", "--help"],
        &["serve", "--help"],
        &["machine", "list", "--help"],
        &["machine", "show", "--help"],
        &["machine", "waiting", "--help"],
        &["machine", "approve", "--help"],
        &["machine", "revoke", "--help"],
        &["machine", "reopen", "--help"],
        &["permit", "wipe", "--help"],
        &["permit", "list", "--help"],
        &["permit", "withdraw", "--help"],
        &["completions", "--help"],
    ];
    let place = place();
    assert_snapshot!(commands.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn wrong_command_lines() {
    let place = ready();
    let endpoint: &[&str] = &["store", "add", "s", "--state", "state", "--endpoint", "nowhere", "--out", "s.json"];
    let name: &[&str] = &["store", "add", "S!", "--state", "state", "--endpoint", "a:1", "--out", "s.json"];
    let malformed: &[&str] = &["machine", "approve", "--state", "state", "--code", "1234"];
    let unknown: &[&str] = &["machine", "approve", "--state", "state", "--code", "0000-0000-0000"];
    let all: [&[&str]; 6] = [&["dance"], &["init", "--state", "x"], endpoint, name, malformed, unknown];
    assert_snapshot!(all.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn wrong_configuration_files() {
    let place = place();
    let missing = serve(&place);
    let wrong = [
        CONFIG.replace("listen", "lisen"),
        CONFIG.replace("\"127.0.0.1:0\"", "[1, 2]"),
        CONFIG.replace("\"127.0.0.1:0\"", "nowhere"),
        CONFIG.replace("dev/v1", "dev/v9"),
        CONFIG.replace("kind: Registrar", "kind: [broken"),
    ];
    let said = wrong.map(|text| {
        place.file("registrar.yaml", &text);
        serve(&place)
    });
    std::fs::create_dir_all(place.path("folder/registrar.yaml")).unwrap();
    let folder = place.run(&["serve", "--config", "folder/registrar.yaml"]);
    assert_snapshot!([vec![missing, folder], said.to_vec()].concat().join("\n"));
}

#[test]
fn wrong_files_that_the_configuration_names() {
    let no_state = place();
    no_state.file("registrar.yaml", CONFIG);
    let no_inventory = ready();
    std::fs::remove_file(no_inventory.path("inventory.yaml")).unwrap();
    let wrong_inventory = ready();
    wrong_inventory.file("inventory.yaml", "apiVersion: shelfboot.dev/v1\nkind: Inventory\nshops: []\n");
    let no_kubeconfig = ready();
    no_kubeconfig.file(
        "registrar.yaml",
        &format!("{CONFIG}kubernetes:\n  kubeconfig: kubeconfig\n  endpoint: https://127.0.0.1:1\n"),
    );
    assert_snapshot!([no_state, no_inventory, wrong_inventory, no_kubeconfig].map(|place| serve(&place)).join("\n"));
}

const CEPH: &str = "ceph:\n  program: ./ceph\n  conf: ceph.conf\n  keyring: keyring\n  fsid: \
                    3f0b5d3e-5d4a-4a64-8a4e-0d0c2a1b7f11\n  monitors: 127.0.0.1\n";
const NOVA: &str = "nova:\n  keystone: http://127.0.0.1:9/v3\n  region: north\n  passwordFile: password\n  bus:\n    \
                    address: 127.0.0.1:9\n    management: http://127.0.0.1:9\n    passwordFile: password\n";

#[test]
fn clusters_that_cannot_be_used() {
    let both = ready();
    both.file("registrar.yaml", &format!("{CONFIG}{CEPH}  templates: [hypervisor]\n{NOVA}"));
    let no_password = ready();
    no_password.file("registrar.yaml", &format!("{CONFIG}{NOVA}"));
    assert_snapshot!([both, no_password].map(|place| serve(&place)).join("\n"));
}

#[test]
fn a_machine_that_cannot_be_revoked_at_its_cluster_is_kept_out_all_the_same() {
    let place = ready();
    let inventory = "apiVersion: shelfboot.dev/v1\nkind: Inventory\nstores:\n  - name: s\n    machines:\n";
    let machine = |name: &str, template: &str, digit: u8| {
        format!("      - {{name: {name}, template: {template}, channel: stable, mac: '52:54:00:00:00:0{digit}'}}\n")
    };
    let machines = [machine("osd-1", "storage-node", 1), machine("hv-1", "hypervisor", 2), machine("till", "till", 3)];
    place.file("inventory.yaml", &format!("{inventory}{}", machines.concat()));
    place.file("registrar.yaml", &format!("{CONFIG}{CEPH}{NOVA}"));
    place.file("password", "secret\n");
    let revoke = |name: &str| place.run(&["machine", "revoke", name, "--config", "registrar.yaml"]);
    // Only a running server takes names from the inventory.
    let unknown = revoke("osd-1");
    let log = std::fs::File::create(place.file("log", "")).unwrap();
    let mut server = place.command(&["serve", "--config", "registrar.yaml"]).stderr(log).spawn().unwrap();
    let begin = Instant::now();
    while !std::fs::read_to_string(place.path("log")).unwrap().contains("ready") {
        assert!(begin.elapsed() < Duration::from_secs(60), "it did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = ["osd-1", "hv-1", "till"].map(revoke);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_snapshot!([vec![unknown], said.to_vec()].concat().join("\n"));
    let shown = place.run(&["machine", "show", "osd-1", "--state", "state"]);
    let revoked = shown.lines().find(|line| line.starts_with("revoked")).unwrap();
    assert!(revoked.contains("20"), "{shown}");
}

#[test]
fn what_is_there_is_not_overwritten() {
    let place = ready();
    assert_snapshot!(place.run(&INIT));
}

#[test]
fn a_busy_port() {
    let place = ready();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.file("registrar.yaml", &CONFIG.replace("127.0.0.1:0", &address));
    assert_snapshot!(serve(&place).replace(&address, "ADDRESS"));
}

#[test]
fn full_disks() {
    let place = ready();
    assert_snapshot!("full_output", place.run_into_full_output(&["completions", "bash"]));
    // Room for the keys, but not for the database.
    let init = ["init", "--state", "full/state", "--server-name", "registrar.test"];
    let Some(said) = place.run_on_full_disk(48, &init) else { return };
    assert!(said.ends_with("left: other \n"), "something is left: {said}");
    assert_snapshot!("full_disk_at_init", said);
    let add = ["store", "add", "s", "--state", "state", "--endpoint", "127.0.0.1:1", "--out", "full/store.json"];
    assert_snapshot!("full_disk_for_a_credential", place.run_on_full_disk(0, &add).unwrap());
}

#[test]
fn a_signal_ends_the_service_in_good_order() {
    let place = ready();
    for signal in ["INT", "TERM"] {
        let log = std::fs::File::create(place.file("log", "")).unwrap();
        let mut child = place.command(&["serve", "--config", "registrar.yaml"]).stderr(log).spawn().unwrap();
        let begin = Instant::now();
        while !std::fs::read_to_string(place.path("log")).unwrap().contains("ready") {
            assert!(begin.elapsed() < Duration::from_secs(60), "it did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let sent = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "SIG{signal}");
    }
}
