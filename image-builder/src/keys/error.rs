//! Why keys could not be made or used.

use super::{
    roots::{self, Missing},
    secure_boot, sources,
};
use crate::files::FileError;
use std::path::PathBuf;

/// Why keys could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The folder is not empty.
    #[error("{} exists already; keys are never overwritten", .0.display())]
    Exists(PathBuf),
    /// The folder would be committed sooner or later.
    #[error("{} lies inside the Git repository {}", folder.display(), repository.display())]
    InsideRepository {
        /// Where the keys were to go.
        folder: PathBuf,
        /// The repository.
        repository: PathBuf,
    },
    /// Not a folder that `keys init` made.
    #[error("{} holds no key set: {} is missing", folder.display(), missing.display())]
    NoKeys {
        /// The folder.
        folder: PathBuf,
        /// What is missing in it.
        missing: PathBuf,
    },
    /// A private key that others may read.
    #[error("{} may be read by others (mode {mode:04o})", path.display())]
    Readable {
        /// The key.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The random generator failed.
    #[error("cannot make a key")]
    Generate,
    /// Secure Boot.
    #[error(transparent)]
    SecureBoot(#[from] secure_boot::SecureBootError),
    /// The root of trust could not be made or signed.
    #[error(transparent)]
    Root(#[from] roots::RootError),
    /// A private key.
    #[error("a key cannot be used")]
    Key(#[from] sources::KeyError),
    /// A file that should hold a public key.
    #[error("{} holds no public key", .0.display())]
    PublicKey(PathBuf),
    /// A repository that was named beside the keys.
    #[error("the repository cannot be read")]
    Repository(#[source] crate::repo::source::SourceError),
    /// Another change waits for signatures.
    #[error("another change waits for signatures: {}", .0.display())]
    Pending(PathBuf),
    /// A root that does not follow the newest one.
    #[error("this is version {found} of the root of trust, wanted is version {wanted}")]
    Version {
        /// In the file.
        found: u64,
        /// Expected.
        wanted: u64,
    },
    /// Not enough signatures.
    #[error("{} is not signed by enough keys: {}", file.display(), lacking(missing))]
    Unsigned {
        /// The root.
        file: PathBuf,
        /// What is missing.
        missing: Vec<roots::Missing>,
    },
}

/// What is missing, for people.
#[must_use]
pub fn lacking(missing: &[roots::Missing]) -> String {
    let parts = missing.iter().map(|part| {
        let Missing { version, have, need, .. } = part;
        format!("{} more of the root keys of version {version} ({have} of {need})", need - have)
    });
    parts.collect::<Vec<_>>().join(", ")
}
