//! Where things lie in a repository, and which names in it may be believed to be paths.

use std::path::{Component, Path};

/// The file that says which publication is the current one. It is replaced last, by one rename.
pub const TIMESTAMP: &str = "metadata/timestamp.json";

/// No header of an archive is larger: some 100,000 chunks.
pub const LARGEST_ARCHIVE_HEADER: u64 = 32 << 20;

/// Where a target's bytes lie, with consistent snapshots: below `targets/`, under both names that clients ask for.
///
/// The TUF specification (6.2) puts the digest before the file's name, `images/till/1/DIGEST.uki.efi`; python-tuf and
/// go-tuf do so. `tough` puts it before the whole path, `DIGEST.images/till/1/uki.efi`. The second name is a hard link
/// of the first wherever the file system knows such. A name without folders gives the same path twice.
#[must_use]
pub fn target_paths(name: &str, sha256: &str) -> [String; 2] {
    let (folder, file) = name.rsplit_once('/').map_or(("", name), |(folder, file)| (folder, file));
    let separator = if folder.is_empty() { "" } else { "/" };
    [format!("targets/{folder}{separator}{sha256}.{file}"), format!("targets/{sha256}.{name}")]
}

/// The place of an archive whose header has this SHA-256.
#[must_use]
pub fn archive_path(header_sha256: &str) -> String {
    format!("archives/{header_sha256}.bita")
}

/// True for 64 lower-case hex digits.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// True when a name stays below the folder that it is joined to, whoever joins it: no `..`, no `.`, no empty part,
/// no leading slash, no backslash, no control character. No part is so long that a file system (255 bytes) would not take it with
/// a digest before it.
#[must_use]
pub fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 1024
        && name.split('/').all(|part| !part.is_empty() && part.len() <= 180)
        && !name.contains(|c: char| c.is_control() || c == '\\')
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
        && !name.split('/').any(|part| part == ".")
}

/// The version in the name of a metadata file: `12.targets.json` is version 12 of `targets`.
#[must_use]
pub fn metadata_version<'a>(file: &'a str) -> Option<(u64, &'a str)> {
    let (version, rest) = file.split_once('.')?;
    let plain = version.bytes().all(|b| b.is_ascii_digit()) && !version.starts_with('0');
    let role: &'a str = rest.strip_suffix(".json")?;
    version.parse().ok().filter(|_| plain).map(|version| (version, role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_conventions_of_consistent_snapshots() {
        assert_eq!(target_paths("a/b/c.efi", "12"), ["targets/a/b/12.c.efi", "targets/12.a/b/c.efi"]);
        assert_eq!(target_paths("plain", "12"), ["targets/12.plain", "targets/12.plain"]);
    }

    #[test]
    fn names_of_metadata() {
        assert_eq!(metadata_version("12.targets.json"), Some((12, "targets")));
        for other in ["timestamp.json", "root.json", "012.targets.json", "+1.targets.json", "1.targets", "x"] {
            assert_eq!(metadata_version(other), None, "{other}");
        }
    }

    #[test]
    fn unsafe_names_are_known() {
        for bad in ["", "/etc", "a/../b", "a//b", "./a", "a/.", "a\\b", "a\nb", ".."] {
            assert!(!is_safe(bad), "{bad:?}");
        }
        assert!(is_safe("images/k8s-worker/2026.11.1~rc/uki.efi"));
    }

    proptest! {
        #[test]
        fn a_safe_name_stays_below_its_folder(name in ".{0,40}") {
            if is_safe(&name) {
                for path in target_paths(&name, &"ab".repeat(32)) {
                    prop_assert!(is_safe(&path));
                    prop_assert!(Path::new("/r").join(&path).starts_with("/r/targets"));
                }
            }
        }
    }
}
