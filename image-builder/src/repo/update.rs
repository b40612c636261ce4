//! Small changes of what is published: channels, rollouts, and dates.

use super::{
    chain::{self, RoleState},
    content::{self, Content},
    gc,
    source::Source,
};
use crate::{
    files::{FileError, at},
    repository::{Changes, Expiry, Publication, Repository, RepositoryError},
};
use contracts::{
    manifest::{Channel, RoleVersions},
    rollout::{Rollout, RolloutError},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
};
use tough::schema::{Root, Signed, Target};

/// Why a repository was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// There is no such image.
    #[error("the repository has no image {template} {image_version}")]
    NoImage {
        /// The template.
        template: String,
        /// The version.
        image_version: String,
    },
    /// There is no such channel, or no rollout on it.
    #[error("there is no {0} in the repository")]
    NoTarget(String),
    /// The rollout makes no sense.
    #[error("the rollout makes no sense")]
    Rollout(#[from] RolloutError),
    /// A target is damaged.
    #[error("{0} is damaged: {1}")]
    Damaged(String, String),
    /// Not JSON.
    #[error("cannot write a document as JSON")]
    Json(#[source] serde_json::Error),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What the documents in a repository say.
///
/// # Errors
/// When one of them is damaged.
pub fn content(repository: &Repository) -> Result<Content, UpdateError> {
    documents(repository.folder(), repository.targets())
}

fn documents(folder: &Path, targets: BTreeMap<String, Target>) -> Result<Content, UpdateError> {
    let mut content = Content::default();
    for (name, target) in targets {
        if !content::is_document(&name) {
            continue;
        }
        let (bytes, problems) = content::check_target(folder, &name, &target);
        let bytes = bytes.ok_or_else(|| damaged(&name, problems.first().map(|problem| problem.message.as_str())))?;
        match content::read_document(&name, &bytes) {
            Some(Ok(document)) => content.add(&name, document),
            Some(Err(message)) => return Err(UpdateError::Damaged(name, message)),
            None => {}
        }
    }
    Ok(content)
}

fn damaged(name: &str, message: Option<&str>) -> UpdateError {
    UpdateError::Damaged(name.to_owned(), message.unwrap_or("it cannot be read").to_owned())
}

/// Lets a channel name a version. `None` when it does already, and nothing was published.
///
/// # Errors
/// See [`UpdateError`].
pub async fn set_channel(
    repository: Repository,
    template: &str,
    channel: &str,
    image_version: &str,
    expiry: Expiry,
) -> Result<Option<RoleVersions>, UpdateError> {
    let content = content(&repository)?;
    need_image(&content, template, image_version)?;
    if content.channel(template, channel) == Some(image_version) {
        return Ok(None);
    }
    let document = Channel { version: contracts::VERSION, image_version: image_version.to_owned() };
    replace(repository, &Channel::target_name(template, channel), &document, expiry).await.map(Some)
}

/// Withdraws a channel. Machines that ask for it get nothing from then on.
///
/// # Errors
/// See [`UpdateError`].
pub async fn remove_channel(
    repository: Repository,
    template: &str,
    channel: &str,
    expiry: Expiry,
) -> Result<RoleVersions, UpdateError> {
    withdraw(repository, vec![Channel::target_name(template, channel)], expiry).await
}

/// Starts or changes a rollout.
///
/// # Errors
/// See [`UpdateError`].
pub async fn set_rollout(
    repository: Repository,
    rollout: &Rollout,
    expiry: Expiry,
) -> Result<Option<RoleVersions>, UpdateError> {
    rollout.check()?;
    let content = content(&repository)?;
    need_image(&content, &rollout.template, &rollout.image_version)?;
    let name = Rollout::target_name(&rollout.template, &rollout.channel);
    if content.channel(&rollout.template, &rollout.channel).is_none() {
        return Err(UpdateError::NoTarget(Channel::target_name(&rollout.template, &rollout.channel)));
    }
    if content.rollouts.get(&name) == Some(rollout) {
        return Ok(None);
    }
    replace(repository, &name, rollout, expiry).await.map(Some)
}

/// Halts a rollout, or lets it go on.
///
/// # Errors
/// See [`UpdateError`].
pub async fn halt_rollout(
    repository: Repository,
    template: &str,
    channel: &str,
    halted: bool,
    expiry: Expiry,
) -> Result<Option<RoleVersions>, UpdateError> {
    let rollout = rollout_of(&repository, template, channel)?;
    set_rollout(repository, &Rollout { halted, ..rollout }, expiry).await
}

/// Ends a rollout: the channel names the new version for all, or, when it is dropped, stays as it is. One publication,
/// so that no store sees neither.
///
/// # Errors
/// See [`UpdateError`].
pub async fn end_rollout(
    repository: Repository,
    template: &str,
    channel: &str,
    dropped: bool,
    expiry: Expiry,
) -> Result<RoleVersions, UpdateError> {
    let name = Rollout::target_name(template, channel);
    let rollout = rollout_of(&repository, template, channel)?;
    if dropped {
        return withdraw(repository, vec![name], expiry).await;
    }
    need_image(&content(&repository)?, template, &rollout.image_version)?;
    let document = Channel { version: contracts::VERSION, image_version: rollout.image_version };
    let (_folder, file) = write(&document)?;
    let publication =
        Publication { replaceable: vec![(Channel::target_name(template, channel), file)], ..Publication::default() };
    let changes = Changes { withdrawn: vec![name], ..Changes::default() };
    Ok(repository.publish_with(&publication, &changes, expiry).await?)
}

fn rollout_of(repository: &Repository, template: &str, channel: &str) -> Result<Rollout, UpdateError> {
    let name = Rollout::target_name(template, channel);
    content(repository)?.rollouts.remove(&name).ok_or(UpdateError::NoTarget(name))
}

fn need_image(content: &Content, template: &str, image_version: &str) -> Result<(), UpdateError> {
    if content.has_image(template, image_version) {
        return Ok(());
    }
    Err(UpdateError::NoImage { template: template.to_owned(), image_version: image_version.to_owned() })
}

async fn withdraw(repository: Repository, names: Vec<String>, expiry: Expiry) -> Result<RoleVersions, UpdateError> {
    if let Some(missing) = names.iter().find(|name| !repository.has(name)) {
        return Err(UpdateError::NoTarget(missing.clone()));
    }
    let changes = Changes { withdrawn: names, ..Changes::default() };
    Ok(repository.publish_with(&Publication::default(), &changes, expiry).await?)
}

async fn replace(
    repository: Repository,
    name: &str,
    document: &impl Serialize,
    expiry: Expiry,
) -> Result<RoleVersions, UpdateError> {
    let (_folder, file) = write(document)?;
    let publication = Publication { replaceable: vec![(name.to_owned(), file)], ..Publication::default() };
    Ok(repository.publish(&publication, expiry).await?)
}

/// A document as a file; it goes with its folder.
fn write(document: &impl Serialize) -> Result<(tempfile::TempDir, PathBuf), UpdateError> {
    let above = std::env::temp_dir();
    let folder = tempfile::tempdir().map_err(at("make a folder in", &above))?;
    let path = folder.path().join("document.json");
    let bytes = serde_json::to_vec_pretty(document).map_err(UpdateError::Json)?;
    let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(&bytes));
    written.map_err(at("write", &path))?;
    Ok((folder, path))
}

/// Withdraws all but the newest images of each template, or only says which those are. One publication, or none.
///
/// # Errors
/// See [`UpdateError`].
pub async fn withdraw_outdated(
    repository: Repository,
    keep: usize,
    dry_run: bool,
) -> Result<Vec<(String, String)>, UpdateError> {
    let outdated = gc::outdated(&content(&repository)?, keep);
    let folders: Vec<String> =
        outdated.iter().map(|(template, version)| format!("images/{template}/{version}/")).collect();
    let all = repository.targets().into_keys();
    let withdrawn: Vec<String> = all.filter(|name| folders.iter().any(|folder| name.starts_with(folder))).collect();
    if !withdrawn.is_empty() && !dry_run {
        let changes = Changes { withdrawn, ..Changes::default() };
        repository.publish_with(&Publication::default(), &changes, DEFAULT_EXPIRY).await?;
    }
    Ok(outdated)
}

/// What `build` does when nothing else is asked for.
const DEFAULT_EXPIRY: Expiry = Expiry { targets_days: 365, timestamp_days: 30 };

/// An image in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedImage {
    /// The template.
    pub template: String,
    /// The version.
    pub image_version: String,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Channels that name it.
    pub channels: Vec<String>,
}

/// What a repository offers.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Images, newest version last.
    pub images: Vec<ListedImage>,
    /// Rollouts.
    pub rollouts: Vec<Rollout>,
    /// Dates of the metadata.
    pub roles: Vec<RoleState>,
}

/// Reads what a repository offers.
///
/// # Errors
/// [`UpdateError::Damaged`] for the first thing that does not verify; that it has expired is no obstacle.
pub async fn listed(folder: &Path, trusted: Signed<Root>) -> Result<Listed, UpdateError> {
    let source = Source::Folder(folder.to_owned());
    let chain = chain::walk(&source, trusted, jiff::Timestamp::now()).await.map_err(RepositoryError::from)?;
    if let Some(problem) = chain.problems.into_iter().find(|problem| problem.code != "expired") {
        return Err(UpdateError::Damaged(problem.file, problem.message));
    }
    let content = documents(folder, chain.all)?;
    let mut images: Vec<ListedImage> = Vec::new();
    for manifest in content.manifests.values() {
        let named = content.channels.iter().filter_map(|(name, channel)| {
            let file = name.strip_prefix(&format!("channels/{}/", manifest.template))?;
            (channel.image_version == manifest.image_version).then(|| file.trim_end_matches(".json").to_owned())
        });
        images.push(ListedImage {
            template: manifest.template.clone(),
            image_version: manifest.image_version.clone(),
            bytes: manifest.archive.bytes,
            channels: named.collect(),
        });
    }
    images.sort_by(|one, two| {
        one.template.cmp(&two.template).then_with(|| gc::compare_versions(&one.image_version, &two.image_version))
    });
    Ok(Listed { images, rollouts: content.rollouts.into_values().collect(), roles: chain.roles })
}
