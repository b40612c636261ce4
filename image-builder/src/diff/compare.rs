//! Holds two images against each other. Pure.

use super::chunks::Chunks;
use crate::sbom::cyclonedx::{self, Bom, Component};
use contracts::manifest::ImageManifest;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// All that is looked at of one image.
#[derive(Debug, Clone)]
pub struct Side {
    /// `TEMPLATE@VERSION`.
    pub name: String,
    /// Its manifest.
    pub manifest: ImageManifest,
    /// Length and SHA-256 of the UKI.
    pub uki: (u64, String),
    /// The archive's dictionary: compressed bytes by chunk.
    pub chunks: BTreeMap<Vec<u8>, u64>,
    /// Packages and files.
    pub list: Bom,
}

/// What is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `TEMPLATE@VERSION`.
    pub from: String,
    /// `TEMPLATE@VERSION`.
    pub to: String,
    /// Packages that came, went or have another version. Sorted.
    pub packages: Vec<PackageChange>,
    /// Files that came, went or are different. Sorted.
    pub files: Vec<FileChange>,
    /// Bytes of the parts.
    pub sizes: Vec<Size>,
    /// What an update transfers.
    pub transfer: Transfer,
}

/// Where a package or file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the root file system.
    Root,
    /// In the initrd of the boot image; of packages, also what starts it.
    Boot,
}

/// A package that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// The version before; `None` when it came.
    pub from: Option<String>,
    /// The version after; `None` when it went.
    pub to: Option<String>,
}

/// A file that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// The absolute path.
    pub path: String,
    /// Where it is.
    pub place: Place,
    /// What brought it: a package, a profile, a program of the build. After the change, or before if it went.
    pub origin: String,
    /// Before; `None` when it came.
    pub from: Option<File>,
    /// After; `None` when it went.
    pub to: Option<File>,
}

/// A file or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Bytes; 0 of a link.
    pub bytes: u64,
    /// SHA-256 in hex, of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The target, of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Bytes of a part before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Size {
    /// `root`, `hash tree`, `boot image`, `archive`.
    pub part: &'static str,
    /// Bytes before.
    pub from: u64,
    /// Bytes after.
    pub to: u64,
}

/// What a machine with the one image transfers to get the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// All together.
    pub bytes: u64,
    /// The boot image; it goes whole, or not at all when it is the same.
    pub boot_image_bytes: u64,
    /// Header and dictionary of the archive; nothing when it is the same archive.
    pub dictionary_bytes: u64,
    /// Compressed chunks that the first image does not have.
    pub chunk_bytes: u64,
    /// How many they are.
    pub chunks: u64,
    /// How many chunks the second image has.
    pub chunks_of_all: u64,
}

/// Compares two images.
#[must_use]
pub fn compare(from: &Side, to: &Side) -> Difference {
    let (one, other) = (&from.manifest, &to.manifest);
    let size = |part, from, to| Size { part, from, to };
    Difference {
        from: from.name.clone(),
        to: to.name.clone(),
        packages: packages(&from.list, &to.list),
        files: files(&from.list, &to.list),
        sizes: vec![
            size("root", one.root.data_bytes, other.root.data_bytes),
            size("hash tree", one.root.hash_bytes, other.root.hash_bytes),
            size("boot image", from.uki.0, to.uki.0),
            size("archive", one.archive.bytes, other.archive.bytes),
        ],
        transfer: transfer(from, to),
    }
}

fn transfer(from: &Side, to: &Side) -> Transfer {
    let missing = |chunks: &Chunks| -> (u64, u64) {
        let missing = to.chunks.iter().filter(|(hash, _)| !chunks.contains_key(*hash));
        missing.fold((0, 0), |(count, bytes), (_, stored)| (count + 1, bytes + stored))
    };
    let (chunks, chunk_bytes) = missing(&from.chunks);
    let same_archive = from.manifest.archive.header_sha256 == to.manifest.archive.header_sha256;
    let dictionary_bytes = if same_archive { 0 } else { to.manifest.archive.header_bytes };
    let boot_image_bytes = if from.uki.1 == to.uki.1 { 0 } else { to.uki.0 };
    Transfer {
        bytes: boot_image_bytes + dictionary_bytes + chunk_bytes,
        boot_image_bytes,
        dictionary_bytes,
        chunk_bytes,
        chunks,
        chunks_of_all: to.chunks.len() as u64,
    }
}

/// Every key of both sides whose values differ.
fn changed<'a, K: Ord + Clone, V: PartialEq>(
    from: &'a BTreeMap<K, V>,
    to: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (K, Option<&'a V>, Option<&'a V>)> {
    let keys: BTreeSet<K> = from.keys().chain(to.keys()).cloned().collect();
    let sides = keys.into_iter().map(|key| (from.get(&key), to.get(&key), key));
    sides.filter(|(from, to, _)| from != to).map(|(from, to, key)| (key, from, to))
}

/// Versions by name and place.
fn packages(from: &Bom, to: &Bom) -> Vec<PackageChange> {
    let versions = |list: &Bom| -> BTreeMap<(String, Place), BTreeSet<String>> {
        let mut out: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for component in list.components.iter().filter(|component| component.purl.is_some()) {
            let places = component.properties.iter().filter(|property| property.name == cyclonedx::IN);
            for place in places.map(|property| if property.value == "root" { Place::Root } else { Place::Boot }) {
                let version = component.version.clone().unwrap_or_default();
                out.entry((component.name.clone(), place)).or_default().insert(version);
            }
        }
        out
    };
    let join = |versions: &BTreeSet<String>| versions.iter().cloned().collect::<Vec<_>>().join(", ");
    let (from, to) = (versions(from), versions(to));
    let changes = changed(&from, &to).map(|((name, place), from, to)| PackageChange {
        name,
        place,
        from: from.map(join),
        to: to.map(join),
    });
    changes.collect()
}

fn files(from: &Bom, to: &Bom) -> Vec<FileChange> {
    let (before, after) = (listed(from), listed(to));
    let content = |files: &Files| -> BTreeMap<(String, Place), File> {
        files.iter().map(|(key, (file, _))| (key.clone(), file.clone())).collect()
    };
    let (from, to) = (content(&before), content(&after));
    let changes = changed(&from, &to).map(|(key, from, to)| {
        let origin = after.get(&key).or_else(|| before.get(&key)).map(|(_, origin)| origin.clone());
        FileChange {
            path: key.0,
            place: key.1,
            origin: origin.unwrap_or_default(),
            from: from.cloned(),
            to: to.cloned(),
        }
    });
    changes.collect()
}

type Files = BTreeMap<(String, Place), (File, String)>;

/// The files of a list by path, each with the name of what brought it.
fn listed(list: &Bom) -> Files {
    let names: BTreeMap<&str, &str> = list
        .components
        .iter()
        .filter_map(|component| Some((component.bom_ref.as_deref()?, component.name.as_str())))
        .collect();
    let mut out = Files::new();
    for holder in &list.components {
        let boot = holder.bom_ref.as_deref() == Some(cyclonedx::INITRD);
        for file in holder.components.iter().filter(|file| file.kind == "file") {
            let from = file.property(cyclonedx::FROM).and_then(|from| names.get(from).copied());
            let origin = if boot { from.unwrap_or("image-builder") } else { &holder.name };
            let place = if boot { Place::Boot } else { Place::Root };
            out.insert((file.name.clone(), place), (of(file), origin.to_owned()));
        }
    }
    out
}

fn of(component: &Component) -> File {
    File {
        bytes: component.property(cyclonedx::BYTES).and_then(|bytes| bytes.parse().ok()).unwrap_or_default(),
        sha256: component.sha256().map(str::to_owned),
        link: component.property(cyclonedx::LINK).map(str::to_owned),
    }
}

/// Lists and dictionaries that tests, and the fuzz target, make up.
#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// An image with these packages (name, version), files of the first package (path, content) and chunks.
    pub(in super::super) fn side(
        version: &str,
        packages: &[(&str, &str)],
        files: &[(&str, &str)],
        chunks: &[u8],
    ) -> Side {
        let mut components: Vec<_> = packages
            .iter()
            .map(|(name, version)| {
                json!({
                    "type": "library", "bom-ref": format!("{name}@{version}"), "name": name, "version": version, "purl": "pkg:deb/x/x",
                    "properties": [{"name": "shelfboot:in", "value": "root"}],
                })
            })
            .collect();
        let inside = files.iter().map(|(path, content)| {
            json!({
                "type": "file", "name": path, "hashes": [{"alg": "SHA-256", "content": content}],
                "properties": [{"name": "shelfboot:bytes", "value": content.len().to_string()}],
            })
        });
        if let Some(first) = components.first_mut() {
            first["components"] = inside.collect();
        }
        components.push(json!({
            "type": "data", "bom-ref": "initrd", "name": "initrd",
            "components": [{"type": "file", "name": "/etc/shelfboot/trust.json", "hashes": [{"alg": "SHA-256", "content": version}]}],
        }));
        let component = json!({"type": "operating-system", "name": "till"});
        let list = json!({
            "$schema": "", "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": "", "version": 1,
            "metadata": {"timestamp": "", "tools": {"components": []}, "component": component}, "components": components,
        });
        let manifest = json!({
            "version": 1, "template": "till", "image_version": version, "architecture": "x86_64",
            "root": {"data_bytes": 4096 * chunks.len(), "hash_bytes": 4096, "root_hash": ""},
            "archive": {"path": "", "header_bytes": 100, "header_sha256": hex::encode(chunks), "bytes": 100 + 10 * chunks.len()},
            "uki": "", "boot_loader": "", "registrar_ca": "",
        });
        Side {
            name: format!("till@{version}"),
            manifest: serde_json::from_value(manifest).unwrap(),
            uki: (1000, version.to_owned()),
            chunks: chunks.iter().map(|chunk| (vec![*chunk], 10)).collect(),
            list: serde_json::from_value(list).unwrap(),
        }
    }

    #[test]
    fn what_came_went_and_changed_is_told_apart() {
        let from =
            side("1", &[("a", "1"), ("b", "1"), ("c", "1")], &[("/gone", "x"), ("/kept", "y"), ("/new", "1")], &[1, 2]);
        let to = side(
            "2",
            &[("a", "2"), ("b", "1"), ("d", "1")],
            &[("/came", "x"), ("/kept", "y"), ("/new", "22")],
            &[2, 3, 4],
        );
        insta::assert_json_snapshot!(compare(&from, &to));
    }

    #[test]
    fn an_image_beside_itself_transfers_nothing() {
        let one = side("1", &[("a", "1")], &[("/x", "x")], &[1, 2]);
        let same = compare(&one, &one);
        assert!(same.packages.is_empty() && same.files.is_empty());
        assert_eq!((same.transfer.bytes, same.transfer.chunks), (0, 0));
    }

    proptest! {
        #[test]
        fn a_transfer_is_never_more_than_the_whole(from in proptest::collection::btree_set(0u8..20, 0..20), to in proptest::collection::btree_set(0u8..20, 0..20)) {
            let list = |set: &BTreeSet<u8>| set.iter().copied().collect::<Vec<_>>();
            let (one, other) = (side("1", &[], &[], &list(&from)), side("2", &[], &[], &list(&to)));
            let there = compare(&one, &other).transfer;
            prop_assert!(there.bytes <= other.manifest.archive.bytes + other.uki.0);
            prop_assert_eq!(there.chunks as usize, to.difference(&from).count());
        }
    }
}
