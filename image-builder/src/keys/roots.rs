//! The next version of the root of trust: what changes in it, who has to sign it, and the signatures that it has.
//!
//! TUF specification, 6.1 and 5.3.4: version N+1 has to be signed by a threshold of the root keys of version N and by a
//! threshold of its own.

use crate::signing;
use aws_lc_rs::rand::SystemRandom;
use serde::Serialize;
use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroU64,
};
use tough::{
    editor::signed::SignedRole,
    key_source::KeySource,
    schema::{KeyHolder, RoleKeys, RoleType, Root, Signed, decoded::Decoded, decoded::Hex, key::Key},
};

/// The id of a key, 64 hex digits: SHA-256 of its canonical JSON.
pub type KeyId = Decoded<Hex>;

/// Why there is no next root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Not enough keys for the threshold.
    #[error("{role} would have {keys} keys, and a threshold of {threshold}")]
    Threshold {
        /// The role.
        role: RoleType,
        /// Its keys.
        keys: usize,
        /// What is demanded.
        threshold: u64,
    },
    /// No role has this key.
    #[error("no role has a key {0}")]
    NoKey(String),
    /// The same key twice, or for the root and for something else.
    #[error("the key {0} would have two duties")]
    Twice(String),
    /// A key that cannot be described.
    #[error("a key cannot be described")]
    Key(#[source] Box<tough::schema::Error>),
    /// Signing failed.
    #[error("cannot sign the root of trust")]
    Sign(#[source] Box<tough::error::Error>),
    /// The key is not among those that may sign.
    #[error("this key is none of those that sign version {0} of the root of trust")]
    Stranger(NonZeroU64),
    /// Not JSON.
    #[error("this is no root of trust in JSON")]
    Json(#[source] serde_json::Error),
}

/// A first root, or what the next one is made from.
#[must_use]
pub fn empty(expires: jiff::Timestamp) -> Root {
    Root {
        spec_version: "1.0.0".into(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires,
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    }
}

/// The next version, with nothing changed but its number and date.
#[must_use]
pub fn renewed(current: &Root, expires: jiff::Timestamp) -> Root {
    Root { version: current.version.saturating_add(1), expires, ..current.clone() }
}

/// The id of a key.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn id_of(key: &Key) -> Result<KeyId, RootError> {
    key.key_id().map_err(|error| RootError::Key(Box::new(error)))
}

/// Gives a role these keys and no others.
///
/// # Errors
/// See [`RootError`].
pub fn assign(root: &mut Root, role: RoleType, keys: &[Key], threshold: u64) -> Result<(), RootError> {
    let mut keyids = Vec::new();
    for key in keys {
        let id = id_of(key)?;
        if keyids.contains(&id) {
            return Err(RootError::Twice(hex::encode(&id)));
        }
        root.keys.insert(id.clone(), key.clone());
        keyids.push(id);
    }
    let threshold = NonZeroU64::new(threshold)
        .filter(|threshold| threshold.get() <= keyids.len() as u64)
        .ok_or(RootError::Threshold { role, keys: keyids.len(), threshold })?;
    root.roles.insert(role, RoleKeys { keyids, threshold, _extra: HashMap::new() });
    tidy(root)
}

/// Takes a key away from every role. Gives the roles that are left with too few keys.
///
/// # Errors
/// When no role has it.
pub fn revoke(root: &mut Root, id: &KeyId) -> Result<Vec<RoleType>, RootError> {
    let mut found = false;
    let mut short = Vec::new();
    for (role, keys) in &mut root.roles {
        let before = keys.keyids.len();
        keys.keyids.retain(|other| other != id);
        found |= keys.keyids.len() < before;
        if (keys.keyids.len() as u64) < keys.threshold.get() {
            short.push(*role);
        }
    }
    if !found {
        return Err(RootError::NoKey(hex::encode(id)));
    }
    root.keys.remove(id);
    short.sort_by_key(ToString::to_string);
    Ok(short)
}

/// Drops keys that no role has. A root key that also signs something online would not be offline.
fn tidy(root: &mut Root) -> Result<(), RootError> {
    let used: BTreeSet<&[u8]> = root.roles.values().flat_map(|keys| keys.keyids.iter().map(|id| &id[..])).collect();
    let unused: Vec<KeyId> = root.keys.keys().filter(|id| !used.contains(&id[..])).cloned().collect();
    unused.iter().for_each(|id| drop(root.keys.remove(id)));
    let Some(of_root) = root.roles.get(&RoleType::Root) else { return Ok(()) };
    let others = root.roles.iter().filter(|(role, _)| **role != RoleType::Root);
    let mut others = others.flat_map(|(_, keys)| &keys.keyids);
    match others.find(|id| of_root.keyids.contains(id)) {
        Some(id) => Err(RootError::Twice(hex::encode(id))),
        None => Ok(()),
    }
}

/// Signatures that a root still lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The version whose root keys are asked.
    pub version: u64,
    /// Valid signatures so far.
    pub have: u64,
    /// How many are demanded.
    pub need: u64,
    /// Ids of the keys that have not signed.
    pub open: Vec<String>,
}

/// What has to be signed still, by the root keys of the version before and by its own. Empty when nothing is missing.
#[must_use]
pub fn missing(root: &Signed<Root>, previous: Option<&Root>) -> Vec<Missing> {
    let asked = previous.into_iter().chain([&root.signed]);
    asked
        .filter_map(|by| {
            let keys = by.roles.get(&RoleType::Root)?;
            let signed = |id: &&KeyId| {
                // One key and a threshold of one: the library's own check, key by key.
                let mut alone = by.clone();
                let only = RoleKeys { keyids: vec![(*id).clone()], threshold: NonZeroU64::MIN, _extra: HashMap::new() };
                alone.roles.insert(RoleType::Root, only);
                alone.verify_role(root).is_ok()
            };
            let (good, open): (Vec<&KeyId>, Vec<&KeyId>) = keys.keyids.iter().partition(signed);
            let missing = Missing {
                version: by.version.get(),
                have: good.len() as u64,
                need: keys.threshold.get(),
                open: open.into_iter().map(hex::encode).collect(),
            };
            (missing.have < missing.need).then_some(missing)
        })
        .collect()
}

/// Adds the signatures of these keys, as far as they are root keys of this version or of the one before.
///
/// # Errors
/// [`RootError::Stranger`] when none of them is.
pub async fn sign(
    root: Signed<Root>,
    previous: Option<&Root>,
    keys: Vec<Box<dyn KeySource>>,
) -> Result<Signed<Root>, RootError> {
    let version = root.signed.version;
    let signer = signing::Signer::new(&root.signed, previous, Vec::new());
    let holder = KeyHolder::Root(signer.both(RoleType::Root));
    let made = SignedRole::new(root.signed.clone(), &holder, &keys, &SystemRandom::new()).await;
    let made = match made {
        Err(tough::error::Error::KeysNotFoundInRoot { .. }) => return Err(RootError::Stranger(version)),
        other => other.map_err(|error| RootError::Sign(Box::new(error)))?,
    };
    if made.signed().signatures.is_empty() {
        return Err(RootError::Stranger(version));
    }
    let both = made.add_old_signatures(root.signatures).map_err(|error| RootError::Sign(Box::new(error)))?;
    Ok(both.signed().clone())
}

/// Reads a root, whoever has signed it.
///
/// # Errors
/// When it is none.
pub fn read(bytes: &[u8]) -> Result<Signed<Root>, RootError> {
    serde_json::from_slice(bytes).map_err(RootError::Json)
}

/// The file of a root.
///
/// # Errors
/// When it is not JSON.
pub fn write(root: &Signed<Root>) -> Result<Vec<u8>, RootError> {
    signing::bytes_of(root).map_err(RootError::Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::sources::Place;
    use aws_lc_rs::signature::Ed25519KeyPair;

    struct Holder {
        _folder: tempfile::TempDir,
        place: Place,
        key: Key,
    }

    impl Holder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("root.pk8");
            let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            std::fs::write(&path, bytes.as_ref()).unwrap();
            let place = Place::File(path);
            let key = place.open().unwrap().tuf_key();
            Self { _folder: folder, place, key }
        }

        fn source(&self) -> Vec<Box<dyn KeySource>> {
            vec![Box::new(self.place.clone())]
        }
    }

    fn unsigned(root: Root) -> Signed<Root> {
        Signed { signed: root, signatures: Vec::new() }
    }

    #[tokio::test]
    async fn two_of_three_sign_one_after_the_other() {
        let (a, b, c) = (Holder::new(), Holder::new(), Holder::new());
        let mut root = empty(jiff::Timestamp::MAX);
        assign(&mut root, RoleType::Root, &[a.key.clone(), b.key.clone(), c.key.clone()], 2).unwrap();
        let one = sign(unsigned(root.clone()), None, a.source()).await.unwrap();
        assert_eq!(missing(&one, None)[0].have, 1);
        assert!(matches!(sign(one.clone(), None, Holder::new().source()).await, Err(RootError::Stranger(_))));
        let again = sign(one, None, a.source()).await.unwrap();
        assert_eq!((missing(&again, None)[0].have, again.signatures.len()), (1, 1));
        let two = sign(again, None, c.source()).await.unwrap();
        assert_eq!(missing(&two, None), []);
        two.signed.verify_role(&two).unwrap();
        // The next one, without a: old and new keys have to sign, and b alone is one of both.
        let mut next = renewed(&root, jiff::Timestamp::MAX);
        assert_eq!(revoke(&mut next, &id_of(&a.key).unwrap()).unwrap(), []);
        let signed = sign(unsigned(next), Some(&root), b.source()).await.unwrap();
        assert_eq!(missing(&signed, Some(&root)).len(), 2);
        let by_a = sign(signed.clone(), Some(&root), a.source()).await.unwrap();
        let left = missing(&by_a, Some(&root));
        assert_eq!((left.len(), left[0].version, left[0].have), (1, 2, 1), "the old threshold is met, its own is not");
        let whole = sign(by_a, Some(&root), c.source()).await.unwrap();
        assert_eq!(missing(&whole, Some(&root)), []);
        root.verify_role(&whole).unwrap();
    }

    #[test]
    fn duties_are_kept_apart() {
        let (a, b) = (Holder::new(), Holder::new());
        let mut root = empty(jiff::Timestamp::MAX);
        assert!(matches!(
            assign(&mut root, RoleType::Root, std::slice::from_ref(&a.key), 2),
            Err(RootError::Threshold { .. })
        ));
        assert!(matches!(
            assign(&mut root, RoleType::Root, &[a.key.clone(), a.key.clone()], 1),
            Err(RootError::Twice(_))
        ));
        assign(&mut root, RoleType::Root, std::slice::from_ref(&a.key), 1).unwrap();
        let both = assign(&mut root.clone(), RoleType::Timestamp, std::slice::from_ref(&a.key), 1);
        assert!(matches!(both, Err(RootError::Twice(_))));
        assign(&mut root, RoleType::Timestamp, std::slice::from_ref(&b.key), 1).unwrap();
        assert_eq!(revoke(&mut root, &id_of(&b.key).unwrap()).unwrap(), [RoleType::Timestamp]);
        assert!(matches!(revoke(&mut root, &id_of(&b.key).unwrap()), Err(RootError::NoKey(_))));
    }
}
