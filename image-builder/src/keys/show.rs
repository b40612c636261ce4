//! `keys show`: which keys there are, where they are, and what needs attention before it is too late.

use super::{Keys, KeysError, ROLES, roots, sources::Place};
use crate::{files, repo::chain::RoleState};
use serde::Serialize;
use std::{collections::BTreeMap, fs};
use tough::schema::RoleType;
use x509_parser::pem::parse_x509_pem;

/// Days before an end at which it is warned of: roots are signed by people who have to meet.
const ROOT_WARNING: i64 = 60;
/// The same for what a timer renews.
const METADATA_WARNING: i64 = 7;
const DAY: i64 = 86_400;

/// A key of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownKey {
    /// Its id.
    pub id: String,
    /// Where its private half is, as far as this machine can see it.
    pub private: Option<String>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownRole {
    /// Its name.
    pub role: &'static str,
    /// How many keys have to sign.
    pub threshold: u64,
    /// The keys.
    pub keys: Vec<ShownKey>,
}

/// A certificate for Secure Boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownCertificate {
    /// `PK`, `KEK` or `db`.
    pub name: String,
    /// Its subject.
    pub subject: String,
    /// Until when it is valid, RFC 3339.
    pub expires: String,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Version of the root of trust.
    pub root_version: u64,
    /// Until when it is believed, RFC 3339.
    pub root_expires: String,
    /// The roles.
    pub roles: Vec<ShownRole>,
    /// Secure Boot.
    pub secure_boot: Vec<ShownCertificate>,
    /// Metadata of a repository, when one was named.
    pub metadata: Vec<RoleState>,
    /// What needs attention.
    pub warnings: Vec<String>,
}

/// Looks at a key set.
///
/// # Errors
/// See [`KeysError`].
pub fn show(keys: &Keys, metadata: Vec<RoleState>, now: jiff::Timestamp) -> Result<Shown, KeysError> {
    let root = keys.newest_root()?.signed;
    let mut warnings = Vec::new();
    let left = |expires: jiff::Timestamp| (expires.as_second() - now.as_second()) / DAY;
    let mut ends = |what: &str, expires: jiff::Timestamp, warning: i64, remedy: &str| {
        if expires <= now {
            warnings.push(format!("{what} expired on {expires}: {remedy}"));
        } else if left(expires) < warning {
            warnings.push(format!("{what} expires in {} days: {remedy}", left(expires)));
        }
    };
    ends("the root of trust", root.expires, ROOT_WARNING, "image-builder keys root renew");
    for state in metadata.iter().filter(|state| state.role != "root") {
        let expires = state.expires.parse().unwrap_or(jiff::Timestamp::MIN);
        let remedy = if state.role == "targets" {
            "publish, or image-builder repo channel set"
        } else {
            "image-builder repo refresh"
        };
        ends(&state.role, expires, METADATA_WARNING, remedy);
    }
    let secure_boot = certificates(keys)?;
    for certificate in &secure_boot {
        let expires = certificate.expires.parse().unwrap_or(jiff::Timestamp::MIN);
        ends(
            &format!("the Secure Boot certificate {}", certificate.name),
            expires,
            ROOT_WARNING,
            "firmware does not mind, auditors do",
        );
    }
    let private = private_keys(keys)?;
    let mut roles = Vec::new();
    for (role, name) in ROLES {
        let Some(named) = root.roles.get(&role) else { continue };
        let shown = named.keyids.iter().map(hex::encode).map(|id| ShownKey { private: private.get(&id).cloned(), id });
        let shown: Vec<ShownKey> = shown.collect();
        let here = shown.iter().filter(|key| key.private.is_some()).count() as u64;
        if role == RoleType::Root && here > 0 {
            warnings.push("private root keys lie in the key set: whoever has it can replace every key".into());
        } else if role != RoleType::Root && here < named.threshold.get() {
            let variable = super::sources::variable_of(name);
            warnings.push(format!("{name} cannot be signed here: set {variable}, or put {name}.pk8 into tuf/"));
        }
        roles.push(ShownRole { role: name, threshold: named.threshold.get(), keys: shown });
    }
    if keys.pending().exists() {
        let pending = roots::read(&files::read(&keys.pending())?)?;
        let missing = super::lacking(&roots::missing(&pending, Some(&root)));
        if !missing.is_empty() {
            let version = pending.signed.version;
            warnings.push(format!("version {version} of the root of trust waits for {missing}"));
        }
    }
    Ok(Shown {
        root_version: root.version.get(),
        root_expires: root.expires.to_string(),
        roles,
        secure_boot,
        metadata,
        warnings,
    })
}

/// Private keys that this machine can see, by id.
fn private_keys(keys: &Keys) -> Result<BTreeMap<String, String>, KeysError> {
    let mut found = BTreeMap::new();
    let mut places: Vec<Place> = keys.root_keys()?.into_iter().map(Place::File).collect();
    places
        .extend(ROLES.into_iter().filter(|(role, _)| *role != RoleType::Root).filter_map(|(role, _)| keys.place(role)));
    for place in places {
        let id = roots::id_of(&place.open()?.tuf_key())?;
        found.insert(hex::encode(id), place.to_string());
    }
    Ok(found)
}

fn certificates(keys: &Keys) -> Result<Vec<ShownCertificate>, KeysError> {
    let mut found = Vec::new();
    for name in ["PK", "KEK", "db"] {
        let path = keys.secure_boot().join(format!("{name}.crt"));
        let Ok(text) = fs::read(&path) else { continue };
        let wrong = || KeysError::PublicKey(path.clone());
        let (_, pem) = parse_x509_pem(&text).map_err(|_| wrong())?;
        let certificate = pem.parse_x509().map_err(|_| wrong())?;
        let expires =
            jiff::Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|_| wrong())?;
        let (subject, expires) = (certificate.subject().to_string(), expires.to_string());
        found.push(ShownCertificate { name: name.to_owned(), subject, expires });
    }
    Ok(found)
}
