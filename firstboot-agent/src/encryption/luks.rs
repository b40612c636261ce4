//! The volume on the state partition. Debian's `cryptsetup` and `systemd-cryptenroll` do the work; keys go through pipes, never
//! into an argument, a variable or a file outside of the volume.
//!
//! The label says how far a volume is: one word until it has its keys and its file system, then another. A power cut before that
//! leaves something that holds nothing, and the next try makes it anew.

use super::{KEY_FILE, tpm};
use crate::{
    boot::modules,
    durable,
    install::{esp, state::Mounted},
};
use anyhow::{Context as _, Result, bail};
use contracts::{
    facts::Owner,
    state::{RecoveryKey, recovery_key},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use uuid::Uuid;

/// The opened volume's name below `/dev/mapper`.
pub const NAME: &str = "state";
/// A volume that is not finished.
const MAKING: &str = "shelfboot-making";
/// A volume that may hold somebody's data.
const MADE: &str = "shelfboot-state";
/// The kind and the number of the token that says whose volume it is. cryptsetup leaves kinds alone that it does not know.
const OWNER_TOKEN: &str = "shelfboot-owner";
const OWNER_TOKEN_ID: &str = "30";
/// Header and keys: what cryptsetup takes for LUKS2 unless it is told otherwise. Erased before a volume is made anew.
const HEADER_BYTES: u64 = 16 << 20;
/// The header's JSON is smaller.
const JSON_LIMIT: usize = 4 << 20;

/// What a header says to everybody who holds the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// It has its keys and its file system.
    pub finished: bool,
    /// Whose it is; `None` until an install onto it has ended, and the machine has met its store.
    pub owner: Option<Owner>,
}

/// True when the partition begins with a LUKS2 header, or the header's copy is there (LUKS2 On-Disk Format Specification, 2.1).
#[must_use]
pub fn is_luks(node: &Path) -> bool {
    let magic = |at: u64, magic: &[u8; 6]| {
        let mut bytes = [0; 6];
        let mut file = File::open(node).ok()?;
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        Some(bytes == *magic)
    };
    magic(0, b"LUKS\xba\xbe") == Some(true) || magic(16 << 10, b"SKUL\xba\xbe") == Some(true)
}

/// What the header says. Nothing is written.
///
/// # Errors
/// When cryptsetup takes it for damaged.
pub fn header(node: &Path) -> Result<Header> {
    let json = run("cryptsetup", &["luksDump", "--dump-json-metadata", &node.to_string_lossy()], b"")?;
    let label = run("blkid", &["--probe", "--match-tag", "LABEL", "--output", "value", &node.to_string_lossy()], b"")?;
    Ok(Header { finished: label.trim_ascii() == MADE.as_bytes(), owner: owner_in(&json) })
}

#[derive(Debug, Serialize, Deserialize)]
struct OwnerToken {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    store: String,
    machine: String,
}

/// Whose volume it is, in the JSON of a header. Anybody with the disk in hand may write this; what the volume holds says it again.
fn owner_in(json: &[u8]) -> Option<Owner> {
    #[derive(Deserialize)]
    struct Metadata {
        tokens: std::collections::BTreeMap<String, serde_json::Value>,
    }
    let metadata: Metadata = serde_json::from_slice(json.get(..json.len().min(JSON_LIMIT))?).ok()?;
    let token = metadata.tokens.into_values().find(|token| token["type"] == OWNER_TOKEN)?;
    let OwnerToken { store, machine, .. } = serde_json::from_value(token).ok()?;
    Some(Owner { store, machine })
}

/// Says in the header whose volume it is, unless it is said there already.
///
/// # Errors
/// When the header cannot be written.
pub fn say_owner(node: &Path, owner: &Owner) -> Result<()> {
    if header(node)?.owner.as_ref() == Some(owner) {
        return Ok(());
    }
    let Owner { store, machine } = owner.clone();
    let token = OwnerToken { kind: OWNER_TOKEN.into(), keyslots: vec![], store, machine };
    let token = serde_json::to_vec(&token).context("writing the token")?;
    let node = node.to_string_lossy();
    let arguments =
        ["token", "import", "--token-id", OWNER_TOKEN_ID, "--token-replace", "--json-file", "-", node.as_ref()];
    run("cryptsetup", &arguments, &token).map(|_| ())
}

/// Makes a volume with a recovery key and a key that the TPM gives out, and an empty file system that holds the recovery key.
/// Returns the opened volume's node. `make_file_system` gets that node.
///
/// # Errors
/// With what the tools said. The volume counts as not made then.
pub fn make(node: &Path, make_file_system: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    close()?;
    erase(node)?;
    let key = recovery_key(&rand::random());
    let place = node.to_string_lossy();
    // The recovery key has 256 random bits: a costly derivation would make it no harder to guess, and argon2 wants memory that the
    // smallest machine does not have while it installs.
    let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let format = ["luksFormat", "--batch-mode", "--type", "luks2", "--label", MAKING, "--key-file=-"];
    run("cryptsetup", &[&format[..], &cheap[..], &[place.as_ref()]].concat(), key.as_bytes())?;
    let registers = format!("--tpm2-pcrs=7:sha256+{}:sha256={}", tpm::REGISTER, "0".repeat(64));
    // Without udev there is no /dev/stdin.
    let enroll = ["--unlock-key-file=/proc/self/fd/0", "--tpm2-device=auto", &registers, place.as_ref()];
    run("systemd-cryptenroll", &enroll, key.as_bytes()).context("binding the state to the TPM")?;
    // By the TPM, not by the key that is at hand: this is what every start will do.
    let opened = open(node)?;
    make_file_system(&opened)?;
    let volume = run("cryptsetup", &["luksUUID", place.as_ref()], b"")?;
    let volume = std::str::from_utf8(&volume).ok().and_then(|text| Uuid::parse_str(text.trim()).ok());
    let kept = RecoveryKey { version: contracts::VERSION, volume: volume.context("the volume has no UUID")?, key };
    let mounted = Mounted::new(&opened, "ext4")?;
    durable::write(&mounted.path().join("shelfboot").join(KEY_FILE), &serde_json::to_vec(&kept)?, 0o600)?;
    mounted.unmount()?;
    run("cryptsetup", &["config", "--label", MADE, place.as_ref()], b"")?;
    Ok(opened)
}

/// Opens the volume with the key that the TPM gives out; returns the opened volume's node.
///
/// # Errors
/// When the TPM gives out none, or another one.
pub fn open(node: &Path) -> Result<PathBuf> {
    close()?;
    modules::load("dm_crypt")?;
    let place = node.to_string_lossy();
    let arguments = ["open", "--batch-mode", "--token-only", "--token-type", "systemd-tpm2", place.as_ref(), NAME];
    run("cryptsetup", &arguments, b"")?;
    Ok(Path::new("/dev/mapper").join(NAME))
}

/// What a person reads where the TPM does not open the volume.
#[must_use]
pub fn locked(why: &str) -> String {
    format!(
        "the data on this disk is encrypted, and the TPM of this machine does not open it; nothing was changed. If the disk comes from \
         another machine, put it back there. If the firmware's settings or keys were changed, change them back. IT can read the data \
         with the recovery key (registrar recovery-key), or give a wipe permit ({why})"
    )
}

/// Takes the opened volume away, where there is one.
///
/// # Errors
/// When somebody uses it.
pub fn close() -> Result<()> {
    if !Path::new("/dev/mapper").join(NAME).exists() {
        return Ok(());
    }
    run("cryptsetup", &["close", NAME], b"").map(|_| ())
}

/// Takes both headers and all keys of an earlier volume away, or an earlier file system's beginning.
fn erase(node: &Path) -> Result<()> {
    esp::forget(node)?;
    let mut file = File::options().write(true).open(node).with_context(|| format!("opening {}", node.display()))?;
    let zeroes = vec![0; 1 << 20];
    for _ in 0..HEADER_BYTES >> 20 {
        file.write_all(&zeroes).with_context(|| format!("erasing {}", node.display()))?;
    }
    file.sync_all().with_context(|| format!("erasing {}", node.display()))
}

/// Runs a tool, with `input` on its standard input; returns what it printed. What it said is part of the error; it says no keys.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    // cryptsetup keeps its locks there.
    fs::create_dir_all("/run/cryptsetup").ok();
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    // Shorter than a pipe holds; a tool that has ended already says why itself.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input));
    let output = child.wait_with_output().with_context(|| format!("waiting for {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        bail!("{program} {} failed ({}): {}", arguments.first().unwrap_or(&""), output.status, said.join("; "));
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_owner_is_read_from_the_header() {
        let json = br#"{"keyslots":{},"tokens":{"0":{"type":"systemd-tpm2","keyslots":["1"],"tpm2-blob":"AA=="},
            "30":{"type":"shelfboot-owner","keyslots":[],"store":"store-0042","machine":"52:54:00:12:34:56"}}}"#;
        let owner = owner_in(json).unwrap();
        assert_eq!((owner.store.as_str(), owner.machine.as_str()), ("store-0042", "52:54:00:12:34:56"));
        assert_eq!(owner_in(br#"{"tokens":{"0":{"type":"systemd-tpm2"}}}"#), None);
        assert_eq!(owner_in(br#"{"tokens":{"30":{"type":"shelfboot-owner","store":7}}}"#), None);
    }

    #[test]
    fn both_headers_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, offset: usize, magic: &[u8]| {
            let mut bytes = vec![0; 32 << 10];
            bytes[offset..offset + magic.len()].copy_from_slice(magic);
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            is_luks(&path)
        };
        assert!(at("first", 0, b"LUKS\xba\xbe\0\x02"));
        assert!(at("copy", 16 << 10, b"SKUL\xba\xbe\0\x02"));
        assert!(!at("ext4", 1080, b"\x53\xef"));
        assert!(!is_luks(&folder.path().join("nothing")));
    }

    proptest! {
        #[test]
        fn any_metadata_is_survived(bytes: Vec<u8>, text in "\\{\"tokens\":\\{\"[0-9]\":.{0,40}\\}\\}") {
            let _ = owner_in(&bytes);
            let _ = owner_in(text.as_bytes());
        }
    }
}
