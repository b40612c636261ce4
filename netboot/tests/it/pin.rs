//! `netboot pin`, as a script and as a person at a terminal use it.

use crate::{common::World, program::Place};
use netboot::pin::secret::SecretFile;
use nix::{
    pty::openpty,
    sys::termios::{LocalFlags, tcgetattr},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

fn place() -> Place {
    let world = World::new();
    world.write_config();
    Place::within(env!("CARGO_BIN_EXE_netboot"), world.folder)
}

fn pin(place: &Place, action: &str, input: &str) -> (Output, String) {
    let mut command = place.command(&["pin", action, "--config", "netboot.yaml"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

#[test]
fn a_script_sets_and_removes_it() {
    let place = place();
    let file = place.path("state/pin.json");
    let (output, text) = pin(&place, "set", "428571\nmore\n");
    assert!(output.status.success() && output.stdout.is_empty(), "{text}");
    assert!(!text.contains("428571"), "{text}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = SecretFile::read(&file).unwrap();
    assert!(secret.is("428571"));

    let (output, text) = pin(&place, "set", "123456\n");
    assert!(!output.status.success() && text.contains("hint: take another one"), "{text}");
    assert_eq!(SecretFile::read(&file).unwrap(), secret, "the old one stays");
    assert!(pin(&place, "remove", "").0.status.success() && !file.exists());
    assert!(pin(&place, "remove", "").0.status.success(), "twice is fine");
}

/// Types at a terminal and gives what was shown, and how the program ended.
fn typed(place: &Place, keys: &[&str]) -> (Option<i32>, String) {
    let pty = openpty(None, None).unwrap();
    let mut command = place.command(&["pin", "set", "--config", "netboot.yaml"]);
    let mut child = command.stdin(Stdio::from(pty.slave.try_clone().unwrap())).stderr(Stdio::piped()).spawn().unwrap();
    let mut keyboard = File::from(pty.master.try_clone().unwrap());
    for key in keys {
        // What is typed before the terminal hides it would be thrown away.
        let end = Instant::now() + Duration::from_secs(20);
        while tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ECHO) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        keyboard.write_all(key.as_bytes()).unwrap();
    }
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ISIG), "as it was");
    // Once nobody holds the other end, reading from this one ends.
    drop((pty.slave, command));
    let mut shown = String::new();
    child.stderr.take().unwrap().read_to_string(&mut shown).unwrap();
    let mut echoed = vec![0; 4096];
    let length = keyboard.read(&mut echoed).unwrap_or(0);
    shown += &String::from_utf8_lossy(&echoed[..length]);
    (status.code(), shown)
}

#[test]
fn a_person_types_it_twice_and_it_is_not_shown() {
    let place = place();
    let (code, shown) = typed(&place, &["428571\n", "428571\n"]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("New PIN: ") && !shown.contains("4285"), "{shown}");
    let (code, shown) = typed(&place, &["428571\n", "428572\n"]);
    assert!(code == Some(1) && shown.contains("two different PINs"), "{shown}");
    let (code, shown) = typed(&place, &["42\x03"]);
    assert!(code == Some(130) && shown.contains("interrupted"), "{shown}");
    assert!(SecretFile::read(&place.path("state/pin.json")).unwrap().is("428571"));
}
