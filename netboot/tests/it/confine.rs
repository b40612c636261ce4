//! What the real program may still do once it runs.

use crate::{
    common::{World, assignments, uki},
    running::Program,
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
};

fn am_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What the kernel must show for every thread of the program.
fn check_rights(program: &Program) {
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        assert_eq!(program.field(set), ["0000000000000000"], "{set}");
    }
    if am_root() {
        assert_eq!(program.field("CapBnd:"), ["0000000000000000"]);
    }
    assert_eq!(program.field("NoNewPrivs:"), ["1"]);
    assert_eq!(program.field("Seccomp:"), ["2"], "2 is a filter");
    assert_eq!(program.field("Seccomp_filters:"), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_as_nobody_in_particular_and_does_all_its_work() {
    let world = World::new();
    world.know(assignments(1, 1));
    // Readable for everybody, as a real installation is; then nobody needs to be root.
    fs::set_permissions(world.folder.path(), Permissions::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        let program = Program::start(&world, "").await;
        program.says("boot file k8s-worker.efi").await;
        check_rights(&program);
        assert_eq!(program.get("/boot/k8s-worker.efi").await, uki());
        assert!(program.get("/repo/metadata/root.json").await.starts_with(b"{"));
        let metrics = String::from_utf8(program.get("/metrics").await).unwrap();
        assert!(metrics.contains("netboot_confined{part=\"seccomp\"} 1"), "{metrics}");
        if am_root() {
            assert_eq!(program.field("Uid:"), ["64067\t64067\t64067\t64067"]);
            assert_eq!(program.field("Gid:"), ["64067\t64067\t64067\t64067"]);
            assert_eq!(program.field("Groups:"), [""]);
            assert_eq!(fs::metadata(world.state().join("ledger.journal")).unwrap().uid(), 64067);
        }
        program.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_root_without_rights_where_the_folders_are_shut() {
    let world = World::new();
    world.know(assignments(1, 1));
    fs::set_permissions(world.folder.path(), Permissions::from_mode(0o700)).unwrap();
    let program = Program::start(&world, "").await;
    program.says("boot file k8s-worker.efi").await;
    check_rights(&program);
    if am_root() {
        assert_eq!(program.field("Uid:"), ["0\t0\t0\t0"]);
        assert!(program.log().contains("the service stays root, without capabilities"), "{}", program.log());
    }
    program.end().await;
}

/// The file of `trust` becomes a link that leads out of the configured folders, and the repository changes, so that the
/// program opens the file again. The file may be read by everybody: only Landlock stands in the way.
async fn trust_leads_outside(sandbox: &str, expected: &str) {
    let world = World::new();
    world.know(assignments(1, 1));
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), Permissions::from_mode(0o755)).unwrap();
    let program = Program::start(&world, sandbox).await;
    program.says("boot file k8s-worker.efi: version 1,").await;
    if program.log().contains("files are not restricted") {
        program.end().await;
        return;
    }
    let trust = world.folder.path().join("root.json");
    fs::copy(&trust, outside.path().join("root.json")).unwrap();
    fs::remove_file(&trust).unwrap();
    std::os::unix::fs::symlink(outside.path().join("root.json"), &trust).unwrap();
    world.repository.publish(2, &uki());
    program.says(expected).await;
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_outside_the_configured_folders_cannot_be_opened() {
    trust_leads_outside("", "Permission denied (os error 13)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_landlock_the_same_file_is_opened() {
    trust_leads_outside("sandbox: {landlock: false}\n", "version 2,").await;
}
