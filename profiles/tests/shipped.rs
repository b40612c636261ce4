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
    let Err(ProfileError::Invalid(problems)) = profiles::load(&template(), None) else { panic!("accepted") };
    assert_eq!(profiles::check(&template(), None).unwrap(), [], "what has no value yet is no mistake");
    let problem = &problems[0];
    insta::assert_snapshot!(format!("{}\n{}", problem.message, problem.fix));
    assert!(problem.text[problem.bytes.clone()].starts_with("${kubernetes.repository.uri}"));
}

#[test]
fn an_unknown_setting_is_refused_with_its_place() {
    let Err(ProfileError::Invalid(problems)) = load_with("  kubelet.extraArg: --v=4\n") else { panic!("accepted") };
    let problem = &problems[0];
    insta::assert_snapshot!(format!("{}:{} {}\n{}", problem.line, problem.column, problem.message, problem.fix));
}

fn storage_node(settings: &str) -> Result<MachineTemplate, ProfileError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, format!("apiVersion: shelfboot.dev/v1\nkind: Settings\nparameters:\n{settings}")).unwrap();
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/storage-node.yaml");
    profiles::load(&template, Some(&path))
}

#[test]
fn storage_node_brings_its_disks_and_its_join() {
    let merged = storage_node("  ceph.publicNetwork: 10.20.0.0/16, 10.30.0.0/16\n  ceph.smallestDisk: 8 GB\n").unwrap();
    assert_eq!(merged.data_disks.unwrap().smallest_bytes, 8_000_000_000);
    assert!(merged.packages.contains("ceph-osd"));
    assert!(merged.persist.contains("/etc/ceph") && merged.persist.contains("/var"));
    insta::assert_json_snapshot!(merged.join);
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_their_place() {
    let refused: Vec<String> = [
        "  ceph.publicNetwork: 10.20.0.0\n",
        "  ceph.deviceClass: floppy\n",
        "  ceph.osdMemoryTarget: 4 GB\n",
        "  ceph.smallestDisk: \"100\"\n",
    ]
    .into_iter()
    .map(|settings| match storage_node(settings) {
        Err(ProfileError::Invalid(problems)) => {
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            format!("{}:{} {}\n  {}", problem.line, problem.column, problem.message, problem.fix)
        }
        other => panic!("{other:?}"),
    })
    .collect();
    insta::assert_snapshot!(refused.join("\n"));
}

#[test]
fn the_hypervisor_is_complete_without_settings() {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/hypervisor.yaml");
    let merged = profiles::load(&template, None).unwrap();
    assert!(merged.files["/etc/nova/nova.conf"].content.contains("virt_type = kvm\n"));
    assert!(merged.units["nova-compute.service"] && !merged.units["open-iscsi.service"]);
    insta::assert_json_snapshot!(merged.join);
}
