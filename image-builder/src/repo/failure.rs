//! How `image-builder repo …` ends when it fails, and what to do next.

use super::{
    gc::GcError, import::ImportError, mirror::MirrorError, source::SourceError, update::UpdateError,
    verify::VerifyError,
};
use crate::{cli, keys::KeysError, repository::RepositoryError};
use contracts::exit::{Code, Lack};

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// `verify`, `list`.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// `channel`, `rollout`, `list`.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// `refresh`, and opening a repository.
    #[error("the repository cannot be changed")]
    Repository(#[from] RepositoryError),
    /// `import`.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// `gc`.
    #[error(transparent)]
    Gc(#[from] GcError),
    /// `mirror`.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The source of a mirror.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The keys.
    #[error("the keys cannot be used")]
    Keys(#[from] KeysError),
}

impl RepoError {
    fn repository(&self) -> Option<&RepositoryError> {
        match self {
            Self::Repository(error)
            | Self::Update(UpdateError::Repository(error))
            | Self::Import(ImportError::Repository(error))
            | Self::Gc(GcError::Repository(error))
            | Self::Mirror(MirrorError::Repository(error)) => Some(error),
            _ => None,
        }
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> Code {
        if Lack::of(self).is_some() {
            return Code::Host;
        }
        match self {
            Self::Keys(error) => return cli::keys_code(error),
            Self::Verify(_) | Self::Update(UpdateError::Damaged(..)) | Self::Source(SourceError::Kind(_)) => {
                return Code::Input;
            }
            Self::Update(UpdateError::NoImage { .. } | UpdateError::NoTarget(_) | UpdateError::Rollout(_)) => {
                return Code::Usage;
            }
            _ => {}
        }
        match self.repository() {
            Some(RepositoryError::Keys(error)) => cli::keys_code(error),
            Some(
                RepositoryError::Load { .. }
                | RepositoryError::Empty(_)
                | RepositoryError::Trust { .. }
                | RepositoryError::OldKeys { .. },
            ) => Code::Input,
            _ => Code::Failed,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            _ if Lack::of(self).is_some() => Lack::of(self)?.hint().into(),
            Self::Keys(KeysError::NoKeys { .. } | KeysError::File(_)) => {
                "name a key set; `image-builder keys init --out DIR` makes one".into()
            }
            Self::Keys(error) => return cli::keys_hint(error),
            Self::Source(SourceError::Kind(_)) => "name a folder that exists, or a URL".into(),
            Self::Verify(VerifyError::NoRepository(_)) => {
                "name a folder that has metadata/, targets/ and archives/".into()
            }
            Self::Verify(VerifyError::Trust { .. } | VerifyError::File(_)) => {
                "--root wants a root.json that you trust: tuf/1.root.json of the key set, or one that you kept".into()
            }
            Self::Update(UpdateError::NoImage { .. } | UpdateError::NoTarget(_)) => {
                "`image-builder repo list` shows what there is".into()
            }
            Self::Update(UpdateError::Damaged(..)) | Self::Gc(GcError::Damaged(_)) => {
                "`image-builder repo verify` says everything that is wrong; a mirror may have a good copy".into()
            }
            Self::Mirror(MirrorError::Older { .. }) => {
                "the source is out of date, or somebody passes off an old state; the copy stays as it is".into()
            }
            Self::Mirror(MirrorError::Damaged { .. } | MirrorError::Wrong(..)) => {
                "the copy stays as it is; the source has to be mended (`image-builder repo verify`) or renewed".into()
            }
            Self::Mirror(MirrorError::Source(SourceError::Fetch(..))) => {
                "run it again: what has come is kept, and it goes on behind it".into()
            }
            _ => return cli::repository_hint(self.repository()?),
        })
    }
}
