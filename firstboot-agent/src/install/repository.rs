//! The image repository, believed only as far as TUF goes (<https://theupdateframework.github.io/specification/>).

use super::{
    freshness::{self, Clock, Ends, Stale},
    source::Source,
};
use crate::slots::boot_image::Wanted;
use anyhow::{Context, Result, bail, ensure};
use contracts::{
    assignment::ImageRef,
    manifest::{Channel, ImageManifest, RoleVersions, TrustFloor},
};
use futures_util::{StreamExt, TryStreamExt};
use std::sync::{Arc, Mutex, PoisonError};
use time::OffsetDateTime;
use tough::{
    ExpirationEnforcement, FilesystemTransport, IntoVec, RepositoryLoader, TargetName, Transport, TransportError,
    TransportErrorKind, TransportStream,
};
use url::Url;

/// A loaded repository: every signature up to its targets is checked.
#[derive(Debug)]
pub struct Repository(tough::Repository, Option<Stale>);

impl Repository {
    /// Loads the metadata, from the boot image's `root` of trust, and holds it against the floor.
    ///
    /// What a store serves may have expired no longer ago than the floor allows, see [`freshness`]. A medium may lie in a drawer for a year, and there is no time that could be
    /// trusted: signatures, digests and the floor hold, but nobody can tell whether there is something newer.
    ///
    /// # Errors
    /// When a signature, a version or an expiry ([`freshness::Expired`]) does not hold, or the source does not deliver.
    pub async fn load(source: &Source, root: &[u8], floor: &TrustFloor) -> Result<Self> {
        Self::load_at(source, root, floor, Clock { now: OffsetDateTime::now_utc(), authenticated: None }).await
    }

    /// The same with what is known of the time.
    ///
    /// # Errors
    /// See [`Repository::load`].
    pub async fn load_at(source: &Source, root: &[u8], floor: &TrustFloor, clock: Clock) -> Result<Self> {
        let base = source.url()?;
        // tough knows an expiry that holds to the second or none at all; ours follows.
        let loader = RepositoryLoader::new(&root, base.join("metadata/")?, base.join("targets/")?)
            .expiration_enforcement(ExpirationEnforcement::Unsafe);
        let transport = Reader { source: source.clone(), last: Arc::default() };
        let last = transport.last.clone();
        let name_the_role = || {
            let path = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            format!("the repository's file {path} cannot be believed as the role {}", role_of(&path))
        };
        let mut repository = Self(loader.transport(transport).load().await.with_context(name_the_role)?, None);
        check_floor(repository.versions(), floor.roles)?;
        if !matches!(source, Source::Folder(_)) {
            repository.1 = freshness::check(Ends::of(&repository.0), clock, floor)?;
        }
        Ok(repository)
    }

    /// Since when its metadata has expired, and until when it is believed all the same.
    #[must_use]
    pub fn stale(&self) -> Option<Stale> {
        self.1
    }

    /// The versions of the roles, which later boots must not go below.
    #[must_use]
    pub fn versions(&self) -> RoleVersions {
        RoleVersions {
            targets: self.0.targets().signed.version.get(),
            snapshot: self.0.snapshot().signed.version.get(),
            timestamp: self.0.timestamp().signed.version.get(),
        }
    }

    /// The manifest of an image; a channel is resolved first.
    ///
    /// # Errors
    /// When a target is missing, does not verify, or is about another image than was asked for.
    pub async fn manifest(&self, image: &ImageRef) -> Result<ImageManifest> {
        let version = match &image.version {
            Some(version) => version.clone(),
            None => {
                let target = Channel::target_name(&image.template, &image.channel);
                contracts::read::<Channel>(&self.target(&target).await?)?.image_version
            }
        };
        let target = ImageManifest::target_name(&image.template, &version);
        let manifest: ImageManifest = contracts::read(&self.target(&target).await?)?;
        ensure!(
            manifest.template == image.template && manifest.image_version == version,
            "the manifest {target} is about {} {}",
            manifest.template,
            manifest.image_version
        );
        Ok(manifest)
    }

    /// What the signed metadata say of a target; `None` when there is none of this name.
    ///
    /// # Errors
    /// When it is no name of a target.
    pub fn described(&self, name: &str) -> Result<Option<Wanted>> {
        let target = TargetName::new(name).with_context(|| format!("the target name {name}"))?;
        Ok(self.0.targets().signed.targets.get(&target).map(|target| {
            let sha256 = target.hashes.sha256.to_vec();
            Wanted { path: format!("targets/{}.{name}", hex::encode(&sha256)), bytes: target.length, sha256 }
        }))
    }

    /// One target, whole and verified.
    ///
    /// # Errors
    /// When it is missing, or its length or hash is not the signed one.
    pub async fn target(&self, name: &str) -> Result<Vec<u8>> {
        let target = TargetName::new(name).with_context(|| format!("the target name {name}"))?;
        let stream = self.0.read_target(&target).await.with_context(|| format!("fetching the target {name}"))?;
        let Some(stream) = stream else { bail!("the repository has no target {name}") };
        stream.into_vec().await.with_context(|| format!("fetching the target {name}"))
    }
}

/// An older, validly signed state is refused.
fn check_floor(found: RoleVersions, floor: RoleVersions) -> Result<()> {
    for (role, found, floor) in [
        ("timestamp", found.timestamp, floor.timestamp),
        ("snapshot", found.snapshot, floor.snapshot),
        ("targets", found.targets, floor.targets),
    ] {
        ensure!(
            found >= floor,
            "the repository offers version {found} of the role {role}, but this boot image knows version {floor}: the \
             mirror is out of date, or somebody is trying to pass off an old state"
        );
    }
    Ok(())
}

/// TUF's transport.
#[derive(Debug, Clone)]
struct Reader {
    source: Source,
    /// Path of the file asked for last: not every error of tough's names its file.
    last: Arc<Mutex<String>>,
}

/// `5.targets.json` holds the role `targets`; with consistent snapshots the version comes first.
fn role_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
}

#[tough::async_trait]
impl Transport for Reader {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let failed = |error| TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), error);
        url.path().clone_into(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner));
        let http = match &self.source {
            Source::Store(netboot) => netboot.http(),
            Source::Mirror(http, _) => http,
            Source::Folder(_) => return FilesystemTransport.fetch(url).await,
        };
        let answer = http.get(url.clone()).send().await.map_err(failed)?;
        match answer.status().as_u16() {
            200 => {}
            // The role's next version does not exist yet: that is how TUF finds the newest root.
            403 | 404 | 410 => return Err(TransportError::new(TransportErrorKind::FileNotFound, url.as_str())),
            status => {
                let error = std::io::Error::other(format!("HTTP {status}"));
                return Err(TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), error));
            }
        }
        let name = url.to_string();
        // A plain stream of reqwest's is not Sync, as tough wants it; a channel's receiving end is.
        let (send, receive) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            let mut body = answer.bytes_stream();
            while let Some(part) = body.next().await {
                if send.send(part).await.is_err() {
                    break;
                }
            }
        });
        let parts = futures_util::stream::unfold(receive, |mut receive| async move {
            let part = receive.recv().await?;
            Some((part, receive))
        });
        Ok(Box::pin(
            parts.map_err(move |error| TransportError::new_with_cause(TransportErrorKind::Other, &name, error)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_below_the_floor_is_believed() {
        let floor = RoleVersions { targets: 3, snapshot: 3, timestamp: 5 };
        assert!(check_floor(floor, floor).is_ok());
        let error = check_floor(RoleVersions { timestamp: 4, ..floor }, floor).unwrap_err();
        assert!(error.to_string().contains("role timestamp"), "{error}");
    }
}
