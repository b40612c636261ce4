//! Changing the root of trust: rotation, revocation, and signatures that are collected on offline machines.
//!
//! A change is prepared in `tuf/next/` of the key set (`root.json`, new private keys, ids of revoked ones). Once the root
//! is signed by enough keys it becomes `tuf/N.root.json`, the new keys take their places, and the old ones go to
//! `tuf/retired/` or `tuf/revoked/`. Until then nothing that signs today has changed.

use super::{
    Keys, KeysError, ROLES, name_of,
    roots::{self, KeyId, Missing},
    sources::{self, KeyError, Place},
    token::Uri,
};
use crate::{
    files::{self, at},
    repository::days_from_now,
};
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use tough::{
    key_source::KeySource,
    schema::{RoleType, Root, Signed, key::Key},
    sign::Sign as _,
};

/// A public key in a file: what a holder of an offline key hands over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublicKey {
    /// Its id.
    pub keyid: String,
    /// The key, as TUF writes it.
    pub key: Key,
}

/// Where a change stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The version that is made.
    pub version: u64,
    /// Where it lies.
    pub file: PathBuf,
    /// Signatures that are missing; none when it counts.
    pub missing: Vec<Missing>,
}

/// Makes a key in a file.
///
/// # Errors
/// See [`KeysError`].
pub fn generate(path: &Path) -> Result<Key, KeysError> {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeysError::Generate)?;
    files::write_secret(path, key.as_ref())?;
    Ok(Place::File(path.to_owned()).open()?.tuf_key())
}

/// Makes the key of one holder: `root.pk8`, and `root.pub.json` to hand over.
///
/// # Errors
/// See [`KeysError`].
pub fn new_holder(folder: &Path) -> Result<PublicKey, KeysError> {
    super::refuse_taken(folder)?;
    files::create_folder_durably(folder)?;
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .map_err(at("set the mode of", folder))?;
    let key = generate(&folder.join("root.pk8"))?;
    let public = PublicKey { keyid: hex::encode(roots::id_of(&key)?), key };
    let text = serde_json::to_vec_pretty(&public).map_err(roots::RootError::Json)?;
    files::publish_bytes(&text, &folder.join("root.pub.json"))?;
    Ok(public)
}

/// Reads a file that [`new_holder`] made, or the public key that belongs to a private one elsewhere.
///
/// # Errors
/// See [`KeysError`].
pub fn read_public(path: &Path) -> Result<Key, KeysError> {
    let bytes = files::read(path)?;
    let wrong = || KeysError::PublicKey(path.to_owned());
    let public: PublicKey = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    if hex::encode(roots::id_of(&public.key)?) == public.keyid { Ok(public.key) } else { Err(wrong()) }
}

/// Public keys whose private halves are elsewhere: by file, or by a `pkcs11:` URI, which is kept in the folder as
/// `ROLE.pkcs11` so that publishing finds the module.
pub(super) fn elsewhere(named: &[String], folder: &Path, role: &str) -> Result<Vec<Key>, KeysError> {
    named
        .iter()
        .map(|text| {
            if !Uri::is_meant(text) {
                return read_public(Path::new(text));
            }
            let uri = Uri::parse(text).map_err(|message| KeyError::Uri(text.clone(), message))?;
            let key = uri.open()?.tuf_key();
            files::create_folder_durably(folder)?;
            files::publish_bytes(format!("{text}\n").as_bytes(), &folder.join(format!("{role}.pkcs11")))?;
            Ok(key)
        })
        .collect()
}

impl Keys {
    fn next(&self) -> PathBuf {
        self.tuf().join("next")
    }

    /// Where a change lies until it is signed by enough keys.
    #[must_use]
    pub fn pending(&self) -> PathBuf {
        self.next().join("root.json")
    }

    /// The newest root and its version.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn newest_root(&self) -> Result<Signed<Root>, KeysError> {
        let missing = KeysError::NoKeys { folder: self.folder.clone(), missing: self.tuf().join("1.root.json") };
        let (_, path) = self.roots()?.into_iter().next_back().ok_or(missing)?;
        Ok(roots::read(&files::read(&path)?)?)
    }

    /// The private root keys that lie in the folder.
    pub(super) fn root_keys(&self) -> Result<Vec<PathBuf>, KeysError> {
        let mut found: Vec<PathBuf> = sources::keys_in(&self.tuf())?;
        found.extend(sources::keys_in(&self.next())?);
        found.retain(|path| {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            name == "root" || name.starts_with("root-")
        });
        found.iter().try_for_each(|path| sources::check_mode(path))?;
        Ok(found)
    }

    /// Renews the root's date.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub async fn renew(&self, days: i64) -> Result<Standing, KeysError> {
        let current = self.begin_change()?;
        self.propose(roots::renewed(&current.signed, days_from_now(days)), &[]).await
    }

    /// Gives a role new keys: those whose public halves are named, or one that is made here.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub async fn rotate(
        &self,
        role: RoleType,
        public: &[String],
        threshold: u64,
        days: i64,
    ) -> Result<Standing, KeysError> {
        let current = self.begin_change()?;
        let mut root = roots::renewed(&current.signed, days_from_now(days));
        let keys = self.new_keys(role, public, threshold)?;
        roots::assign(&mut root, role, &keys, threshold)?;
        self.propose(root, &[]).await
    }

    /// Takes a key away from every role; a role that is left with too few gets a new one, except the root.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub async fn revoke(&self, id: &str, days: i64) -> Result<Standing, KeysError> {
        let current = self.begin_change()?;
        let mut root = roots::renewed(&current.signed, days_from_now(days));
        let id = self.find(&root, id)?;
        for role in roots::revoke(&mut root, &id)? {
            let keys = root.roles.get(&role);
            if role == RoleType::Root {
                let (threshold, keys) = keys.map_or((1, 0), |keys| (keys.threshold.get(), keys.keyids.len()));
                return Err(roots::RootError::Threshold { role, keys, threshold }.into());
            }
            let threshold = keys.map_or(1, |keys| keys.threshold.get());
            let mut all: Vec<Key> = root.keys(role).cloned().collect();
            all.extend(self.new_keys(role, &[], 1)?);
            roots::assign(&mut root, role, &all, threshold)?;
        }
        self.propose(root, &[id]).await
    }

    /// The key whose id begins like this.
    fn find(&self, root: &Root, id: &str) -> Result<KeyId, KeysError> {
        let id = id.to_ascii_lowercase();
        let mut fitting = root.keys.keys().filter(|known| id.len() >= 8 && hex::encode(known).starts_with(&id));
        match (fitting.next(), fitting.next()) {
            (Some(found), None) => Ok(found.clone()),
            _ => Err(roots::RootError::NoKey(id).into()),
        }
    }

    fn new_keys(&self, role: RoleType, public: &[String], count: u64) -> Result<Vec<Key>, KeysError> {
        let name = name_of(role);
        if !public.is_empty() {
            return elsewhere(public, &self.next(), name);
        }
        files::create_folder_durably(&self.next())?;
        let file = |n: u64| if count == 1 { format!("{name}.pk8") } else { format!("{name}-{n}.pk8") };
        (1..=count).map(|n| generate(&self.next().join(file(n)))).collect()
    }

    /// One change at a time: the one before has to be signed or dropped.
    fn begin_change(&self) -> Result<Signed<Root>, KeysError> {
        self.settle()?;
        if self.pending().exists() {
            return Err(KeysError::Pending(self.pending()));
        }
        // New keys of a change that was cut off before there was a root to sign.
        files::remove(&self.next())?;
        self.newest_root()
    }

    /// Signs a root with the root keys at hand; keeps it for others to sign when that is not enough.
    pub(super) async fn propose(&self, root: Root, revoked: &[KeyId]) -> Result<Standing, KeysError> {
        let previous = (root.version.get() > 1).then(|| self.newest_root()).transpose()?;
        let previous = previous.as_ref().map(|root| &root.signed);
        let mut signed = Signed { signed: root, signatures: Vec::new() };
        let keys: Vec<Box<dyn KeySource>> =
            self.root_keys()?.into_iter().map(|path| Box::new(Place::File(path)) as Box<dyn KeySource>).collect();
        if !keys.is_empty() {
            signed = match roots::sign(signed.clone(), previous, keys).await {
                Err(roots::RootError::Stranger(_)) => signed,
                other => other?,
            };
        }
        files::create_folder_durably(&self.next())?;
        let ids: String = revoked.iter().map(|id| format!("{}\n", hex::encode(id))).collect();
        files::publish_bytes(ids.as_bytes(), &self.next().join("revoked"))?;
        files::publish_bytes(&roots::write(&signed)?, &self.pending())?;
        if roots::missing(&signed, previous).is_empty() {
            return self.accept(&self.pending());
        }
        Ok(standing(&signed, previous, self.pending()))
    }

    /// Takes a root that enough keys have signed; from then on it is the one that is published.
    ///
    /// # Errors
    /// [`KeysError::Unsigned`] when signatures are missing, and the others of [`KeysError`].
    pub fn accept(&self, file: &Path) -> Result<Standing, KeysError> {
        let bytes = files::read(file)?;
        let root = roots::read(&bytes)?;
        let version = root.signed.version.get();
        let place = self.tuf().join(format!("{version}.root.json"));
        if place.exists() && files::read(&place)? == bytes {
            self.settle()?;
            return Ok(Standing { version, file: place, missing: Vec::new() });
        }
        let newest = self.roots()?.last().map_or(0, |(version, _)| *version);
        if version != newest + 1 {
            return Err(KeysError::Version { found: version, wanted: newest + 1 });
        }
        let previous = if newest > 0 { Some(self.newest_root()?.signed) } else { None };
        let missing = roots::missing(&root, previous.as_ref());
        if !missing.is_empty() {
            return Err(KeysError::Unsigned { file: file.to_owned(), missing });
        }
        files::publish_bytes(&bytes, &place)?;
        self.settle()?;
        Ok(Standing { version, file: place, missing: Vec::new() })
    }

    /// Brings the private keys to where the newest root wants them. Harmless to repeat, and cut off at any moment: whoever
    /// publishes finds the keys in `next/` and `retired/` too.
    pub(super) fn settle(&self) -> Result<(), KeysError> {
        let pending = self.pending();
        let Some((version, _)) = self.roots()?.into_iter().next_back() else { return Ok(()) };
        if pending.exists() && roots::read(&files::read(&pending)?)?.signed.version.get() > version {
            return Ok(());
        }
        let root = self.newest_root()?.signed;
        let revoked = fs::read_to_string(self.next().join("revoked")).unwrap_or_default();
        let revoked: BTreeSet<&str> = revoked.lines().collect();
        for path in sources::keys_in(&self.tuf())? {
            let id = hex::encode(roots::id_of(&Place::File(path.clone()).open()?.tuf_key())?);
            if root.keys.keys().any(|known| hex::encode(known) == id) {
                continue;
            }
            let folder = self.tuf().join(if revoked.contains(id.as_str()) { "revoked" } else { "retired" });
            super::private_folder(&folder)?;
            self.move_to(&path, &folder.join(format!("{id}.pk8")))?;
        }
        let tokens = ROLES.into_iter().map(|(_, name)| self.next().join(format!("{name}.pkcs11")));
        for path in sources::keys_in(&self.next())?.into_iter().chain(tokens.filter(|path| path.exists())) {
            if let Some(name) = path.file_name() {
                self.move_to(&path, &self.tuf().join(name))?;
            }
        }
        Ok(files::remove(&self.next())?)
    }

    fn move_to(&self, from: &Path, to: &Path) -> Result<(), KeysError> {
        fs::rename(from, to).map_err(at("move", from))?;
        Ok(files::sync_folder(to.parent().unwrap_or(&self.folder))?)
    }
}

fn standing(root: &Signed<Root>, previous: Option<&Root>, file: PathBuf) -> Standing {
    Standing { version: root.signed.version.get(), file, missing: roots::missing(root, previous) }
}

/// Adds one signature to a root in a file, on a machine that has nothing but the key. `previous` is needed by a key that
/// the new root no longer names.
///
/// # Errors
/// See [`KeysError`].
pub async fn sign_file(file: &Path, key: &Path, previous: Option<&Path>) -> Result<Standing, KeysError> {
    sources::check_mode(key)?;
    let root = roots::read(&files::read(file)?)?;
    let previous = previous.map(|path| Ok::<_, KeysError>(roots::read(&files::read(path)?)?)).transpose()?;
    let previous = previous.as_ref().map(|root| &root.signed);
    if let Some(previous) = previous
        && previous.version.get() + 1 != root.signed.version.get()
    {
        let (found, wanted) = (root.signed.version.get(), previous.version.get() + 1);
        return Err(KeysError::Version { found, wanted });
    }
    let signed = roots::sign(root, previous, vec![Box::new(Place::File(key.to_owned()))]).await?;
    files::publish_bytes(&roots::write(&signed)?, file)?;
    Ok(standing(&signed, previous, file.to_owned()))
}

/// What a root says, line by line, for the one who is asked to sign it.
#[must_use]
pub fn described(root: &Root, previous: Option<&Root>) -> Vec<String> {
    let mut lines = vec![format!("version {}, believed until {}", root.version, root.expires)];
    for (role, name) in ROLES {
        let ids = |root: &Root| -> BTreeSet<String> {
            root.roles.get(&role).iter().flat_map(|keys| keys.keyids.iter().map(hex::encode)).collect()
        };
        let threshold = root.roles.get(&role).map_or(0, |keys| keys.threshold.get());
        let (new, old) = (ids(root), previous.map(ids));
        lines.push(format!("{name}: {threshold} of {} keys", new.len()));
        for id in &new {
            let mark = if old.as_ref().is_some_and(|old| !old.contains(id)) { "  new" } else { "" };
            lines.push(format!("  {id}{mark}"));
        }
        for id in old.iter().flatten().filter(|id| !new.contains(*id)) {
            lines.push(format!("  {id}  no longer"));
        }
    }
    lines
}
