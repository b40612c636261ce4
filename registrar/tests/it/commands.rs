//! The program itself.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn registrar(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_registrar")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_and_store_add_write_private_files_and_never_overwrite() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let out = folder.path().join("store.json");
    let (state_text, out_text) = (state.to_str().unwrap(), out.to_str().unwrap());
    let init = ["init", "--state", state_text, "--server-name", "registrar.test", "--address", "127.0.0.1"];
    let made = registrar(&init);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(text(&made.stdout).trim(), state.join("ca.pem").to_str().unwrap());
    assert_eq!(mode(&state), 0o700);
    for (name, expected) in [("ca.key", 0o600), ("server.key", 0o600), ("registrar.db", 0o600), ("ca.pem", 0o644)] {
        assert_eq!(mode(&state.join(name)), expected, "{name}");
    }
    let before = std::fs::read(state.join("ca.key")).unwrap();
    let again = registrar(&init);
    assert_eq!(again.status.code(), Some(1));
    let said = text(&again.stderr);
    assert!(said.contains("holds a registrar already") && said.contains("hint: "), "{said}");
    assert_eq!(std::fs::read(state.join("ca.key")).unwrap(), before);

    let add = ["store", "add", "store-1", "--state", state_text, "--endpoint", "10.0.0.1:7443", "--out", out_text];
    let added = registrar(&add);
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert_eq!(mode(&out), 0o600);
    let credential: contracts::store::StoreCredential = contracts::read(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!((credential.server_name.as_str(), credential.registrars.len()), ("registrar.test", 1));
    let twice = registrar(&add);
    assert_eq!(twice.status.code(), Some(1));
    assert!(text(&twice.stderr).contains("store-1 was added before"), "{}", text(&twice.stderr));
}

#[test]
fn mistakes_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let missing = registrar(&["machine", "list", "--state", path]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(text(&missing.stderr).contains("registrar init"), "{}", text(&missing.stderr));
    let config = folder.path().join("registrar.yaml");
    std::fs::write(&config, "apiVersion: shelfboot.dev/v1\nkind: Registrar\nlisten: here\nstate: s\ninventory: i\n")
        .unwrap();
    let bad = registrar(&["serve", "--config", config.to_str().unwrap()]);
    assert!(text(&bad.stderr).contains("registrar.yaml:3:9: listen needs"), "{}", text(&bad.stderr));
    assert_eq!(registrar(&["dance"]).status.code(), Some(2));
    assert!(registrar(&["completions", "bash"]).status.success());
}
