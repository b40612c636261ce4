//! `keys init`: a new key set, whole or not at all.

use super::{
    Keys, KeysError, ROLES, ROOT_DAYS,
    ceremony::{self, Standing},
    roots, secure_boot,
};
use crate::files::{self, at};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tough::schema::{RoleType, key::Key};

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
pub(super) fn refuse_taken(folder: &Path) -> Result<(), KeysError> {
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
pub(super) fn private_folder(path: &Path) -> Result<(), KeysError> {
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
