//! The templates that ship with the project are valid, and say what the node needs.

use profiles::{MachineTemplate, ProfileError};
use std::path::{Path, PathBuf};

fn template() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/k8s-worker.yaml")
}

fn load_with(settings: &str) -> Result<MachineTemplate, ProfileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, format!("apiVersion: shelfboot.dev/v1\nkind: Settings\nparameters:\n{settings}")).unwrap();
    profiles::load(&template(), Some(&path))
}

const REPOSITORY: &str =
    "  kubernetes.repository.uri: file:///srv/apt\n  kubernetes.repository.signedBy: /srv/apt/key.asc\n";

#[test]
fn k8s_worker_merges_base_and_kubernetes() {
    let merged = load_with(&format!("{REPOSITORY}  cni.podCIDR: 10.1.2.0/24\n")).unwrap();
    assert!(merged.packages.contains("kubelet") && merged.packages.contains("systemd-sysv"));
    assert!(merged.files["/etc/cni/net.d/10-bridge.conflist"].content.contains("10.1.2.0/24"));
    assert_eq!(merged.repositories["kubernetes"].suite, "./");
    assert!(merged.units["kubelet.service"] && !merged.units["apt-daily.timer"]);
    insta::assert_debug_snapshot!(merged.persist);
    insta::assert_json_snapshot!(merged.join);
}

#[test]
fn a_repository_without_address_is_asked_for() {
    let Err(ProfileError::Invalid(problem)) = profiles::load(&template(), None) else { panic!("accepted") };
    insta::assert_snapshot!(format!("{}\n{}", problem.message, problem.fix));
    assert!(problem.text[problem.bytes.clone()].starts_with("${kubernetes.repository.uri}"));
}

#[test]
fn an_unknown_setting_is_refused_with_its_place() {
    let Err(ProfileError::Invalid(problem)) = load_with("  kubelet.extraArg: --v=4\n") else { panic!("accepted") };
    insta::assert_snapshot!(format!("{}:{} {}\n{}", problem.line, problem.column, problem.message, problem.fix));
}
