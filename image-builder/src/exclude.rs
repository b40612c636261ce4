//! Removes the paths that a template leaves out. `*` stands for any part of one name, never for a `/`.

use crate::files::{self, FileError, at};
use std::path::{Path, PathBuf};

/// True when a pattern with `*` fits a whole name.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
        }),
    }
}

/// Removes everything in `tree` that fits; returns how many paths that were.
///
/// # Errors
/// [`FileError`].
pub fn remove<'a>(tree: &Path, patterns: impl IntoIterator<Item = &'a str>) -> Result<usize, FileError> {
    let mut count = 0;
    for pattern in patterns {
        for path in find(tree, pattern)? {
            files::remove(&path)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The paths in `tree` that fit an absolute pattern. Links on the way are not followed: they may lead out.
fn find(tree: &Path, pattern: &str) -> Result<Vec<PathBuf>, FileError> {
    let mut found = vec![tree.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for folder in found {
            if !folder.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                continue;
            }
            for entry in std::fs::read_dir(&folder).map_err(at("list", &folder))? {
                let entry = entry.map_err(at("list", &folder))?;
                if fits(part, &entry.file_name().to_string_lossy()) {
                    next.push(entry.path());
                }
            }
        }
        found = next;
    }
    found.retain(|path| path != tree);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_any_part_of_a_name() {
        assert!(fits("libperl.so.*", "libperl.so.5.40"));
        assert!(fits("*", "") && fits("a*c", "abc") && fits("a*c*", "acxc"));
        assert!(!fits("a*c", "ab") && !fits("", "a"));
    }

    #[test]
    fn links_are_removed_but_not_followed() {
        let tree = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.path().join("link")).unwrap();
        assert_eq!(remove(tree.path(), ["/link/kept", "/none/*"]).unwrap(), 0);
        assert_eq!(remove(tree.path(), ["/li*"]).unwrap(), 1);
        assert!(outside.path().join("kept").exists());
    }

    proptest! {
        #[test]
        fn a_name_fits_itself_with_any_part_starred(name in "[a-z.]{1,12}", from in 0usize..12, to in 0usize..12) {
            let (from, to) = (from.min(name.len()), to.min(name.len()));
            let (from, to) = (from.min(to), from.max(to));
            let pattern = format!("{}*{}", &name[..from], &name[to..]);
            prop_assert!(fits(&pattern, &name));
        }
    }
}
