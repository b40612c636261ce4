//! `repo import`: takes one image from a repository of the same root of trust, for example from the one that CI builds
//! into and tests from, into the one that stores read. The bytes that were tested are the bytes that are published.

use super::{
    Problem, chain,
    content::{self, Document},
    layout,
    source::{Source, SourceError},
    verify::{self, Selection},
};
use crate::{
    files::FileError,
    repository::{Changes, Expiry, Publication, Repository, RepositoryError},
};
use contracts::manifest::{Channel, ImageManifest, RoleVersions};
use std::path::Path;
use tough::schema::{Root, Signed};

/// Why an image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source does not verify.
    #[error("the image cannot be taken: {}: {}", .0.file, .0.message)]
    Damaged(Problem),
    /// Not JSON.
    #[error("cannot write a document as JSON")]
    Json(#[source] serde_json::Error),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Publishes an image of `from`, after checking all of it. Versions of the roles do not fall below those that the image
/// was built with: machines that it starts would refuse an older state.
///
/// # Errors
/// See [`ImportError`].
pub async fn import(
    repository: Repository,
    from: &Path,
    trusted: Signed<Root>,
    image: (&str, &str),
    channel: Option<&str>,
    expiry: Expiry,
) -> Result<RoleVersions, ImportError> {
    let (template, version) = image;
    let chain = chain::walk(&Source::Folder(from.to_owned()), trusted, jiff::Timestamp::now()).await?;
    let selection = Selection { template: Some(template.to_owned()), version: Some(version.to_owned()) };
    if let Some(problem) = verify::check(from, chain.clone(), &selection).problems.into_iter().next() {
        return Err(ImportError::Damaged(problem));
    }
    let name = ImageManifest::target_name(template, version);
    let missing = || ImportError::Damaged(Problem::new(&name, "missing", "there is no such image"));
    let bytes = chain.all.get(&name).and_then(|target| content::check_target(from, &name, target).0);
    let Some(Ok(Document::Manifest(manifest))) = bytes.and_then(|bytes| content::read_document(&name, &bytes)) else {
        return Err(missing());
    };
    let own = name.trim_end_matches("manifest.json");
    let mut publication = Publication::default();
    for (target, described) in &chain.all {
        let [path, _] = layout::target_paths(target, &hex::encode(&described.hashes.sha256));
        if target.starts_with(own) {
            publication.fixed.push((target.clone(), from.join(path)));
        } else if manifest.targets().contains(&target.as_str()) {
            publication.replaceable.push((target.clone(), from.join(path)));
        }
    }
    publication.plain.push((manifest.archive.path.clone(), from.join(&manifest.archive.path)));
    let version_of = |role: &str| chain.roles.iter().find(|state| state.role == role).map_or(0, |state| state.version);
    let floor = RoleVersions {
        targets: version_of("targets"),
        snapshot: version_of("snapshot"),
        timestamp: version_of("timestamp"),
    };
    let changes = Changes { floor: Some(floor), ..Changes::default() };
    let folder = tempfile::tempdir().map_err(crate::files::at("make a folder in", &std::env::temp_dir()))?;
    if let Some(channel) = channel {
        let document = Channel { version: contracts::VERSION, image_version: version.to_owned() };
        let file = folder.path().join("channel.json");
        crate::files::write(&file, &serde_json::to_vec_pretty(&document).map_err(ImportError::Json)?, 0o644)?;
        publication.replaceable.push((Channel::target_name(template, channel), file));
    }
    Ok(repository.publish_with(&publication, &changes, expiry).await?)
}
