//! Signing one TUF role, for readers of the newest root and, where the keys are there, for those of the one before.

use aws_lc_rs::rand::SystemRandom;
use serde::Serialize;
use std::num::NonZeroU64;
use tough::{
    editor::signed::SignedRole,
    key_source::KeySource,
    schema::{KeyHolder, Role, RoleType, Root, Signed},
};

/// Why a role was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A key could not be used.
    #[error("cannot sign {role}")]
    Key {
        /// The role.
        role: RoleType,
        /// Why.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// Fewer keys than the root of trust demands.
    #[error("version {root} of the root of trust demands other or more keys for {role} than there are here")]
    Threshold {
        /// The role.
        role: RoleType,
        /// The root's version.
        root: NonZeroU64,
        /// How many are missing.
        #[source]
        source: Box<tough::schema::Error>,
    },
    /// Not JSON.
    #[error("cannot write {role} as JSON")]
    Json {
        /// The role.
        role: RoleType,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// A role's file.
#[derive(Debug)]
pub struct Written {
    /// The file.
    pub bytes: Vec<u8>,
    /// True when readers who have not seen the newest root yet accept it too.
    pub for_old_readers: bool,
}

/// The keys at hand and the roots that they have to satisfy.
#[derive(Debug)]
pub struct Signer<'a> {
    new: &'a Root,
    old: Option<&'a Root>,
    keys: Vec<Box<dyn KeySource>>,
}

impl<'a> Signer<'a> {
    /// `old` is the root that readers know now.
    #[must_use]
    pub fn new(new: &'a Root, old: Option<&'a Root>, keys: Vec<Box<dyn KeySource>>) -> Self {
        Self { new, old, keys }
    }

    /// Signs with every key at hand that either root names for this role.
    ///
    /// # Errors
    /// See [`SignError`].
    pub async fn sign<T: Role + Serialize + Clone>(&self, document: T) -> Result<Written, SignError> {
        let role = T::TYPE;
        let key = |source| SignError::Key { role, source: Box::new(source) };
        let holder = KeyHolder::Root(self.both(role));
        let signed = SignedRole::new(document, &holder, &self.keys, &SystemRandom::new()).await.map_err(key)?;
        let signed = signed.signed();
        let missing = |source| SignError::Threshold { role, root: self.new.version, source: Box::new(source) };
        self.new.verify_role(signed).map_err(missing)?;
        let for_old_readers = self.old.is_none_or(|old| old.verify_role(signed).is_ok());
        let bytes = bytes_of(signed).map_err(|source| SignError::Json { role, source })?;
        Ok(Written { bytes, for_old_readers })
    }

    /// A root that names the keys of both for this role. Nobody but `SignedRole` sees it.
    pub(crate) fn both(&self, role: RoleType) -> Root {
        let mut both = self.new.clone();
        let old = self.old.and_then(|old| Some((old, old.roles.get(&role)?)));
        if let (Some(keys), Some((old, old_keys))) = (both.roles.get_mut(&role), old) {
            keys.threshold = NonZeroU64::MIN;
            for id in &old_keys.keyids {
                if let Some(key) = old.keys.get(id).filter(|_| !keys.keyids.contains(id)) {
                    keys.keyids.push(id.clone());
                    both.keys.insert(id.clone(), key.clone());
                }
            }
        }
        both
    }
}

/// The file of a role: the same bytes for the same content, whatever order the library keeps its maps in.
///
/// # Errors
/// When it is not JSON.
pub fn bytes_of<T: Serialize>(signed: &Signed<T>) -> Result<Vec<u8>, serde_json::Error> {
    // `Value` keeps its maps sorted.
    let mut signed = serde_json::to_value(signed)?;
    if let Some(signatures) = signed.get_mut("signatures").and_then(serde_json::Value::as_array_mut) {
        signatures.sort_by_key(|signature| signature["keyid"].to_string());
    }
    let mut bytes = serde_json::to_vec_pretty(&signed)?;
    bytes.push(b'\n');
    Ok(bytes)
}
