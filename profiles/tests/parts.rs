//! Container images, kernel arguments, users, egress lists and state formats: what they come to over two profiles, and what is
//! refused.

use profiles::{MachineTemplate, ProfileError};
use std::path::Path;

const TEMPLATE: &str = "\
apiVersion: shelfboot.dev/v1
kind: MachineTemplate
metadata: {name: till}
spec:
  software: [small]
  configuration: [small, more]
  stateFormats:
    - path: /var/lib/till
      format: till-3
      goingBackSafe: false
      snapshot: [/usr/bin/till-copy, --all]
  join:
    driver: kubernetes
    units: [kubelet.service]
    ready:
      http: http://127.0.0.1:10248/healthz
";

const DIGEST: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

fn software() -> String {
    format!(
        "apiVersion: shelfboot.dev/v1\nkind: SoftwareProfile\nmetadata: {{name: small}}\nspec:\n  parameters:\n    \
         images: {{description: Folder, type: path, default: /srv/images}}\n  packages: [containerd]\n  containerImages:\n    \
         - reference: registry.example/till:3\n      source: ${{images}}/till.tar\n      digest: {DIGEST}\n"
    )
}

const SMALL: &str = "\
apiVersion: shelfboot.dev/v1
kind: ConfigurationProfile
metadata: {name: small}
spec:
  parameters:
    region.networks: {description: The region, type: networks, default: \"10.20.0.0/16, 10.21.0.0/16\"}
    mirror.networks: {description: A mirror in the store, type: networks, default: \"\"}
  kernelArguments: [\"console=ttyS1,115200n8\", nosmt]
  users:
    - {name: till, uid: 900, home: /var/lib/till, groups: [adm], description: Software of the tills}
  egress:
    allow:
      - {to: [\"${region.networks}\", 10.30.0.1], ports: [\"443\", \"6800-7300\", \"7300-7400\"]}
      - {to: [\"${mirror.networks}\"], ports: [\"80\"]}
";

const MORE: &str = "\
apiVersion: shelfboot.dev/v1
kind: ConfigurationProfile
metadata: {name: more}
spec:
  kernelArguments: [nosmt, mitigations=auto]
  users:
    - {name: till, uid: 901, gid: 902}
  egress:
    dns: true
    allow:
      - {to: [10.30.0.1, \"fd00::/64\"], protocol: icmp}
";

fn load(template: &str, software: &str, small: &str, more: &str) -> Result<MachineTemplate, ProfileError> {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("templates/till.yaml", template),
        ("software/small.yaml", software),
        ("configuration/small.yaml", small),
        ("configuration/more.yaml", more),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    profiles::load(&folder.path().join("templates/till.yaml"), None)
}

#[test]
fn later_profiles_add_and_replace() {
    let merged = load(TEMPLATE, &software(), SMALL, MORE).unwrap();
    assert_eq!(merged.container_images["registry.example/till:3"].source, Path::new("/srv/images/till.tar"));
    insta::assert_debug_snapshot!((merged.kernel_arguments, merged.users, merged.egress, merged.state_formats));
    let without = load(TEMPLATE, &software(), &SMALL.replace("egress:", "persist: []\n  egress:"), MORE).unwrap();
    assert!(without.egress.is_some());
}

#[test]
fn every_mistake_in_them_is_said_at_once() {
    let template = TEMPLATE
        .replace("format: till-3", "format: \"till 3\"")
        .replace("  join:", "    - {path: /var/lib/x, format: a, goingBackSafe: true}\n    - {path: /var/lib/x, format: b, goingBackSafe: true}\n  join:");
    let software = software().replace("registry.example/till:3", "till:3").replace(
        "  containerImages:\n",
        "  containerImages:\n    - {reference: \"h.example/a:1\", source: a.tar, digest: \"sha256:00\"}\n",
    ) + "    - {reference: \"h.example/a:1\", source: /a.tar, digest: \"sha256:00\"}\n";
    let small = SMALL
        .replace("nosmt]", "nosmt, \"root=/dev/sda\", \"a b\"]")
        .replace("name: till, uid: 900", "name: Till, uid: 900")
        .replace("  egress", "    - {name: low, uid: 33}\n  egress")
        .replace("10.30.0.1]", "region.example]")
        .replace("7300-7400", "7400-7300");
    let more = MORE
        .replace("  users:\n    - {name: till, uid: 901, gid: 902}\n", "")
        .replace("protocol: icmp", "protocol: icmp, ports: [\"1\"]")
        + "      - {to: [10.30.0.2]}\n  users: [{name: a, uid: 700}, {name: b, uid: 701, gid: 700}]\n";
    let Err(ProfileError::Invalid(problems)) = load(&template, &software, &small, &more) else { panic!("accepted") };
    let said = problems.iter().map(|p| {
        let file = p.file.file_name().unwrap().to_string_lossy().into_owned();
        format!("{file}:{}:{}: {}: {}\n  fix: {}\n", p.line, p.column, p.code, p.message, p.fix)
    });
    insta::assert_snapshot!(said.collect::<String>());
}

#[test]
fn the_disk_for_the_system_can_be_named_and_nonsense_is_refused() {
    use contracts::{
        disks::{DiskPolicy, DiskSelector, Several},
        facts::Transport,
    };
    let with = |disks: &str| {
        load(&TEMPLATE.replace("  stateFormats:", &format!("{disks}  stateFormats:")), &software(), SMALL, MORE)
    };
    let policy = with(
        "  disks:\n    system:\n      - {transport: [nvme, sata], rotational: false, atLeast: 200 GB, atMost: 1 TB}\n      \
         - model: Samsung*\n    never: [{serial: S5GX}]\n    smallest: 128 GB\n    several: stop\n",
    );
    let line = DiskSelector::default;
    let expected = DiskPolicy {
        system: vec![
            DiskSelector {
                transport: vec![Transport::Nvme, Transport::Sata],
                rotational: Some(false),
                at_least_bytes: Some(200_000_000_000),
                at_most_bytes: Some(1_000_000_000_000),
                ..line()
            },
            DiskSelector { model: Some("Samsung*".into()), ..line() },
        ],
        never: vec![DiskSelector { serial: Some("S5GX".into()), ..line() }],
        smallest_bytes: Some(128_000_000_000),
        several: Several::Stop,
    };
    assert_eq!(policy.unwrap().disks, expected);
    assert!(with("").unwrap().disks.is_default());
    for (disks, code) in [
        ("  disks: {system: [{}]}\n", "bad-disks"),
        ("  disks: {never: [{transport: [usb]}]}\n", "bad-disks"),
        ("  disks: {system: [{atLeast: 2 TB, atMost: 1 TB}]}\n", "bad-disks"),
        ("  disks: {smallest: large}\n", "bad-size"),
        ("  disks: {system: [{name: sda}]}\n", "unknown-field"),
    ] {
        match with(disks) {
            Err(ProfileError::Invalid(problems)) => {
                let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
                assert!(codes.contains(&code), "{disks}: {codes:?}");
            }
            other => panic!("{disks}: {other:?}"),
        }
    }
}

#[test]
fn a_template_may_have_its_state_encrypted() {
    use contracts::state::{Encryption, StatePolicy, WithoutTpm};
    let state = |line: &str| {
        let text = TEMPLATE.replace("spec:\n", &format!("spec:\n{line}"));
        load(&text, &software(), SMALL, MORE).map(|template| template.state)
    };
    let policy = |encryption, without_tpm| StatePolicy { encryption, without_tpm };
    assert_eq!(state("").unwrap(), policy(Encryption::None, WithoutTpm::Refuse));
    assert_eq!(state("  state: {encryption: tpm}\n").unwrap(), policy(Encryption::Tpm, WithoutTpm::Refuse));
    let lenient = state("  state: {encryption: tpm, withoutTpm: clear}\n");
    assert_eq!(lenient.unwrap(), policy(Encryption::Tpm, WithoutTpm::Clear));
    let wrong = state("  state: {encryption: password}\n").unwrap_err().to_string();
    assert!(wrong.contains("till.yaml"), "{wrong}");
}
