//! A difference for people.

use super::compare::{Difference, FileChange, Place};
use crate::report::mebibytes;
use std::collections::{BTreeMap, BTreeSet};

/// Shows a difference. Files of packages whose version changed are counted, unless `all_files`: they are many, and the version
/// says it.
#[must_use]
pub fn show(difference: &Difference, all_files: bool) -> String {
    let mut out = format!("{} -> {}\n\n", difference.from, difference.to);
    packages(difference, &mut out);
    files(difference, all_files, &mut out);
    out += "sizes\n";
    for size in &difference.sizes {
        let grown = i128::from(size.to) - i128::from(size.from);
        out += &format!(
            "  {:<12} {:>12} -> {:>12}  {grown:+} bytes\n",
            size.part,
            mebibytes(size.from),
            mebibytes(size.to)
        );
    }
    let transfer = &difference.transfer;
    out += &format!("\nan update transfers {}\n", mebibytes(transfer.bytes));
    let chunks = format!("{} of {} chunks", transfer.chunks, transfer.chunks_of_all);
    for (part, bytes) in [
        ("boot image", transfer.boot_image_bytes),
        ("dictionary", transfer.dictionary_bytes),
        (chunks.as_str(), transfer.chunk_bytes),
    ] {
        out += &format!("  {part:<24} {:>12}  {bytes} bytes\n", mebibytes(bytes));
    }
    out
}

fn count(came: usize, went: usize, all: usize) -> String {
    format!("{came} came, {went} went, {} changed", all - came - went)
}

fn packages(difference: &Difference, out: &mut String) {
    let packages = &difference.packages;
    let came = packages.iter().filter(|change| change.from.is_none()).count();
    let went = packages.iter().filter(|change| change.to.is_none()).count();
    *out += &format!("packages: {}\n", count(came, went, packages.len()));
    for change in packages {
        let boot = if change.place == Place::Boot { "  (boot image)" } else { "" };
        let name = &change.name;
        *out += &match (&change.from, &change.to) {
            (None, Some(to)) => format!("  + {name} {to}{boot}\n"),
            (Some(from), None) => format!("  - {name} {from}{boot}\n"),
            (from, to) => {
                let version = |version: &Option<String>| version.clone().unwrap_or_default();
                format!("  ~ {name} {} -> {}{boot}\n", version(from), version(to))
            }
        };
    }
    out.push('\n');
}

fn files(difference: &Difference, all_files: bool, out: &mut String) {
    let files = &difference.files;
    let came = files.iter().filter(|change| change.from.is_none()).count();
    let went = files.iter().filter(|change| change.to.is_none()).count();
    *out += &format!("files: {}\n", count(came, went, files.len()));
    let other_version: BTreeSet<&str> = difference.packages.iter().map(|change| change.name.as_str()).collect();
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for change in files {
        if !all_files && other_version.contains(change.origin.as_str()) {
            *counted.entry(&change.origin).or_default() += 1;
        } else {
            *out += &line(change);
        }
    }
    for (package, count) in counted {
        *out += &format!("  {count} of {package}\n");
    }
    out.push('\n');
}

fn line(change: &FileChange) -> String {
    let place = if change.place == Place::Boot { "initrd:" } else { "" };
    let (mark, size) = match (&change.from, &change.to) {
        (None, Some(to)) => ('+', format!("{} bytes", to.bytes)),
        (Some(from), None) => ('-', format!("{} bytes", from.bytes)),
        (from, to) => {
            let bytes = |file: &Option<super::compare::File>| file.as_ref().map_or(0, |file| file.bytes);
            ('~', format!("{} -> {} bytes", bytes(from), bytes(to)))
        }
    };
    format!("  {mark} {place}{}  ({}, {size})\n", change.path, change.origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::compare::{compare, tests::side};

    #[test]
    fn people_see_what_came_went_and_changed() {
        let from = side("1", &[("a", "1"), ("c", "1")], &[("/gone", "x"), ("/kept", "y")], &[1, 2]);
        let to = side("2", &[("a", "2"), ("d", "1")], &[("/came", "x"), ("/kept", "yy")], &[2, 3, 4]);
        let difference = compare(&from, &to);
        insta::assert_snapshot!(format!("{}---\n{}", show(&difference, false), show(&difference, true)));
    }
}
