//! Parameters that a region or a store may say: files that the machine completes, and what else cannot hold them.

use profiles::{MachineTemplate, ProfileError};

const TEMPLATE: &str = "\
apiVersion: shelfboot.dev/v1
kind: MachineTemplate
metadata: {name: till}
spec:
  software: []
  configuration: [small]
  join:
    driver: kubernetes
    units: [kubelet.service]
    ready:
      http: http://127.0.0.1:10248/healthz
";

const PROFILE: &str = "\
apiVersion: shelfboot.dev/v1
kind: ConfigurationProfile
metadata: {name: small}
spec:
  parameters:
    port: {description: Of the till, type: integer, default: \"9100\"}
    word: {description: Of the store, per: store, default: none}
    number: {description: Of the store, per: store}
  files:
    - {path: /etc/word.conf, content: \"${word} ${port} $${HOME}\"}
    - {path: /etc/number.conf, mode: \"0600\", content: \"${number} ${word}\"}
    - {path: /etc/plain.conf, content: \"${port} $${HOME}\"}
  persist: [/var, /etc/kept]
";

fn load(profile: &str, settings: &str) -> Result<MachineTemplate, ProfileError> {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("apiVersion: shelfboot.dev/v1\nkind: Settings\nparameters: {{{settings}}}\n");
    for (path, text) in
        [("templates/till.yaml", TEMPLATE), ("configuration/small.yaml", profile), ("settings.yaml", &settings)]
    {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    profiles::load(&folder.path().join("templates/till.yaml"), Some(&folder.path().join("settings.yaml")))
}

#[test]
fn what_a_store_may_say_stays_open_and_has_the_value_of_the_build_meanwhile() {
    let merged = load(PROFILE, "word: built").unwrap();
    let content = |files: &std::collections::BTreeMap<String, profiles::File>, path: &str| {
        files.get(path).map(|file| (file.mode, file.content.clone()))
    };
    assert_eq!(content(&merged.files, "/etc/word.conf"), Some((0o644, "built 9100 ${HOME}".into())));
    assert_eq!(content(&merged.late_files, "/etc/word.conf"), Some((0o644, "${word} 9100 $${HOME}".into())));
    // Nobody has said a number yet: there is no such file in the image.
    assert_eq!(content(&merged.files, "/etc/number.conf"), None);
    assert_eq!(content(&merged.late_files, "/etc/number.conf"), Some((0o600, "${number} ${word}".into())));
    assert_eq!(content(&merged.files, "/etc/plain.conf"), Some((0o644, "9100 ${HOME}".into())));
    assert_eq!(merged.late_files.len(), 2);
    assert_eq!(merged.late_parameters["word"].as_deref(), Some("built"));
    assert_eq!(merged.late_parameters["number"], None);
}

#[test]
fn only_files_below_etc_can_hold_it() {
    let profile =
        PROFILE.replace("/etc/word.conf", "/usr/lib/word.conf").replace("/etc/number.conf", "/etc/kept/number.conf")
            + "  sysctls: {kernel.domainname: \"${word}\"}\n  kernelArguments: [\"a=${word}\"]\n";
    let Err(ProfileError::Invalid(problems)) = load(&profile, "") else { panic!("accepted") };
    let said =
        problems.iter().map(|p| format!("{}:{}: {}: {}\n  fix: {}\n", p.line, p.column, p.code, p.message, p.fix));
    insta::assert_snapshot!(said.collect::<String>());
}
