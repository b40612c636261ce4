//! The root file system as an EROFS image, and the dm-verity hash tree over it.

use crate::{
    command::{CommandError, Sandbox},
    files::{self, FileError, at},
    report::Reporter,
    tools::{TREE, Tools, WORK},
};
use contracts::manifest::Root;
use std::{
    fs,
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// The data's file name in the work folder.
pub const DATA: &str = "root.erofs";

/// Blocks of dm-verity and EROFS.
const BLOCK: u64 = 4096;

/// Why there is no root image.
#[derive(Debug, thiserror::Error)]
pub enum RootImageError {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// veritysetup wrote something else than a root hash.
    #[error("veritysetup wrote no root hash but '{0}'")]
    NoRootHash(String),
}

/// Data and hash tree, as files.
#[derive(Debug)]
pub struct RootImage {
    /// The EROFS image.
    pub data: PathBuf,
    /// The hash tree, with its superblock.
    pub hashes: PathBuf,
    /// What the manifest says about them.
    pub root: Root,
}

/// Two UUIDs and a salt that depend on nothing but the inputs.
#[derive(Debug)]
pub struct Seeds {
    file_system: Uuid,
    verity: Uuid,
    salt: String,
}

impl Seeds {
    /// Takes them from an input key of 64 hex digits. The salt is the same for all versions of a template: blocks that did not
    /// change keep their hashes then, and an update need not move them.
    #[must_use]
    pub fn of(key: &str, template: &str) -> Self {
        let derived = |label: &str, from: &str| files::InputHash::default().with(label, from).finish();
        let uuid = |label: &str| {
            let digits = u128::from_str_radix(&derived(label, key)[..32], 16).unwrap_or_default();
            uuid::Builder::from_custom_bytes(digits.to_be_bytes()).into_uuid()
        };
        Self { file_system: uuid("file system"), verity: uuid("verity"), salt: derived("salt", template) }
    }
}

/// Makes the EROFS image of `tree`. Uncompressed: chunks are compressed in transit, and versions share data. The ends of files
/// get blocks of their own: among the inodes, which all change when something is inserted, they would be moved by each update.
///
/// # Errors
/// See [`RootImageError`].
pub async fn make_data(
    tools: &Tools,
    work: &Path,
    tree: &Path,
    seeds: &Seeds,
    epoch: i64,
    reporter: &mut dyn Reporter,
) -> Result<u64, RootImageError> {
    let sandbox: Sandbox = tools.sandbox(work).bind(tree, TREE);
    let arguments = [
        "--quiet".to_owned(),
        format!("-T{epoch}"),
        "-Enoinline_data".to_owned(),
        format!("-U{}", seeds.file_system),
        format!("{WORK}/root.erofs"),
        TREE.to_owned(),
    ];
    sandbox.run(reporter, "mkfs.erofs", &arguments).await?;
    let data = work.join("root.erofs");
    let bytes = files::length(&data)?.next_multiple_of(BLOCK);
    let file = fs::OpenOptions::new().write(true).open(&data).map_err(at("open", &data))?;
    file.set_len(bytes).map_err(at("pad", &data))?;
    Ok(bytes)
}

/// Makes the hash tree over the EROFS image in `work`.
///
/// # Errors
/// See [`RootImageError`].
pub async fn make_hashes(
    tools: &Tools,
    work: &Path,
    seeds: &Seeds,
    reporter: &mut dyn Reporter,
) -> Result<RootImage, RootImageError> {
    let (data, hashes, hash_file) = (work.join("root.erofs"), work.join("root.verity"), work.join("root.hash"));
    let arguments = [
        "format".to_owned(),
        format!("--uuid={}", seeds.verity),
        format!("--salt={}", seeds.salt),
        format!("--root-hash-file={WORK}/root.hash"),
        format!("{WORK}/root.erofs"),
        format!("{WORK}/root.verity"),
    ];
    tools.sandbox(work).run(reporter, "veritysetup", &arguments).await?;
    let root_hash = String::from_utf8_lossy(&files::read(&hash_file)?).trim().to_owned();
    if contracts::manifest::guids_of(&root_hash).is_none() {
        return Err(RootImageError::NoRootHash(root_hash));
    }
    let root = Root { data_bytes: files::length(&data)?, hash_bytes: files::length(&hashes)?, root_hash };
    Ok(RootImage { data, hashes, root })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_depend_on_the_inputs_alone_and_differ_from_each_other() {
        let (one, again, other) = (Seeds::of("a", "t"), Seeds::of("a", "t"), Seeds::of("b", "t"));
        assert_eq!((one.file_system, &one.salt), (again.file_system, &again.salt));
        assert_ne!(one.file_system, other.file_system);
        assert_ne!(one.file_system, one.verity);
        assert_eq!(one.salt.len(), 64);
        assert_eq!(one.salt, other.salt, "versions share the hashes of what did not change");
        assert_ne!(one.salt, Seeds::of("a", "u").salt);
    }
}
