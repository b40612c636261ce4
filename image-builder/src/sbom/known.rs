//! Digests of a root's files, taken once: most of an image's files are the very files of the root that the cache keeps.

use super::{
    SbomError,
    inventory::Digests,
    look::{Found, digests, in_parallel, walk},
};
use crate::{
    cache::Cache,
    files::{self, FileError},
    report::Silent,
    roots::Root,
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Digests by path below a root that never changes.
#[derive(Debug, Default)]
pub struct Known {
    root: PathBuf,
    digests: BTreeMap<PathBuf, Digests>,
}

impl Known {
    /// Takes them from the cache, or takes them now and keeps them.
    ///
    /// # Errors
    /// See [`SbomError`].
    pub async fn of(cache: &Cache, root: &Root, sha1: bool) -> Result<Self, SbomError> {
        let key = format!("{}-{}", root.key, if sha1 { "sha1" } else { "sha256" });
        let place = cache.tree("digests", &key);
        let read = || serde_json::from_slice(&files::read(&place.join("digests.json")).ok()?).ok();
        let known = |digests| Self { root: root.path.clone(), digests };
        if let Some(digests) = read() {
            return Ok(known(digests));
        }
        let claim = cache.claim("digests", &key, &mut Silent).await?;
        if let Some(digests) = read() {
            return Ok(known(digests));
        }
        let taken = take(&root.path, sha1)?;
        let scratch = cache.temporary()?;
        let made = scratch.path().join("made");
        files::write(&made.join("digests.json"), &serde_json::to_vec(&taken).map_err(SbomError::Json)?, 0o644)?;
        cache.publish(&made, "digests", &key, &claim)?;
        Ok(known(taken))
    }

    /// The digests of a file of another tree, if it is the very file of the root.
    pub(super) fn get(&self, tree: &Path, below: &Path) -> Option<&Digests> {
        let known = self.digests.get(below)?;
        let inode = |path: PathBuf| fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()));
        (inode(tree.join(below))? == inode(self.root.join(below))?).then_some(known)
    }
}

fn take(root: &Path, sha1: bool) -> Result<BTreeMap<PathBuf, Digests>, FileError> {
    let mut found = Vec::new();
    walk(root, Path::new(""), &mut found)?;
    // A name that is no text has no place in JSON: such a file is read each time.
    found.retain(|found: &Found| !root.join(&found.below).is_symlink() && found.below.to_str().is_some());
    let taken = in_parallel(&found, |found| digests(&root.join(&found.below), sha1))?;
    Ok(found.into_iter().map(|found| found.below).zip(taken).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_very_file_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache")).unwrap();
        let (path, other) = (folder.path().join("root"), folder.path().join("other"));
        for name in ["same", "replaced"] {
            files::write(&path.join(name), name.as_bytes(), 0o644).unwrap();
            files::create_folder(&other).unwrap();
            fs::hard_link(path.join(name), other.join(name)).unwrap();
        }
        files::write(&other.join("replaced"), b"replaced", 0o644).unwrap();
        let root =
            Root { path: path.clone(), packages: path.clone(), key: "k".into(), kernel: String::new(), cached: true };
        for _ in 0..2 {
            let known = Known::of(&cache, &root, true).await.unwrap();
            assert_eq!(known.get(&other, Path::new("same")), Some(&digests(&other.join("same"), true).unwrap()));
            assert_eq!(known.get(&other, Path::new("replaced")), None);
            assert_eq!(known.get(&other, Path::new("new")), None);
        }
    }
}
