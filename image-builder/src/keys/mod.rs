//! Key sets: the keys of the TUF roles, the roots of trust that name them, and Secure Boot keys.
//!
//! [`ceremony`] changes the root of trust, [`roots`] decides what that takes, [`sources`] knows where private keys are.

pub mod args;
pub mod boot;
pub mod ceremony;
pub mod roots;
pub mod secure_boot;
pub mod show;
pub mod sources;
pub mod token;

use crate::{
    files::{self, FileError, at},
    repo::layout,
};
use ceremony::Standing;
use roots::Missing;
use sources::Place;
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tough::{
    key_source::KeySource,
    schema::{RoleType, key::Key},
};

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

/// What a new key set is to have.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Root keys that are made here, when no public ones are named.
    pub root_keys: u64,
    /// How many of them have to sign.
    pub threshold: u64,
    /// Public halves of root keys that are kept elsewhere.
    pub public: Vec<String>,
    /// Targets keys that are kept elsewhere: files with public halves, or `pkcs11:` URIs; without, one is made here.
    pub public_targets: Vec<String>,
    /// For how many days the root of trust is believed.
    pub root_days: i64,
}

impl Default for Plan {
    fn default() -> Self {
        let (public, public_targets) = (Vec::new(), Vec::new());
        Self { root_keys: 1, threshold: 1, public, public_targets, root_days: ROOT_DAYS }
    }
}

/// Makes a key set for development in a new folder: one key per role.
///
/// # Errors
/// See [`KeysError`].
pub async fn init(folder: &Path) -> Result<Keys, KeysError> {
    init_with(folder, &Plan::default()).await.map(|(keys, _)| keys)
}

/// Makes a key set in a new folder. The root of trust may lack signatures then, see [`ceremony`].
///
/// # Errors
/// See [`KeysError`].
pub async fn init_with(folder: &Path, plan: &Plan) -> Result<(Keys, Standing), KeysError> {
    refuse_taken(folder)?;
    let absolute = std::path::absolute(folder).map_err(at("look at", folder))?;
    // Made beside its place and renamed: a full disk or Ctrl-C leaves no half key set that looks like one.
    let above = absolute.parent().unwrap_or(Path::new("/"));
    files::create_folder(above)?;
    let made =
        tempfile::Builder::new().prefix(".new-keys-").tempdir_in(above).map_err(at("make a folder in", above))?;
    let mut standing = fill(&Keys { folder: made.path().to_owned() }, plan).await?;
    // Takes the place of an empty folder, and of nothing else.
    fs::rename(made.path(), &absolute).map_err(at("make the folder", &absolute))?;
    files::sync_folder(above)?;
    if let Ok(inside) = standing.file.strip_prefix(made.path()) {
        standing.file = absolute.join(inside);
    }
    // Its path is gone: there is nothing to remove any more.
    let _ = made.keep();
    Ok((Keys { folder: absolute }, standing))
}

/// A folder for keys is new, and outside of every Git repository.
fn refuse_taken(folder: &Path) -> Result<(), KeysError> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(KeysError::Exists(folder.to_owned()));
    }
    let absolute = std::path::absolute(folder).map_err(at("look at", folder))?;
    match repository_around(&absolute) {
        Some(repository) => Err(KeysError::InsideRepository { folder: folder.to_owned(), repository }),
        None => Ok(()),
    }
}

/// A folder that only its owner may enter.
fn private_folder(path: &Path) -> Result<(), KeysError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at("make the folder", path))?;
    Ok(())
}

async fn fill(keys: &Keys, plan: &Plan) -> Result<Standing, KeysError> {
    let folder = &keys.folder;
    private_folder(&keys.tuf())?;
    private_folder(&keys.secure_boot())?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(at("set the mode of", folder))?;
    let mut root = roots::empty(crate::repository::days_from_now(plan.root_days));
    for (role, name) in ROLES {
        let (public, count) = match role {
            RoleType::Root => (&plan.public[..], plan.root_keys),
            RoleType::Targets => (&plan.public_targets[..], 1),
            _ => (&[][..], 1),
        };
        let made: Vec<Key> = match public {
            [] if count == 1 => vec![ceremony::generate(&keys.role(name))?],
            [] => {
                (1..=count).map(|n| ceremony::generate(&keys.role(&format!("{name}-{n}")))).collect::<Result<_, _>>()?
            }
            public => ceremony::elsewhere(public, &keys.tuf(), name)?,
        };
        let threshold = if role == RoleType::Root { plan.threshold } else { 1 };
        roots::assign(&mut root, role, &made, threshold)?;
    }
    secure_boot::write_all(&keys.secure_boot(), time::OffsetDateTime::now_utc())?;
    keys.propose(root, &[]).await
}

/// The Git repository that a path lies in. Links are resolved as far as the path exists.
fn repository_around(path: &Path) -> Option<PathBuf> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let real = fs::canonicalize(existing).ok()?;
    real.ancestors().find(|ancestor| ancestor.join(".git").exists()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

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
