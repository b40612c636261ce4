//! `repo verify`: everything that a stranger can check, from a root of trust alone.

use super::{
    Problem, archive_check, chain,
    chain::{Chain, RoleState, TrustError},
    content::{self, Content},
    layout,
    source::{Source, SourceError},
};
use crate::files::{self, FileError};
use contracts::manifest::ImageManifest;
use serde::Serialize;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Why a repository could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Not a folder with a repository.
    #[error("{} is not a repository", .0.display())]
    NoRepository(PathBuf),
    /// The root of trust.
    #[error("{} cannot be the root of trust", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TrustError,
    },
    /// A file that exists cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The root of trust cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Images of this template only.
    pub template: Option<String>,
    /// Images of this version only.
    pub version: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The repository's folder.
    pub repository: PathBuf,
    /// True when nothing is wrong.
    pub verified: bool,
    /// Versions and dates of the roles.
    pub roles: Vec<RoleState>,
    /// Targets that were checked.
    pub targets: u64,
    /// Images whose archives were checked, as `TEMPLATE VERSION`.
    pub images: Vec<String>,
    /// Chunks of archives that were unpacked and hashed.
    pub chunks: u64,
    /// Bytes of all files that were checked.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Verifies a repository in a folder from a root of trust, at this time. Goes on after a problem as far as anything can
/// still be believed.
///
/// # Errors
/// See [`VerifyError`]; whatever is wrong with the repository is in the report.
pub async fn verify(
    repository: &Path,
    root: &Path,
    selection: &Selection,
    now: jiff::Timestamp,
) -> Result<Report, VerifyError> {
    if !repository.join("metadata").is_dir() {
        return Err(VerifyError::NoRepository(repository.to_owned()));
    }
    let trusted =
        chain::trusted(&files::read(root)?).map_err(|source| VerifyError::Trust { path: root.to_owned(), source })?;
    let chain = chain::walk(&Source::Folder(repository.to_owned()), trusted, now).await?;
    Ok(check(repository, chain, selection))
}

/// Checks everything that lies beside the metadata.
#[must_use]
pub fn check(repository: &Path, chain: Chain, selection: &Selection) -> Report {
    let mut report = Report {
        repository: repository.to_owned(),
        verified: false,
        roles: chain.roles,
        targets: 0,
        images: Vec::new(),
        chunks: 0,
        bytes: chain.files.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
        problems: chain.problems,
    };
    let mut content = Content::default();
    let (mut wanted, mut selected) = (None, BTreeSet::new());
    if *selection != Selection::default() {
        // Manifests first: they say which other targets are asked for.
        for (name, target) in chain.all.iter().filter(|(name, _)| selection.names(name)) {
            selected.insert(name.clone());
            let (Some(bytes), _) = content::check_target(repository, name, target) else { continue };
            if let Some(Ok(content::Document::Manifest(manifest))) = content::read_document(name, &bytes) {
                selected.extend(manifest.targets().into_iter().map(str::to_owned));
            }
        }
        if selected.is_empty() && chain.targets.is_some() {
            report.problems.push(Problem::new("metadata", "no-image", "there is no such image"));
        }
        wanted = Some(&selected);
    }
    for (name, target) in chain.all.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted.contains(*name))) {
        let (bytes, problems) = content::check_target(repository, name, target);
        report.problems.extend(problems);
        report.targets += 1;
        report.bytes += target.length;
        match bytes.and_then(|bytes| content::read_document(name, &bytes)) {
            Some(Ok(document)) => content.add(name, document),
            Some(Err(message)) => report.problems.push(Problem::new(name, "document", message)),
            None => {}
        }
    }
    report.problems.extend(content.dangling(|name| chain.all.contains_key(name)));
    let mut checked = BTreeSet::new();
    for manifest in content.manifests.values() {
        report.images.push(format!("{} {}", manifest.template, manifest.image_version));
        // Two images of the same root share the archive; what the manifests say about it may differ.
        let file = layout::archive_path(&manifest.archive.header_sha256);
        if checked.insert((file.clone(), manifest.archive.bytes, manifest.root.data_bytes, manifest.root.hash_bytes)) {
            let (found, problems) = archive_check::check(&repository.join(&file), &file, manifest);
            report.chunks += found.chunks;
            report.bytes += found.bytes;
            report.problems.extend(problems);
        }
    }
    report.verified = report.problems.is_empty();
    report
}

impl Selection {
    fn names(&self, target: &str) -> bool {
        let parts: Vec<&str> = target.split('/').collect();
        let ["images", template, version, "manifest.json"] = parts.as_slice() else { return false };
        debug_assert_eq!(target, ImageManifest::target_name(template, version));
        self.template.as_ref().is_none_or(|wanted| wanted == template)
            && self.version.as_ref().is_none_or(|wanted| wanted == version)
    }
}
