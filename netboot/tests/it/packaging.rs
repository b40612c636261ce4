//! The unit for systemd, the script for OpenWrt and the example configuration, as far as they can be tried without
//! those systems.

use netboot::config::Config;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[test]
fn the_example_is_a_configuration_and_names_every_setting() {
    let path = packaging("netboot.example.yaml");
    let text = fs::read_to_string(&path).unwrap();
    Config::parse(&text, &path).unwrap();
    // With everything that is commented out put in force, too.
    let all: String = text.lines().map(|line| line.strip_prefix("#= ").unwrap_or(line).to_owned() + "\n").collect();
    Config::parse(&all, &path).unwrap();
    // An unknown field makes the reader list all that it knows.
    let listed = Config::parse(&format!("{text}\nnoSuchSetting: 1\n"), &path).unwrap_err().to_string();
    let (_, known) = listed.lines().next().unwrap().split_once("expected one of ").unwrap();
    for setting in known.split(", ") {
        assert!(all.lines().any(|line| line.starts_with(&format!("{setting}:"))), "{setting} is not in the example");
    }
}

/// What systemd itself says of the unit. The program need not be installed for that.
#[test]
fn systemd_takes_the_unit_and_finds_it_well_shut_in() {
    if !has("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("netboot.service");
    let text = fs::read_to_string(packaging("systemd/netboot.service")).unwrap();
    fs::write(&unit, text.replace("/usr/local/bin/netboot", "/bin/true")).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), said)
    };
    let (good, said) = run(&["verify", "--man=no"]);
    // Units of the machine that it loads on the way are not ours.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("netboot")).collect();
    assert!(good && ours.is_empty(), "{said}");
    // In tenths: 10.0 is no protection at all; 2.0 was measured with systemd 252.
    let (good, said) = run(&["security", "--offline=true", "--threshold=21"]);
    assert!(good || said.contains("unrecognized option"), "{said}");
}

/// procd's functions, as far as the script calls them, write down what they are given. Everything else of the script
/// runs as on a router, in its shell.
const STAND_IN: &str = r#"
logger() { echo "logger $*"; }
procd_open_instance() { echo "open $*"; }
procd_set_param() { echo "set $*"; }
procd_close_instance() { echo "close"; }
procd_send_signal() { echo "signal $*"; }
procd_add_restart_trigger() { echo "trigger $*"; }
"#;

#[test]
fn the_script_for_openwrt_starts_reloads_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("netboot.yaml");
    let script = fs::read_to_string(packaging("openwrt/netboot.init")).unwrap();
    let script = script.replace("CONFIG=/etc/shelfboot/netboot.yaml", &format!("CONFIG={}", config.display()));
    let run = |call: &str| {
        let all = format!("{STAND_IN}\n{script}\n{call}; echo \"code $?\"");
        let mut shell = if has("busybox") { Command::new("busybox") } else { Command::new("sh") };
        if has("busybox") {
            shell.arg("sh");
        }
        let output = shell.arg("-euc").arg(all).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run("start_service || false").contains("logger -t netboot"), "without a configuration it says so");
    fs::write(&config, "").unwrap();
    let started = run("start_service");
    for line in [
        &format!("set command /usr/sbin/netboot serve --config {}", config.display()),
        "set respawn 3600 5 0",
        "set no_new_privs 1",
        "set reload_signal HUP",
        "close",
        "code 0",
    ] {
        assert!(started.lines().any(|said| said == line), "{line}\n{started}");
    }
    assert!(run("reload_service").starts_with("signal netboot"));
    assert!(run("service_triggers").contains("/etc/init.d/netboot restart"));
    assert_eq!(run("echo \"$USE_PROCD $START $STOP\""), "1 95 10\ncode 0\n");
}

#[test]
fn shellcheck_finds_nothing_in_the_script() {
    if !has("shellcheck") {
        return;
    }
    let output = Command::new("shellcheck").arg(packaging("openwrt/netboot.init")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
