//! What differs between two folders, or two repositories, and how.

use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, Read},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Names every path that is not the same in both folders: what kind of thing it is, its mode, with `owners` its owner, where a link
/// points, the first byte that differs. Times are not looked at: an image has one for all files.
///
/// # Errors
/// When a folder cannot be read.
pub fn folders(one: &Path, two: &Path, owners: bool) -> Result<Vec<String>> {
    let (first, second) = (listing(one, owners)?, listing(two, owners)?);
    let mut out = Vec::new();
    for (path, thing) in &first {
        match second.get(path) {
            None => out.push(format!("/{}: only in the first", path.display())),
            Some(other) if thing != other => {
                out.push(format!(
                    "/{}: {} in the first, {} in the second",
                    path.display(),
                    thing.words(),
                    other.words()
                ));
            }
            Some(_) if matches!(thing, Thing { kind: Kind::File(_), .. }) => {
                if let Some(at) = first_difference(&one.join(path), &two.join(path))? {
                    out.push(format!("/{}: the contents differ from byte {at} on", path.display()));
                }
            }
            Some(_) => {}
        }
    }
    let new = second.keys().filter(|path| !first.contains_key(*path));
    out.extend(new.map(|path| format!("/{}: only in the second", path.display())));
    Ok(out)
}

#[derive(Debug, PartialEq, Eq)]
struct Thing {
    kind: Kind,
    mode: u32,
    owner: Option<(u32, u32)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    Link(PathBuf),
    File(u64),
    Other,
}

impl Thing {
    fn words(&self) -> String {
        let kind = match &self.kind {
            Kind::Folder => "a folder".to_owned(),
            Kind::Link(target) => format!("a link to {}", target.display()),
            Kind::File(bytes) => format!("a file of {bytes} bytes"),
            Kind::Other => "something else".to_owned(),
        };
        let owner = self.owner.map_or_else(String::new, |(user, group)| format!(" of {user}:{group}"));
        format!("{kind} with mode {:04o}{owner}", self.mode)
    }
}

fn listing(folder: &Path, owners: bool) -> Result<BTreeMap<PathBuf, Thing>> {
    let mut out = BTreeMap::new();
    let mut rest = vec![PathBuf::new()];
    while let Some(inside) = rest.pop() {
        let place = folder.join(&inside);
        for entry in fs::read_dir(&place).with_context(|| format!("listing {}", place.display()))? {
            let entry = entry.with_context(|| format!("listing {}", place.display()))?;
            let path = inside.join(entry.file_name());
            let meta = entry.metadata().with_context(|| format!("looking at {}", entry.path().display()))?;
            let kind = if meta.is_dir() {
                rest.push(path.clone());
                Kind::Folder
            } else if meta.is_symlink() {
                Kind::Link(fs::read_link(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?)
            } else if meta.is_file() {
                Kind::File(meta.len())
            } else {
                Kind::Other
            };
            out.insert(
                path,
                Thing {
                    kind,
                    mode: meta.permissions().mode() & 0o7777,
                    owner: owners.then(|| (meta.uid(), meta.gid())),
                },
            );
        }
    }
    Ok(out)
}

/// Where two files begin to differ.
///
/// # Errors
/// When one cannot be read.
pub fn first_difference(one: &Path, two: &Path) -> Result<Option<u64>> {
    let open =
        |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display())).map(BufReader::new);
    let (mut one, mut two) = (open(one)?, open(two)?);
    let (mut first, mut second) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0;
    loop {
        let (here, there) = (fill(&mut one, &mut first)?, fill(&mut two, &mut second)?);
        if let Some(index) = first[..here].iter().zip(&second[..there]).position(|(a, b)| a != b) {
            return Ok(Some(at + index as u64));
        }
        if here != there {
            return Ok(Some(at + here.min(there) as u64));
        }
        if here == 0 {
            return Ok(None);
        }
        at += here as u64;
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]).context("reading")? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

/// A role's metadata without what must differ between two signings: signatures, expiry, and the digests of other metadata.
#[must_use]
pub fn lasting(metadata: &[u8]) -> Option<Value> {
    let mut document: Value = serde_json::from_slice(metadata).ok()?;
    let signed = document.get_mut("signed")?.as_object_mut()?;
    signed.remove("expires");
    for meta in signed.get_mut("meta").and_then(Value::as_object_mut).into_iter().flat_map(|meta| meta.values_mut()) {
        if let Some(meta) = meta.as_object_mut() {
            meta.remove("hashes");
            meta.remove("length");
        }
    }
    document.get("signed").cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for place in [&one, &two] {
            fs::create_dir_all(place.join("etc")).unwrap();
            fs::write(place.join("etc/same"), "same").unwrap();
            fs::write(place.join("etc/text"), "a long text").unwrap();
            fs::write(place.join("etc/mode"), "").unwrap();
        }
        assert_eq!(folders(&one, &two, true).unwrap(), Vec::<String>::new());
        fs::write(two.join("etc/text"), "a lung text").unwrap();
        fs::write(one.join("etc/gone"), "").unwrap();
        fs::write(two.join("etc/new"), "").unwrap();
        fs::set_permissions(two.join("etc/mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(one.join("etc/mode"), fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink("a", one.join("link")).unwrap();
        std::os::unix::fs::symlink("b", two.join("link")).unwrap();
        let found = folders(&one, &two, true).unwrap();
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found.contains(&"/etc/text: the contents differ from byte 3 on".to_owned()));
        assert!(found.contains(&"/etc/gone: only in the first".to_owned()));
        assert!(found.contains(&"/etc/new: only in the second".to_owned()));
        assert!(found.iter().any(|line| line.contains("mode 0644") && line.contains("mode 0600")), "{found:?}");
        assert!(found.iter().any(|line| line.contains("a link to a") && line.contains("a link to b")), "{found:?}");
    }

    #[test]
    fn only_what_must_differ_is_left_out_of_metadata() {
        let document = |expires: &str, version: u64, digest: &str| {
            format!(
                r#"{{"signatures":[{{"sig":"{digest}"}}],"signed":{{"expires":"{expires}","version":{version},
                   "meta":{{"targets.json":{{"version":1,"length":5,"hashes":{{"sha256":"{digest}"}}}}}}}}}}"#
            )
        };
        assert_eq!(lasting(document("a", 1, "x").as_bytes()), lasting(document("b", 1, "y").as_bytes()));
        assert_ne!(lasting(document("a", 1, "x").as_bytes()), lasting(document("a", 2, "x").as_bytes()));
        assert_eq!(lasting(b"no JSON"), None);
    }
}
