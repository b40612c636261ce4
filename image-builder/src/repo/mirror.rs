//! `repo mirror`: a verified copy of a repository. Everything that metadata leads to is there and checked before the
//! metadata is, so a mirror that was cut off serves what it served before.

use super::{
    Problem, archive_check, chain,
    chain::Chain,
    content::{self, Document},
    layout,
    source::{Source, SourceError},
};
use crate::{
    files::{self, FileError, at},
    repository::{self, RepositoryError},
};
use contracts::manifest::ImageManifest;
use serde::Serialize;
use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tough::schema::{Root, Signed, Target};

/// How often a download goes on where it broke off.
const TRIES: u32 = 4;

/// Why there is no new copy.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The source does not verify.
    #[error("{} does not verify: {}: {}", source_name, problem.file, problem.message)]
    Damaged {
        /// What is copied from.
        source_name: String,
        /// What is wrong.
        problem: Problem,
    },
    /// The source is older than the copy.
    #[error("{source_name} has version {found} of {role}, the copy has {copied} already")]
    Older {
        /// What is copied from.
        source_name: String,
        /// Which role.
        role: String,
        /// In the source.
        found: u64,
        /// In the copy.
        copied: u64,
    },
    /// Something that the metadata names is not there, or has other bytes.
    #[error("{0} is not what was signed: {1}")]
    Wrong(String, String),
    /// The lock.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Reading.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Writing.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What was copied.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Mirrored {
    /// Files that were fetched.
    pub fetched: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already.
    pub kept: u64,
}

/// Copies a repository into a folder. `say` is told what is fetched.
///
/// # Errors
/// See [`MirrorError`]. What was there before stays as it was, and stays whole.
pub async fn mirror(
    from: &Source,
    to: &Path,
    trusted: Signed<Root>,
    now: jiff::Timestamp,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<Mirrored, MirrorError> {
    for part in ["metadata", "targets", "archives"] {
        files::create_folder_durably(&to.join(part))?;
    }
    let _lock = repository::lock(to).await?;
    let chain = chain::walk(from, trusted.clone(), now).await?;
    if let Some(problem) = chain.problems.first() {
        return Err(MirrorError::Damaged { source_name: from.name(""), problem: problem.clone() });
    }
    let mut copied = None;
    if to.join(layout::TIMESTAMP).exists() {
        let copy = chain::walk(&Source::Folder(to.to_owned()), trusted.clone(), now).await?;
        refuse_older(&from.name(""), &chain, &copy)?;
        copied = Some(copy.root.signed);
    }
    let mut done = Mirrored::default();
    let mut manifests = Vec::new();
    for (name, target) in &chain.all {
        let (mut bytes, problems) = content::check_target(to, name, target);
        if problems.is_empty() {
            done.kept += 1;
        } else {
            fetch_target(from, to, name, target, say).await?;
            done.fetched += 1;
            done.bytes += target.length;
            (bytes, _) = content::check_target(to, name, target);
        }
        match bytes.and_then(|bytes| content::read_document(name, &bytes)) {
            Some(Ok(Document::Manifest(manifest))) => manifests.push(manifest),
            Some(Err(message)) => return Err(MirrorError::Wrong(name.clone(), message)),
            _ => {}
        }
    }
    for manifest in manifests {
        let path = &manifest.archive.path;
        if archive_check::check(&to.join(path), path, &manifest).1.is_empty() {
            done.kept += 1;
            continue;
        }
        fetch_archive(from, to, &manifest, say).await?;
        done.fetched += 1;
        done.bytes += manifest.archive.bytes;
    }
    for (path, bytes) in in_order(earlier_roots(from, &trusted).await?, chain, copied.as_ref()) {
        if fs::read(to.join(&path)).ok().as_ref() == Some(&bytes) {
            done.kept += 1;
            continue;
        }
        files::publish_bytes(&bytes, &to.join(path))?;
        done.fetched += 1;
        done.bytes += bytes.len() as u64;
    }
    Ok(done)
}

/// Metadata in the order in which it may be written. Roots go first, except where readers of the copy's root accept the
/// new timestamp with all behind it: then there is no moment at which a reader finds the two at odds.
fn in_order(earlier: Vec<(String, Vec<u8>)>, chain: Chain, copied: Option<&Root>) -> Vec<(String, Vec<u8>)> {
    let (new, mut others): (Vec<_>, Vec<_>) =
        chain.files.into_iter().partition(|(path, _)| path.ends_with(".root.json"));
    let accepts = |root: &Root| {
        let timestamp = chain.timestamp.as_ref().is_some_and(|role| root.verify_role(role).is_ok());
        let snapshot = chain.snapshot.as_ref().is_some_and(|role| root.verify_role(role).is_ok());
        timestamp && snapshot && chain.targets.as_ref().is_some_and(|role| root.verify_role(role).is_ok())
    };
    let mut roots: Vec<_> = earlier.into_iter().chain(new).collect();
    roots.extend(roots.last().map(|(_, bytes)| ("metadata/root.json".to_owned(), bytes.clone())));
    let (first, last) = if copied.is_some_and(accepts) { (&mut others, roots) } else { (&mut roots, others) };
    let mut files = std::mem::take(first);
    files.extend(last);
    files
}

fn refuse_older(source_name: &str, chain: &Chain, copy: &Chain) -> Result<(), MirrorError> {
    for state in &copy.roles {
        let found = chain.roles.iter().find(|other| other.role == state.role).map_or(0, |other| other.version);
        // A delegated role may be gone; the four others are always there.
        if found < state.version && (found > 0 || ["root", "timestamp", "snapshot", "targets"].contains(&&*state.role))
        {
            let (role, copied) = (state.role.clone(), state.version);
            return Err(MirrorError::Older { source_name: source_name.to_owned(), role, found, copied });
        }
    }
    Ok(())
}

/// The roots before the trusted one, and itself: readers who were away for long begin with an older one. Each has to have
/// signed the next.
async fn earlier_roots(from: &Source, trusted: &Signed<Root>) -> Result<Vec<(String, Vec<u8>)>, MirrorError> {
    let mut roots = Vec::new();
    let mut next = trusted.clone();
    for version in (1..=trusted.signed.version.get()).rev() {
        let path = format!("metadata/{version}.root.json");
        let Some(bytes) = from.read(&path, 1 << 20).await? else { break };
        let Ok(root) = chain::trusted(&bytes) else { break };
        let is_it = root.signed.version.get() == version && root.signed.verify_role(&next).is_ok();
        if !is_it || (version == trusted.signed.version.get() && root.signed != trusted.signed) {
            break;
        }
        roots.push((path, bytes));
        next = root;
    }
    roots.reverse();
    Ok(roots)
}

async fn fetch_target(
    from: &Source,
    to: &Path,
    name: &str,
    target: &Target,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<(), MirrorError> {
    let sha256 = hex::encode(&target.hashes.sha256);
    let [first, second] = layout::target_paths(name, &sha256);
    say(&first);
    let place = to.join(&first);
    let above = place.parent().unwrap_or(to);
    files::create_folder_durably(above)?;
    let temporary =
        tempfile::Builder::new().prefix(files::NEW_PREFIX).tempfile_in(above).map_err(at("write into", above))?;
    let mut found = false;
    for path in [&first, &second] {
        temporary.as_file().set_len(0).map_err(at("write", &place))?;
        let mut file = fs::File::create(temporary.path()).map_err(at("write", &place))?;
        if from.copy(path, 0, target.length, &mut file).await?.is_some() {
            found = true;
            break;
        }
    }
    if !found {
        return Err(MirrorError::Wrong(from.name(&first), "it is not there".into()));
    }
    if files::length(temporary.path())? != target.length || files::sha256(temporary.path())? != sha256 {
        return Err(MirrorError::Wrong(from.name(&first), "its bytes are not the ones that were signed".into()));
    }
    temporary.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(at("set the mode of", &place))?;
    temporary.as_file().sync_all().map_err(at("write", &place))?;
    temporary.persist(&place).map_err(|error| at("write", &place)(error.error))?;
    files::sync_folder(above)?;
    files::publish_link(&place, &to.join(second))?;
    Ok(())
}

/// An archive is large: what was fetched of it stays in a file of its own until it is whole.
async fn fetch_archive(
    from: &Source,
    to: &Path,
    manifest: &ImageManifest,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<(), MirrorError> {
    let archive = &manifest.archive;
    let part = part_of(to, &archive.header_sha256);
    for attempt in 1.. {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&part).map_err(at("write", &part))?;
        let mut begin = files::length(&part)?;
        if begin > archive.bytes {
            file.set_len(0).map_err(at("write", &part))?;
            begin = 0;
        }
        if begin < archive.bytes {
            say(&archive.path);
            match from.copy(&archive.path, begin, archive.bytes, &mut file).await {
                Ok(Some(())) => {}
                Ok(None) => return Err(MirrorError::Wrong(from.name(&archive.path), "it is not there".into())),
                Err(error @ SourceError::TooLong(..)) => {
                    files::remove(&part)?;
                    return Err(error.into());
                }
                // What has come stays; the next try, or the next run, goes on behind it.
                Err(error) if attempt >= TRIES || !matches!(error, SourceError::Fetch(..)) => return Err(error.into()),
                Err(_) => {
                    tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
                    continue;
                }
            }
        }
        file.flush().map_err(at("write", &part))?;
        let (_, problems) = archive_check::check(&part, &archive.path, manifest);
        let Some(problem) = problems.into_iter().next() else { break };
        files::remove(&part)?;
        // What lay there from an earlier run may have been of another file; from the beginning it counts.
        if begin == 0 {
            return Err(MirrorError::Wrong(from.name(&archive.path), problem.message));
        }
    }
    let place = to.join(&archive.path);
    let file = fs::File::open(&part).map_err(at("read", &part))?;
    file.sync_all().map_err(at("write", &part))?;
    file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(at("set the mode of", &part))?;
    fs::rename(&part, &place).map_err(at("write", &place))?;
    Ok(files::sync_folder(&to.join("archives"))?)
}

fn part_of(to: &Path, header_sha256: &str) -> PathBuf {
    to.join("archives").join(format!("{}{header_sha256}.part", files::NEW_PREFIX))
}
