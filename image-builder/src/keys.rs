//! Development keys: one TUF key per role, and a Secure Boot key with its certificate.

use crate::files::{self, FileError, at};
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use std::{
    collections::HashMap,
    fs,
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tough::{
    editor::signed::SignedRole,
    key_source::{KeySource, LocalKeySource},
    schema::{KeyHolder, RoleKeys, RoleType, Root},
    sign::{Sign, parse_keypair},
};

/// The TUF roles with a key of their own.
const ROLES: [(RoleType, &str); 4] = [
    (RoleType::Root, "root"),
    (RoleType::Targets, "targets"),
    (RoleType::Snapshot, "snapshot"),
    (RoleType::Timestamp, "timestamp"),
];

/// How long the root of trust of a development key set is good for.
const ROOT_DAYS: i64 = 5 * 365;

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
    /// The certificate could not be made.
    #[error("cannot make the Secure Boot certificate")]
    Certificate(#[source] rcgen::Error),
    /// The root of trust could not be signed.
    #[error("cannot sign the TUF root of trust")]
    Root(#[source] Box<tough::error::Error>),
}

/// A folder of keys.
#[derive(Debug, Clone)]
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Opens a folder that [`init`] made; refuses private keys that others may read.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn open(folder: &Path) -> Result<Self, KeysError> {
        let keys = Self { folder: fs::canonicalize(folder).map_err(at("look at", folder))? };
        let secrets = ROLES.iter().filter(|(role, _)| *role != RoleType::Root).map(|(_, name)| keys.role(name));
        for path in secrets.chain([keys.secure_boot().join("db.key")]) {
            let found = fs::metadata(&path);
            let found = found.map_err(|_| KeysError::NoKeys { folder: folder.to_owned(), missing: path.clone() })?;
            let mode = found.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(KeysError::Readable { path, mode });
            }
        }
        Ok(keys)
    }

    fn role(&self, name: &str) -> PathBuf {
        self.folder.join("tuf").join(format!("{name}.pk8"))
    }

    /// The TUF root of trust.
    #[must_use]
    pub fn root_json(&self) -> PathBuf {
        self.folder.join("tuf/1.root.json")
    }

    /// The folder with `db.key` and `db.crt`.
    #[must_use]
    pub fn secure_boot(&self) -> PathBuf {
        self.folder.join("secure-boot")
    }

    /// The keys that sign what a build publishes. The root key is not among them: it stays offline.
    #[must_use]
    pub fn publishing(&self) -> Vec<Box<dyn KeySource>> {
        let names = ROLES.iter().filter(|(role, _)| *role != RoleType::Root);
        names.map(|(_, name)| Box::new(LocalKeySource { path: self.role(name) }) as Box<dyn KeySource>).collect()
    }

    /// The keys of the role `targets`, which also sign what is said about an image.
    #[must_use]
    pub fn targets(&self) -> Vec<Box<dyn KeySource>> {
        vec![Box::new(LocalKeySource { path: self.role("targets") })]
    }
}

/// Makes a development key set in a new folder.
///
/// # Errors
/// See [`KeysError`].
pub async fn init(folder: &Path) -> Result<Keys, KeysError> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(KeysError::Exists(folder.to_owned()));
    }
    let absolute = std::path::absolute(folder).map_err(at("look at", folder))?;
    if let Some(repository) = repository_around(&absolute) {
        return Err(KeysError::InsideRepository { folder: folder.to_owned(), repository });
    }
    // Made beside its place and renamed: a full disk or Ctrl-C leaves no half key set that looks like one.
    let above = absolute.parent().unwrap_or(Path::new("/"));
    files::create_folder(above)?;
    let made =
        tempfile::Builder::new().prefix(".new-keys-").tempdir_in(above).map_err(at("make a folder in", above))?;
    fill(&Keys { folder: made.path().to_owned() }).await?;
    // Takes the place of an empty folder, and of nothing else.
    fs::rename(made.path(), &absolute).map_err(at("make the folder", &absolute))?;
    // Its path is gone: there is nothing to remove any more.
    let _ = made.keep();
    Ok(Keys { folder: absolute })
}

async fn fill(keys: &Keys) -> Result<(), KeysError> {
    let folder = &keys.folder;
    for part in ["", "tuf", "secure-boot"] {
        let path = folder.join(part);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(at("make the folder", &path))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(at("set the mode of", folder))?;
    for (_, name) in ROLES {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeysError::Generate)?;
        files::write_secret(&keys.role(name), key.as_ref())?;
    }
    let root = sign_root(keys).await?;
    files::write(&keys.root_json(), &root, 0o644)?;
    let (key, certificate) = secure_boot_pair().map_err(KeysError::Certificate)?;
    files::write_secret(&keys.secure_boot().join("db.key"), key.as_bytes())?;
    files::write(&keys.secure_boot().join("db.crt"), certificate.as_bytes(), 0o644).map_err(KeysError::File)
}

/// The Git repository that a path lies in. Links are resolved as far as the path exists.
fn repository_around(path: &Path) -> Option<PathBuf> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let real = fs::canonicalize(existing).ok()?;
    real.ancestors().find(|ancestor| ancestor.join(".git").exists()).map(Path::to_owned)
}

async fn sign_root(keys: &Keys) -> Result<Vec<u8>, KeysError> {
    let tough = |error| KeysError::Root(Box::new(error));
    let threshold = NonZeroU64::MIN;
    let mut root = Root {
        spec_version: "1.0.0".into(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: crate::repository::days_from_now(ROOT_DAYS),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for (role, name) in ROLES {
        let key = parse_keypair(&files::read(&keys.role(name))?).map_err(tough)?.tuf_key();
        let id = key.key_id().map_err(|_| KeysError::Generate)?;
        root.keys.insert(id.clone(), key);
        root.roles.insert(role, RoleKeys { keyids: vec![id], threshold, _extra: HashMap::new() });
    }
    let source: Vec<Box<dyn KeySource>> = vec![Box::new(LocalKeySource { path: keys.role("root") })];
    let holder = KeyHolder::Root(root.clone());
    let signed = SignedRole::new(root, &holder, &source, &SystemRandom::new()).await.map_err(tough)?;
    Ok(signed.buffer().clone())
}

/// RSA 2048: the one kind of key that every UEFI firmware verifies.
fn secure_boot_pair() -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "Shelfboot development Secure Boot key");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    // Firmware does not look at the dates, people do.
    let now = time::OffsetDateTime::now_utc();
    parameters.not_before = now - time::Duration::days(1);
    parameters.not_after = now + time::Duration::days(10 * 365);
    let certificate = parameters.self_signed(&key)?;
    Ok((key.serialize_pem(), certificate.pem()))
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
