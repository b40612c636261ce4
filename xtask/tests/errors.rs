//! Help and errors as people see them. `INSTA_UPDATE=always cargo test -p xtask` writes them anew.

#[path = "../../contracts/tests/program/mod.rs"]
mod program;

use insta::assert_snapshot;
use program::Place;

fn place() -> Place {
    Place::new(env!("CARGO_BIN_EXE_xtask"))
}

#[test]
fn help_of_every_command() {
    let commands: [&[&str]; 7] = [
        &["--help"],
        &["setup", "--help"],
        &["demo", "--help"],
        &["test", "--help"],
        &["e2e", "--help"],
        &["bench", "--help"],
        &["dist", "--help"],
    ];
    let place = place();
    assert_snapshot!(commands.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn wrong_command_lines() {
    let all: [&[&str]; 6] = [
        &["dance"],
        &["e2e", "no-such-case"],
        &["bench", "weather"],
        &["dist", "moon"],
        &["demo", "--json"],
        &["demo", "--template", "till"],
    ];
    let place = place();
    assert_snapshot!(all.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn a_result_that_cannot_be_written_is_found_before_the_work() {
    let place = place();
    place.file("file", "");
    let all: [&[&str]; 3] = [
        &["demo", "--json", "none/report.json"],
        &["bench", "journey", "--json", "none/rows.json"],
        &["demo", "--json", "file/report.json"],
    ];
    assert_snapshot!(all.map(|arguments| place.run(arguments)).join("\n"));
}

#[test]
fn a_full_output() {
    assert_snapshot!(place().run_into_full_output(&["e2e", "--list"]));
}

#[test]
fn nowhere_to_keep_things() {
    let place = place();
    let arguments = ["e2e", "admission"];
    let mut command = place.command(&arguments);
    for name in ["SHELFBOOT_CACHE", "XDG_CACHE_HOME", "HOME"] {
        command.env_remove(name);
    }
    // Debian's own settings would name a mirror; without HOME rustup's proxies do not find their toolchain.
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", place.transcript(&arguments, &output));
}
