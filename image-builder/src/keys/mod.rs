//! Key sets: the keys of the TUF roles, the roots of trust that name them, and Secure Boot keys.
//!
//! [`ceremony`] changes the root of trust, [`roots`] decides what that takes, [`sources`] knows where private keys are.

pub mod args;
pub mod boot;
pub mod ceremony;
mod error;
mod init;
pub mod roots;
pub mod secure_boot;
pub mod show;
pub mod sources;
pub mod token;

pub use error::{KeysError, lacking};
pub use init::{Plan, init, init_with};

use crate::{
    files::{self, at},
    repo::layout,
};
use init::{private_folder, refuse_taken};
use sources::Place;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tough::{key_source::KeySource, schema::RoleType};

/// The TUF roles with a key of their own.
const ROLES: [(RoleType, &str); 4] = [
    (RoleType::Root, "root"),
    (RoleType::Targets, "targets"),
    (RoleType::Snapshot, "snapshot"),
    (RoleType::Timestamp, "timestamp"),
];

/// How long a root of trust is good for when nothing else is said.
pub const ROOT_DAYS: i64 = 5 * 365;

/// A role's name in files, variables and commands.
fn name_of(role: RoleType) -> &'static str {
    ROLES.iter().find(|(other, _)| *other == role).map_or("targets", |(_, name)| name)
}

/// A folder of keys.
#[derive(Debug, Clone)]
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Opens a folder that [`init`] made, with all that a build signs with; refuses private keys that others may read.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn open(folder: &Path) -> Result<Self, KeysError> {
        let keys = Self::open_online(folder)?;
        for (role, name) in ROLES.into_iter().filter(|(role, _)| *role != RoleType::Root) {
            if keys.place(role).is_none() {
                return Err(KeysError::NoKeys { folder: folder.to_owned(), missing: keys.role(name) });
            }
        }
        match keys.boot_place() {
            None => {
                let missing = keys.secure_boot().join("db.key");
                return Err(KeysError::NoKeys { folder: folder.to_owned(), missing });
            }
            Some(Place::File(secret)) => sources::check_mode(&secret)?,
            Some(_) => {}
        }
        Ok(keys)
    }

    /// Opens a folder that may hold some of the keys only, for example those that renew a repository's timestamp.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn open_online(folder: &Path) -> Result<Self, KeysError> {
        let keys = Self { folder: fs::canonicalize(folder).map_err(at("look at", folder))? };
        if keys.roots()?.is_empty() {
            if keys.pending().exists() {
                let missing = roots::missing(&roots::read(&files::read(&keys.pending())?)?, None);
                return Err(KeysError::Unsigned { file: keys.pending(), missing });
            }
            return Err(KeysError::NoKeys { folder: folder.to_owned(), missing: keys.tuf().join("1.root.json") });
        }
        for (_, name) in ROLES {
            let path = keys.role(name);
            if path.exists() {
                sources::check_mode(&path)?;
            }
        }
        Ok(keys)
    }

    /// Opens a folder whose root of trust may still lack signatures.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn open_waiting(folder: &Path) -> Result<Self, KeysError> {
        let keys = Self { folder: fs::canonicalize(folder).map_err(at("look at", folder))? };
        if keys.tuf().is_dir() {
            Ok(keys)
        } else {
            Err(KeysError::NoKeys { folder: folder.to_owned(), missing: keys.tuf() })
        }
    }

    fn tuf(&self) -> PathBuf {
        self.folder.join("tuf")
    }

    fn role(&self, name: &str) -> PathBuf {
        self.tuf().join(format!("{name}.pk8"))
    }

    /// Where the key of a role is: in a variable of the environment, or in the folder.
    #[must_use]
    pub fn place(&self, role: RoleType) -> Option<Place> {
        let (_, name) = ROLES.into_iter().find(|(other, _)| *other == role)?;
        Place::find(&self.tuf(), name, |variable| std::env::var(variable).ok())
    }

    /// The roots of trust in the folder by version, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn roots(&self) -> Result<Vec<(u64, PathBuf)>, KeysError> {
        let folder = self.tuf();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(at("look at", &folder))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at("look at", &folder))?;
            if let Some((version, "root")) = entry.file_name().to_str().and_then(layout::metadata_version) {
                found.push((version, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The newest TUF root of trust.
    #[must_use]
    pub fn root_json(&self) -> PathBuf {
        let newest = self.roots().ok().and_then(|roots| roots.into_iter().next_back());
        newest.map_or_else(|| self.tuf().join("1.root.json"), |(_, path)| path)
    }

    /// The folder with `db.key` and `db.crt`, and what [`secure_boot`] says.
    #[must_use]
    pub fn secure_boot(&self) -> PathBuf {
        self.folder.join("secure-boot")
    }

    /// The keys at hand that sign what is published, and those that a rotation has retired. The root key is not among
    /// them: it stays offline.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn publishing(&self) -> Result<Vec<Box<dyn KeySource>>, KeysError> {
        let roles = ROLES.into_iter().filter(|(role, _)| *role != RoleType::Root);
        let mut sources: Vec<Box<dyn KeySource>> =
            roles.filter_map(|(role, _)| self.place(role)).map(|place| Box::new(place) as Box<dyn KeySource>).collect();
        for folder in ["retired", "next"] {
            for path in sources::keys_in(&self.tuf().join(folder))? {
                sources::check_mode(&path)?;
                sources.push(Box::new(Place::File(path)));
            }
        }
        Ok(sources)
    }
}

impl Keys {
    /// The keys of the role `targets`, which also sign what is said about an image.
    #[must_use]
    pub fn targets(&self) -> Vec<Box<dyn KeySource>> {
        self.place(RoleType::Targets).into_iter().map(|place| Box::new(place) as Box<dyn KeySource>).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn a_key_set_is_private_and_can_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("keys");
        init(&place).await.unwrap();
        for name in ["tuf/root.pk8", "tuf/targets.pk8", "tuf/snapshot.pk8", "tuf/timestamp.pk8", "secure-boot/db.key"] {
            assert_eq!(fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        Keys::open(&place).unwrap();
        assert!(matches!(init(&place).await, Err(KeysError::Exists(_))));
        fs::set_permissions(place.join("tuf/targets.pk8"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keys::open(&place), Err(KeysError::Readable { mode: 0o640, .. })));
    }

    #[tokio::test]
    async fn keys_never_land_in_a_repository() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        let place = folder.path().join("deep/keys");
        assert!(matches!(init(&place).await, Err(KeysError::InsideRepository { .. })));
        assert!(!place.exists());
    }
}
