//! Looks at an installed machine. Nothing is changed.

use super::{Look, Mount, State};
use crate::{
    boot::installed::{self, Node, STATE},
    encryption::KEY_FILE,
};
use anyhow::{Context, Result};
use contracts::{
    enrollment::NodeFile,
    machine::{MACHINE_CONFIG_PATH, MachineConfig},
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// The upper layer of `/etc` ([`crate::boot::installed`] mounts it).
const UPPER: &str = "run/shelfboot/etc/upper";
/// A file over `/etc` of more than this is not of the node configuration anyway.
const LONGEST: u64 = 1 << 20;
/// Folders and files are bounded, so that a look ends.
const MOST: usize = 10_000;

/// What the image says of this machine.
///
/// # Errors
/// When this is no installed machine.
pub fn machine_config(root: &Path) -> Result<MachineConfig> {
    let path = below(root, MACHINE_CONFIG_PATH);
    let bytes =
        fs::read(&path).with_context(|| format!("{} is missing: is this an installed machine?", path.display()))?;
    Ok(contracts::read(&bytes)?)
}

/// What the region said of this machine, if it has.
#[must_use]
pub fn node(root: &Path) -> Option<Node> {
    serde_json::from_slice(&fs::read(below(root, STATE).join("node.json")).ok()?).ok()
}

/// Looks at the machine whose root is `root`: `/`, but for tests.
///
/// # Errors
/// When what the kernel says cannot be read.
pub fn look(root: &Path, config: &MachineConfig) -> Result<Look> {
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).context("reading the mounts")?;
    let mounts = parse_mounts(&mounts);
    let root_mount = mounts.get("/").cloned().unwrap_or_default();
    let medium = installed::network_of_medium(&below(root, STATE));
    let node = node(root).map_or_else(Vec::new, |node| node.all_files(config).0);
    let wanted = medium.into_iter().chain(node).map(|file: NodeFile| (file.path, file.content.into_bytes()));
    let mut over_etc = BTreeMap::new();
    collect(&root.join(UPPER), Path::new("/etc"), &mut over_etc);
    let certificates = config.join.certificates.iter().map(|certificate| {
        let bytes = fs::read(below(root, &certificate.certificate)).ok();
        (certificate.certificate.clone(), bytes.and_then(|pem| end_of(&pem)))
    });
    Ok(Look {
        root_target: target_of(root, &root_mount.source),
        root: root_mount,
        over_etc,
        wanted: wanted.collect(),
        persist: config.persist.iter().map(|path| (path.clone(), mounts.contains_key(path))).collect(),
        certificates: certificates.collect(),
        state: State {
            encrypted: mounts.get("/state").is_some_and(|m| target_of(root, &m.source).as_deref() == Some("LUKS2")),
            demanded: config.state.demands_encryption(),
            recovery_key_here: below(root, STATE).join(KEY_FILE).exists(),
        },
    })
}

/// By the folder; a later mount over the same folder counts.
fn parse_mounts(text: &str) -> BTreeMap<String, Mount> {
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let mut after = after.split(' ');
        let (kind, source) = (after.next()?.to_owned(), after.next()?.to_owned());
        let read_only = |options: &str| options.split(',').any(|option| option == "ro");
        let read_only = read_only(before.get(5)?) || after.next().is_some_and(read_only);
        Some(((*before.get(4)?).to_owned(), Mount { kind, source, read_only }))
    };
    text.lines().filter_map(line).collect()
}

/// The kernel keeps the target's kind as the first part of the uuid that veritysetup gives (`CRYPT-VERITY-…`).
fn target_of(root: &Path, source: &str) -> Option<String> {
    let name = source.strip_prefix("/dev/mapper/").unwrap_or(source.strip_prefix("/dev/")?);
    let blocks = fs::read_dir(root.join("sys/block")).ok()?;
    blocks.flatten().map(|entry| entry.path()).find_map(|block| {
        let is = block.file_name().is_some_and(|file| file.to_string_lossy() == name)
            || fs::read_to_string(block.join("dm/name")).is_ok_and(|text| text.trim() == name);
        let uuid = fs::read_to_string(block.join("dm/uuid")).ok().filter(|_| is)?;
        Some(uuid.trim().strip_prefix("CRYPT-")?.split('-').next()?.to_owned())
    })
}

/// Regular files and links with what they hold; a character device of number 0 is overlayfs' mark for what was taken away.
fn collect(folder: &Path, shown: &Path, into: &mut BTreeMap<String, Option<Vec<u8>>>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (path, shown) = (entry.path(), shown.join(entry.file_name()));
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if into.len() >= MOST {
            return;
        }
        let kind = metadata.file_type();
        if kind.is_dir() {
            collect(&path, &shown, into);
            continue;
        }
        let content = if kind.is_symlink() {
            fs::read_link(&path).ok().map(|to| to.into_os_string().into_encoded_bytes())
        } else if kind.is_char_device() && metadata.rdev() == 0 {
            None
        } else {
            let short = metadata.is_file() && metadata.len() <= LONGEST;
            Some(if short { fs::read(&path).unwrap_or_default() } else { Vec::new() })
        };
        into.insert(shown.display().to_string(), content);
    }
}

/// When the first certificate in a PEM file ends.
fn end_of(pem: &[u8]) -> Option<OffsetDateTime> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Some(pem.parse_x509().ok()?.validity().not_after.to_datetime())
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_options() {
        let text = "22 1 254:0 / / ro,relatime - erofs /dev/mapper/root ro,user_xattr\n\
                    40 22 8:6 /persist/var /var rw,nosuid shared:1 - ext4 /dev/vda6 rw\n\
                    nonsense\n";
        let mounts = parse_mounts(text);
        assert_eq!(mounts["/"], Mount { kind: "erofs".into(), source: "/dev/mapper/root".into(), read_only: true });
        assert!(!mounts["/var"].read_only && mounts.len() == 2);
    }

    #[test]
    fn the_layer_over_etc_is_read_with_folders_and_links() {
        let root = tempfile::tempdir().unwrap();
        let upper = root.path().join(UPPER);
        fs::create_dir_all(upper.join("systemd/network")).unwrap();
        fs::write(upper.join("systemd/network/40-shelfboot.network"), "x").unwrap();
        std::os::unix::fs::symlink("/usr/lib/x", upper.join("link")).unwrap();
        let mut found = BTreeMap::new();
        collect(&upper, Path::new("/etc"), &mut found);
        assert_eq!(found["/etc/systemd/network/40-shelfboot.network"], Some(b"x".to_vec()));
        assert_eq!(found["/etc/link"], Some(b"/usr/lib/x".to_vec()));
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["n".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let pem = params.self_signed(&key).unwrap().pem();
        assert_eq!(end_of(pem.as_bytes()).unwrap().date(), time::macros::date!(2031 - 02 - 03));
        assert_eq!(end_of(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), None);
        assert_eq!(end_of(b""), None);
    }
}
