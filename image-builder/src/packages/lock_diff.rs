//! What an update of a lock would change. Pure.

use super::lock::{Layer, Lock, Package, SECURITY};
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write as _};

/// One package that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `image` or `tools`.
    pub part: &'static str,
    /// The package.
    pub package: String,
    /// Its version now; `None` when it is new.
    pub from: Option<String>,
    /// Its version then; `None` when it goes.
    pub to: Option<String>,
    /// How much larger the package file gets, in bytes.
    pub bytes: i64,
    /// Bytes to download for it.
    pub download: u64,
    /// The new version comes from Debian's security archive.
    pub security: bool,
}

/// All changes, sorted: the image's first, then by name.
#[must_use]
pub fn changes(old: &Lock, new: &Lock) -> Vec<Change> {
    let mut out = Vec::new();
    for (part, old, new) in [("image", &old.image, &new.image), ("tools", &old.tools, &new.tools)] {
        let (old, new) = (by_name(old), by_name(new));
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        let mut changes: Vec<Change> =
            names.filter_map(|name| change(part, old.get(name).copied(), new.get(name).copied())).collect();
        changes.sort_by(|a, b| a.package.cmp(&b.package));
        out.extend(changes);
    }
    out
}

fn by_name(layers: &[Layer]) -> BTreeMap<&str, &Package> {
    layers.iter().flat_map(|layer| &layer.packages).map(|package| (package.name.as_str(), package)).collect()
}

fn change(part: &'static str, old: Option<&Package>, new: Option<&Package>) -> Option<Change> {
    if old.map(|package| &package.sha256) == new.map(|package| &package.sha256) {
        return None;
    }
    let bytes = |package: Option<&Package>| package.map_or(0, |package| package.bytes);
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    Some(Change {
        part,
        package: new.or(old)?.name.clone(),
        from: old.map(|package| package.version.clone()),
        to: new.map(|package| package.version.clone()),
        bytes: signed(bytes(new)).saturating_sub(signed(bytes(old))),
        download: bytes(new),
        security: new.is_some_and(|package| package.source == SECURITY),
    })
}

/// The changes as a table for people.
#[must_use]
pub fn table(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing would change\n".into();
    }
    let cell = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".into());
    let width = |of: &dyn Fn(&Change) -> usize, least: usize| changes.iter().map(of).max().unwrap_or(0).max(least);
    let (name, from, to) =
        (width(&|c| c.package.len(), 7), width(&|c| cell(&c.from).len(), 3), width(&|c| cell(&c.to).len(), 3));
    let mut out = String::new();
    let _ = writeln!(out, "{:<5}  {:<name$}  {:<from$}  {:<to$}  {:>10}", "part", "package", "now", "new", "KiB");
    for change in changes {
        let kib = change.bytes.div_euclid(1024);
        let mark = if change.security { "  security" } else { "" };
        let line = format!(
            "{:<5}  {:<name$}  {:<from$}  {:<to$}  {kib:>+10}{mark}",
            change.part,
            change.package,
            cell(&change.from),
            cell(&change.to)
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let security = changes.iter().filter(|change| change.security).count();
    let download: u64 = changes.iter().map(|change| change.download).sum();
    let _ = writeln!(
        out,
        "{} packages differ, {security} of them from the security archive; {} to download",
        changes.len(),
        crate::report::mebibytes(download)
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::lock::{
        DEBIAN,
        tests::{lock, package},
    };

    #[test]
    fn new_old_and_changed_packages_are_named_and_security_is_marked() {
        let old = lock(&[&[
            package("libc6", "2.41-12", DEBIAN, 2_800_000),
            package("gone", "1", DEBIAN, 4096),
            package("same", "1", DEBIAN, 1),
        ]]);
        let new = lock(&[
            &[package("libc6", "2.41-12+deb13u1", SECURITY, 2_810_240)],
            &[package("fresh", "3", DEBIAN, 2048), package("same", "1", DEBIAN, 1)],
        ]);
        let changes = changes(&old, &new);
        insta::assert_snapshot!(table(&changes));
        assert_eq!(changes[2].bytes, 10_240);
        assert!(changes[2].security);
        assert_eq!(super::changes(&new, &new), []);
    }
}
