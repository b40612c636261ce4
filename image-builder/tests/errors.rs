//! Help and errors as people see them. `INSTA_UPDATE=always cargo test -p image-builder` writes them anew.

#[path = "../../contracts/tests/program/mod.rs"]
mod program;

use insta::assert_snapshot;
use program::Place;
use std::{
    io::Read as _,
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const TEMPLATE: &str = "apiVersion: shelfboot.dev/v1\nkind: MachineTemplate\nmetadata:\n  name: t\nspec:\n";

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_image-builder"))
}

/// A folder with all that a build reads: the shipped template, keys, a static program, a certificate.
fn ready() -> Place {
    let place = place();
    assert!(place.run(&["keys", "init", "--out", "keys"]).contains("exit code: 0"));
    place.file("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    std::fs::write(place.path("agent"), static_program()).unwrap();
    let profiles = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles");
    for folder in ["templates", "software", "configuration"] {
        for entry in std::fs::read_dir(format!("{profiles}/{folder}")).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
            place.file(&name, &std::fs::read_to_string(&path).unwrap());
        }
    }
    let key = place.file("key.asc", "");
    let settings = "apiVersion: shelfboot.dev/v1\nkind: Settings\nparameters:\n  \
                    kubernetes.repository.uri: http://127.0.0.1:9\n  kubernetes.repository.signedBy: ";
    place.file("settings.yaml", &format!("{settings}{}\n", key.display()));
    place
}

/// The head of an ELF program without a dynamic linker: all that is looked at before the build begins.
fn static_program() -> Vec<u8> {
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (elf[16], elf[18], elf[20], elf[54], elf[58]) = (2, 62, 1, 56, 64);
    elf
}

fn build<'a>(template: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let common = ["build", template, "--keys", "keys", "--agent", "agent", "--registrar-ca", "ca.pem", "--repository"];
    let cache = ["repository", "--cache", "cache", "--settings", "settings.yaml"];
    [common.as_slice(), &cache, more].concat()
}

const SHIPPED: &str = "templates/k8s-worker.yaml";

#[test]
fn help_of_every_command() {
    let commands: [&[&str]; 12] = [
        &["--help"],
        &["build", "--help"],
        &["lock", "--help"],
        &["sbom", "--help"],
        &["diff", "--help"],
        &["new", "--help"],
        &["check", "--help"],
        &["explain", "--help"],
        &["schema", "--help"],
        &["keys", "--help"],
        &["keys", "init", "--help"],
        &["completions", "--help"],
    ];
    let place = place();
    assert_snapshot!(commands.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn wrong_command_lines() {
    let place = ready();
    let channel = build(SHIPPED, &["--channel", "../stable"]);
    let version = build(SHIPPED, &["--image-version", ""]);
    let days = build(SHIPPED, &["--targets-days", "0"]);
    let all: [&[&str]; 5] = [&["dance"], &["build", "t.yaml"], &channel, &version, &days];
    assert_snapshot!(all.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn wrong_templates() {
    let place = ready();
    place.file("templates/unknown.yaml", &format!("{TEMPLATE}  colour: red\n"));
    place.file("templates/type.yaml", &format!("{TEMPLATE}  software: base\n"));
    place.file("templates/broken.yaml", "apiVersion: [");
    std::fs::write(place.path("templates/bytes.yaml"), b"\xff\xfe\x00").unwrap();
    let names = ["none", "unknown", "type", "broken", "bytes"].map(|name| format!("templates/{name}.yaml"));
    assert_snapshot!(names.each_ref().map(|name| place.run(&build(name, &[]))).join("\n"));
}

#[test]
fn wrong_files() {
    let mut said = Vec::new();
    for (name, content) in [("agent", None), ("agent", Some("#!/bin/sh\n")), ("ca.pem", None), ("ca.pem", Some("x"))] {
        let place = ready();
        match content {
            Some(text) => drop(place.file(name, text)),
            None => std::fs::remove_file(place.path(name)).unwrap(),
        }
        said.push(place.run(&build(SHIPPED, &[])));
    }
    assert_snapshot!(said.join("\n"));
}

#[test]
fn container_images_that_are_not_what_the_template_says() {
    const ZERO: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let place = ready();
    let template = std::fs::read_to_string(place.path(SHIPPED)).unwrap();
    place.file("templates/k8s-worker.yaml", &template.replace("kubernetes-node]", "kubernetes-node, store]"));
    place.file("configuration/store.yaml", &profile("ConfigurationProfile", "  units: {}\n"));
    let folder = place.path("layout");
    let mut said = Vec::new();
    for files in [&[][..], &["oci-layout"], &["oci-layout", "index.json"]] {
        for name in files {
            let text = match *name {
                "oci-layout" => "{\"imageLayoutVersion\": \"1.0.0\"}".to_owned(),
                _ => format!(
                    "{{\"schemaVersion\": 2, \"manifests\": [{{\"mediaType\": \"\", \"digest\": \"{}\", \"size\": 1}}]}}",
                    ZERO.replace('0', "1")
                ),
            };
            place.file(&format!("layout/{name}"), &text);
        }
        std::fs::create_dir_all(&folder).unwrap();
        let images = format!(
            "  packages: []\n  containerImages:\n    - {{reference: \"registry.example/till:1\", source: {}, digest: \"{ZERO}\"}}\n",
            folder.display()
        );
        place.file("software/store.yaml", &profile("SoftwareProfile", &images));
        said.push(place.run(&build(SHIPPED, &[])));
    }
    assert_snapshot!(said.join("\n"));
}

fn profile(kind: &str, spec: &str) -> String {
    format!("apiVersion: shelfboot.dev/v1\nkind: {kind}\nmetadata: {{name: store}}\nspec:\n{spec}")
}

#[test]
fn wrong_keys() {
    use std::os::unix::fs::PermissionsExt as _;
    let none = ready();
    std::fs::remove_dir_all(none.path("keys")).unwrap();
    let half = ready();
    std::fs::remove_file(half.path("keys/tuf/targets.pk8")).unwrap();
    let open = ready();
    std::fs::set_permissions(open.path("keys/tuf/targets.pk8"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_snapshot!([none, half, open].map(|place| place.run(&build(SHIPPED, &[]))).join("\n"));
}

#[test]
fn keys_are_made_whole_or_not_at_all() {
    let place = place();
    std::fs::create_dir_all(place.path("checkout/.git")).unwrap();
    let inside = place.run(&["keys", "init", "--out", "checkout/keys"]);
    place.file("taken/file", "");
    let taken = place.run(&["keys", "init", "--out", "taken"]);
    assert_snapshot!([inside, taken].join("\n"));
    let Some(said) = place.run_on_full_disk(4, &["keys", "init", "--out", "full/keys"]) else { return };
    // Whatever the random name of the unfinished folder was: it is gone.
    assert!(said.contains("exit code: 4") && said.contains("No space left on device"), "{said}");
    assert!(said.ends_with("left: other \n"), "something is left: {said}");
}

#[test]
fn a_full_output() {
    assert_snapshot!(place().run_into_full_output(&["completions", "bash"]));
}

/// Tests below start the real build; it needs to be root or to become it, and what `check_host` asks for.
fn can_build(said: &str) -> bool {
    !said.contains("is not root") && !said.contains("is not installed")
}

#[test]
fn wrong_locks() {
    let place = ready();
    let demanded = place.run(&build(SHIPPED, &["--locked"]));
    let named = place.run(&build(SHIPPED, &["--lock", "none.lock"]));
    let unwanted = place.run(&build(SHIPPED, &["--locked", "--refresh"]));
    let diff = place.run(&["lock", SHIPPED, "--settings", "settings.yaml", "--diff"]);
    place.file("templates/k8s-worker.lock", "{\"kind\": \"Lock\"");
    let broken = place.run(&build(SHIPPED, &[]));
    let package = |path: &str| {
        let digest = "0".repeat(64);
        format!(
            "{{\"name\":\"dash\",\"version\":\"1\",\"architecture\":\"amd64\",\"source\":\"debian\",\
             \"path\":\"{path}\",\"bytes\":9,\"sha256\":\"{digest}\"}}"
        )
    };
    let lock = |path: &str| {
        let layers = format!("[{{\"layer\":\"essential\",\"packages\":[{}]}}]", package(path));
        format!(
            "{{\"apiVersion\":\"shelfboot.dev/v1\",\"kind\":\"Lock\",\"template\":\"k8s-worker\",\
             \"resolvedAt\":\"2026-11-01T00:00:00Z\",\"request\":\"00\",\"image\":{layers},\"tools\":{layers}}}"
        )
    };
    place.file("templates/k8s-worker.lock", &lock("../../etc/passwd"));
    let outside = place.run(&build(SHIPPED, &[]));
    place.file("templates/k8s-worker.lock", &lock("pool/dash.deb"));
    let stale = place.run(&build(SHIPPED, &[]));
    assert_snapshot!([demanded, named, unwanted, diff, broken, outside, stale].join("\n"));
}

#[test]
fn no_network() {
    let place = ready();
    // Nobody listens on the discard port.
    let arguments = build(SHIPPED, &["--debian-mirror", "http://127.0.0.1:9/debian"]);
    let said = place.run(&arguments);
    if !can_build(&said) {
        assert!(said.contains("exit code: 4"), "{said}");
        return;
    }
    assert!(said.contains("exit code: 1"), "{said}");
    assert!(
        said.contains("error: cannot resolve the template's packages")
            && said.contains("hint: look at the lines above"),
        "{said}"
    );
    nothing_is_left(&place);
}

#[test]
fn ctrl_c_and_a_dying_child() {
    for end in ["INT", "TERM", "child"] {
        let place = ready();
        // A mirror that takes the connection and never answers: the build hangs in apt.
        let mirror = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/debian", mirror.local_addr().unwrap());
        let arguments = build(SHIPPED, &["--debian-mirror", &url]);
        let mut child = place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        mirror.set_nonblocking(true).unwrap();
        let begin = Instant::now();
        let connection = loop {
            if let Ok((connection, _)) = mirror.accept() {
                break Some(connection);
            }
            if child.try_wait().unwrap().is_some() {
                break None;
            }
            assert!(begin.elapsed() < Duration::from_secs(120), "apt did not ask the mirror");
            std::thread::sleep(Duration::from_millis(20));
        };
        if connection.is_some() {
            match end {
                "child" => kill("KILL", apt_below(&place)),
                signal => kill(signal, child.id()),
            }
        }
        let (code, said) = finish(&mut child);
        if connection.is_none() {
            assert!(!can_build(&said), "the build ended by itself: {said}");
            return;
        }
        if end == "child" {
            assert_eq!(code, Some(1), "{said}");
            assert!(
                said.contains("error: cannot resolve the template's packages") && said.contains("apt-get failed"),
                "{said}"
            );
        } else {
            assert_eq!(code, Some(130), "{said}");
            assert!(said.ends_with("interrupted; nothing was published\n"), "{said}");
        }
        nothing_is_left(&place);
    }
}

fn finish(child: &mut Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), None, "{said}");
    (status.code(), said)
}

fn kill(signal: &str, id: u32) {
    assert!(Command::new("kill").args(["-s", signal, &id.to_string()]).status().unwrap().success());
}

/// The first process of the namespace that works in this place's folder.
fn apt_below(place: &Place) -> u32 {
    let all = processes_of(place);
    let found = all.iter().find(|(_, line)| line.contains("apt-get") && !line.contains("unshare"));
    found.unwrap_or_else(|| panic!("no apt in {all:?}")).0
}

/// Processes, other than the program itself, whose command line names the folder.
fn processes_of(place: &Place) -> Vec<(u32, String)> {
    let folder = place.path("cache");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(folder.to_str().unwrap()) {
            found.push((id, line));
        }
    }
    found
}

/// No process, no mount, nothing published, no tree that looks whole.
fn nothing_is_left(place: &Place) {
    let begin = Instant::now();
    // The kernel ends the namespace a moment after its first process.
    while !processes_of(place).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(20), "still running: {:?}", processes_of(place));
        std::thread::sleep(Duration::from_millis(50));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(place.path("").to_str().unwrap().trim_end_matches('/')), "something is mounted: {mounts}");
    let left: Vec<String> = place.left();
    let looks_whole = |name: &&String| {
        name.starts_with("cache/trees/") || (name.starts_with("repository/") && !name.ends_with(".lock"))
    };
    assert_eq!(left.iter().find(looks_whole), None, "{left:?}");
}

#[test]
fn check_says_every_mistake_at_once() {
    let place = ready();
    let text = std::fs::read_to_string(place.path(SHIPPED)).unwrap();
    let wrong = text
        .replace("  name: k8s-worker\n", "  name: k8s-worker\n  colour: red\n")
        .replace("[base, kubernetes-node]\n  join", "[base, kubernetes-nodes]\n  join")
        .replace("driver: kubernetes", "driver: nomad")
        .replace("${region.endpoint}", "${no.such}")
        .replace("units: [kubelet.service]", "units: kubelet.service");
    place.file(SHIPPED, &wrong);
    let json = place.run(&["check", "--json", SHIPPED]);
    let people = place.run(&["check", SHIPPED]);
    let good = place.run(&["check", "--settings", "settings.yaml", "templates/storage-node.yaml"]);
    let profile = place.run(&["check", "software/base.yaml", "settings.yaml"]);
    let missing = place.run(&["check", "templates/none.yaml"]);
    assert_snapshot!([json, people, good, profile, missing].join("\n"));
}

#[test]
fn explain_says_where_everything_comes_from() {
    let place = ready();
    place.file(
        "settings.yaml",
        "apiVersion: shelfboot.dev/v1\nkind: Settings\nparameters:\n  ceph.deviceClass: ssd\n  journal.maxUse: 1G\n",
    );
    place.file(
        "software/base.yaml",
        "apiVersion: shelfboot.dev/v1\nkind: SoftwareProfile\nmetadata: {name: base}\n\
        spec:\n  parameters: {mirror: {description: Where from}}\n  packages: [dbus, lvm2]\n",
    );
    let table = place.run(&["explain", "templates/storage-node.yaml", "--settings", "settings.yaml"]);
    let json = place.run(&["explain", "templates/storage-node.yaml", "--json"]);
    // What comes after the packages changes with every line of the profiles that ship.
    let table: String = table.lines().take(19).map(|line| format!("{line}\n")).collect();
    let json: String = json.lines().take(24).map(|line| format!("{line}\n")).collect();
    let wrong = place.run(&["explain", "templates/k8s-worker.yaml", "--settings", "settings.yaml"]);
    assert_snapshot!([table, json, wrong].join("\n"));
}

#[test]
fn a_new_template_is_complete_and_takes_nothing_away() {
    let place = place();
    let new = |name: &str, like: &str| place.run(&["new", name, "--like", like, "--folder", "site"]);
    let first = new("till-storage", "storage-node");
    let checked = place.run(&["check", "site/templates/till-storage.yaml", "site/configuration/base.yaml"]);
    std::fs::write(place.path("site/software/base.yaml"), "ours\n").unwrap();
    let second = new("edge", "hypervisor");
    assert_eq!(std::fs::read_to_string(place.path("site/software/base.yaml")).unwrap(), "ours\n");
    let refused = [new("edge", "hypervisor"), new("Edge!", "hypervisor"), new("other", "mainframe")];
    assert_snapshot!([vec![first, checked, second], refused.to_vec()].concat().join("\n"));
}

#[test]
fn help_about_repositories_and_keys() {
    let commands: [&[&str]; 20] = [
        &["repo", "--help"],
        &["repo", "verify", "--help"],
        &["repo", "list", "--help"],
        &["repo", "refresh", "--help"],
        &["repo", "channel", "set", "--help"],
        &["repo", "rollout", "--help"],
        &["repo", "rollout", "start", "--help"],
        &["repo", "import", "--help"],
        &["repo", "gc", "--help"],
        &["repo", "mirror", "--help"],
        &["keys", "show", "--help"],
        &["keys", "rotate", "--help"],
        &["keys", "revoke", "--help"],
        &["keys", "root", "--help"],
        &["keys", "root", "new", "--help"],
        &["keys", "root", "sign", "--help"],
        &["keys", "root", "accept", "--help"],
        &["keys", "root", "renew", "--help"],
        // Each of these lacks one of two.
        &["repo", "list", "repo"],
        &["repo", "gc", "repo", "--root", "root.json", "--keep", "2"],
    ];
    let place = place();
    assert_snapshot!(commands.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn wrong_repositories_and_keys() {
    let place = place();
    assert!(place.run(&["keys", "init", "--out", "keys"]).contains("exit code: 0"));
    place.file("half.json", "{");
    place.file("other/file", "");
    let all: [&[&str]; 9] = [
        &["repo", "verify", "none", "--root", "keys/tuf/1.root.json"],
        &["repo", "verify", "other", "--root", "keys/tuf/1.root.json"],
        &["repo", "mirror", "none", "copy", "--root", "keys/tuf/1.root.json"],
        &["repo", "mirror", "other", "copy", "--root", "half.json"],
        &["repo", "refresh", "none", "--keys", "keys"],
        &["repo", "refresh", "other", "--keys", "none"],
        &["keys", "revoke", "0123", "--keys", "keys"],
        &["keys", "root", "sign", "half.json", "--key", "keys/tuf/root.pk8"],
        &["keys", "rotate", "targets", "--keys", "keys", "--public-key", "pkcs11:token=ci"],
    ];
    assert_snapshot!(all.map(|arguments| place.run(arguments)).join("\n"));
}
