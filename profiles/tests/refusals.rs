//! What is refused, and what the user is told.

use profiles::ProfileError;
use std::path::Path;

const TEMPLATE: &str = "\
apiVersion: shelfboot.dev/v1
kind: MachineTemplate
metadata: {name: till}
spec:
  software: [small]
  configuration: [small]
  join:
    driver: kubernetes
    certificates:
      - purpose: kubelet-client
        commonName: system:node:${machine.name}
        key: /var/lib/kubelet/pki/kubelet-client.key
        certificate: /var/lib/kubelet/pki/kubelet-client.crt
    files:
      - path: /etc/kubernetes/pki/ca.crt
        content: ${region.ca}
    units: [kubelet.service]
    ready:
      http: http://127.0.0.1:10248/healthz
";

const SOFTWARE: &str = "\
apiVersion: shelfboot.dev/v1
kind: SoftwareProfile
metadata: {name: small}
spec:
  packages: [dbus]
";

const CONFIGURATION: &str = "\
apiVersion: shelfboot.dev/v1
kind: ConfigurationProfile
metadata: {name: small}
spec:
  files:
    - path: /etc/motd
      mode: \"0600\"
      content: hello
";

fn refused(template: &str, software: &str, configuration: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("templates/till.yaml", template);
    write("software/small.yaml", software);
    write("configuration/small.yaml", configuration);
    match profiles::load(&folder.path().join("templates/till.yaml"), None) {
        Ok(_) => "accepted".into(),
        Err(ProfileError::Invalid(problems)) => {
            let said = problems.iter().map(|problem| {
                let file = problem.file.strip_prefix(folder.path()).unwrap_or(Path::new("?")).display();
                let fix = problem.fix.replace(&folder.path().display().to_string(), "DIR");
                let (line, column, code) = (problem.line, problem.column, problem.code);
                format!("{file}:{line}:{column}: {code}: {}\nfix: {fix}", problem.message)
            });
            said.collect::<Vec<_>>().join("\n")
        }
        Err(other) => other.to_string(),
    }
}

#[test]
fn the_small_template_is_accepted() {
    assert_eq!(refused(TEMPLATE, SOFTWARE, CONFIGURATION), "accepted");
}

#[test]
fn a_wrong_api_version() {
    insta::assert_snapshot!(refused(&TEMPLATE.replace("/v1\n", "/v9\n"), SOFTWARE, CONFIGURATION));
}

#[test]
fn a_wrong_kind() {
    insta::assert_snapshot!(refused(TEMPLATE, CONFIGURATION, CONFIGURATION));
}

#[test]
fn an_unknown_field() {
    insta::assert_snapshot!(refused(TEMPLATE, &SOFTWARE.replace("packages", "package"), CONFIGURATION));
}

#[test]
fn broken_yaml() {
    insta::assert_snapshot!(refused(TEMPLATE, &SOFTWARE.replace("[dbus]", "[dbus"), CONFIGURATION));
}

#[test]
fn a_missing_profile() {
    insta::assert_snapshot!(refused(&TEMPLATE.replace("[small]", "[small, other]"), SOFTWARE, CONFIGURATION));
}

#[test]
fn a_bad_package() {
    insta::assert_snapshot!(refused(TEMPLATE, &SOFTWARE.replace("dbus", "DBus"), CONFIGURATION));
}

#[test]
fn a_relative_path() {
    insta::assert_snapshot!(refused(TEMPLATE, SOFTWARE, &CONFIGURATION.replace("/etc/motd", "etc/../motd")));
}

#[test]
fn a_bad_mode() {
    insta::assert_snapshot!(refused(TEMPLATE, SOFTWARE, &CONFIGURATION.replace("0600", "0699")));
}

#[test]
fn an_undeclared_parameter() {
    insta::assert_snapshot!(refused(TEMPLATE, SOFTWARE, &CONFIGURATION.replace("hello", "\"hello ${who}\"")));
}

#[test]
fn an_unknown_join_driver() {
    insta::assert_snapshot!(refused(&TEMPLATE.replace("kubernetes\n", "nomad\n"), SOFTWARE, CONFIGURATION));
}

#[test]
fn a_value_that_the_driver_does_not_deliver() {
    insta::assert_snapshot!(refused(&TEMPLATE.replace("region.ca", "region.password"), SOFTWARE, CONFIGURATION));
}

#[test]
fn a_certificate_that_the_driver_does_not_give() {
    insta::assert_snapshot!(refused(&TEMPLATE.replace("kubelet-client\n", "admin\n"), SOFTWARE, CONFIGURATION));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let template = TEMPLATE
        .replace("  software: [small]", "  sofware: [small]\n  software: [small, large]")
        .replace("driver: kubernetes", "driver: nomad")
        .replace("commonName: system:node:${machine.name}", "commonName: ${till.number}")
        .replace("units: [kubelet.service]", "units: [kubelet]");
    let software = SOFTWARE.replace("packages: [dbus]", "packages: [dbus, Dbus]\n  exclude: {a: b}");
    let configuration = CONFIGURATION.replace("mode: \"0600\"", "mode: [6, 0, 0]").replace("/etc/motd", "etc/motd");
    insta::assert_snapshot!(refused(&template, &software, &configuration));
}

#[test]
fn a_small_template_with_five_mistakes() {
    let template = TEMPLATE
        .replace("  software: [small]", "  software: [small, missing]")
        .replace("metadata: {name: till}", "metadata: {name: till, colour: red}")
        .replace("driver: kubernetes", "driver: nomad")
        .replace("content: ${region.ca}", "content: ${no.such}");
    let configuration = CONFIGURATION.replace("content: hello", "content: hello\n  modules: dm-mod");
    insta::assert_snapshot!(refused(&template, SOFTWARE, &configuration));
}

#[test]
fn wrong_types_where_something_has_to_be() {
    let template = TEMPLATE
        .replace("software: [small]", "software: small")
        .replace("driver: kubernetes", "driver: [kubernetes]")
        .replace("units: [kubelet.service]", "units: kubelet.service")
        .replace("content: ${region.ca}", "content: ${no.such}");
    insta::assert_snapshot!(refused(&template, SOFTWARE, CONFIGURATION));
}
