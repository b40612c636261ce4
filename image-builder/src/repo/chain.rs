//! The chain of metadata, from a trusted root to the list of targets, and everything that is wrong with it.
//!
//! `tough` reads repositories for the agent and for netboot, and stops at the first mistake. Here all of them are
//! wanted, so the steps of the TUF specification's client workflow (5.3 to 5.6) are taken one by one, with `tough`'s
//! documents and signatures. A test holds both against each other.

use super::{
    Problem, layout,
    source::{Source, SourceError},
};
use jiff::Timestamp as Time;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use tough::schema::{Delegations, Metafile, Role, Root, Signed, Snapshot, Target, Targets, Timestamp};

/// Bounds of metadata files, as `tough` has them.
const LARGEST: u64 = 1 << 20;
const LARGEST_TARGETS: u64 = 10 << 20;
/// Root versions that are followed.
const MOST_ROOTS: u64 = 1024;
/// Depth of delegations.
const DEEPEST: usize = 8;

/// A root of trust that cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not a TUF root.
    #[error("it is not a TUF root")]
    Shape(#[source] serde_json::Error),
    /// Not signed by its own keys.
    #[error("it is not signed by its own keys")]
    Signature(#[source] Box<tough::schema::Error>),
}

/// What a role says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleState {
    /// `root`, `timestamp`, `snapshot`, `targets` or the name of a delegated role.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// Until when it is believed, RFC 3339.
    pub expires: String,
}

/// A repository's metadata as far as it could be followed.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The newest root that the trusted one leads to.
    pub root: Signed<Root>,
    /// `timestamp.json`.
    pub timestamp: Option<Signed<Timestamp>>,
    /// The snapshot that it names.
    pub snapshot: Option<Signed<Snapshot>>,
    /// The targets that the snapshot names.
    pub targets: Option<Signed<Targets>>,
    /// All targets by name, those of delegated roles too. Nothing in here is unsafe as a path.
    pub all: BTreeMap<String, Target>,
    /// Every metadata file that was followed, by path; roots first, `timestamp.json` last.
    pub files: Vec<(String, Vec<u8>)>,
    /// Versions and dates.
    pub roles: Vec<RoleState>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Reads and checks a root of trust.
///
/// # Errors
/// See [`TrustError`].
pub fn trusted(root: &[u8]) -> Result<Signed<Root>, TrustError> {
    let root: Signed<Root> = serde_json::from_slice(root).map_err(TrustError::Shape)?;
    root.signed.verify_role(&root).map_err(|error| TrustError::Signature(Box::new(error)))?;
    Ok(root)
}

/// Follows a repository's metadata from a trusted root, as a client does that has never seen it.
///
/// # Errors
/// When files cannot be read; what is wrong in them is in [`Chain::problems`].
pub async fn walk(source: &Source, trusted: Signed<Root>, now: Time) -> Result<Chain, SourceError> {
    let mut chain = Chain {
        root: trusted,
        timestamp: None,
        snapshot: None,
        targets: None,
        all: BTreeMap::new(),
        files: Vec::new(),
        roles: Vec::new(),
        problems: Vec::new(),
    };
    chain.follow_roots(source).await?;
    let file = format!("metadata/{}.root.json", chain.root.signed.version);
    let root = chain.root.signed.clone();
    chain.note("root", &file, &root, now);
    let Some(timestamp) = chain.role::<Timestamp>(source, layout::TIMESTAMP, None, "timestamp", now).await? else {
        return Ok(chain);
    };
    chain.timestamp = Some(timestamp.clone());
    let Some(meta) = timestamp.signed.meta.get("snapshot.json").filter(|_| timestamp.signed.meta.len() == 1) else {
        chain.problem(layout::TIMESTAMP, "document", "it does not name snapshot.json, and nothing else");
        return Ok(chain);
    };
    let file = format!("metadata/{}.snapshot.json", meta.version);
    let Some(snapshot) = chain.role::<Snapshot>(source, &file, Some(meta), "snapshot", now).await? else {
        return Ok(chain);
    };
    chain.snapshot = Some(snapshot.clone());
    let Some(meta) = snapshot.signed.meta.get("targets.json") else {
        chain.problem(&file, "document", "it does not name targets.json");
        return Ok(chain);
    };
    let file = format!("metadata/{}.targets.json", meta.version);
    if let Some(targets) = chain.role::<Targets>(source, &file, Some(meta), "targets", now).await? {
        chain.take_targets(&file, &targets.signed);
        chain.follow_delegations(source, &snapshot.signed, &targets.signed, now).await?;
        chain.targets = Some(targets);
    }
    // In the order in which they may be copied: what leads to something comes after it.
    let roots = chain.files.iter().position(|(path, _)| path == layout::TIMESTAMP).unwrap_or(chain.files.len());
    chain.files[roots..].reverse();
    Ok(chain)
}

impl Chain {
    fn problem(&mut self, file: &str, code: &'static str, message: impl Into<String>) {
        self.problems.push(Problem::new(file, code, message));
    }

    /// Version N+1 has to be signed by enough keys of version N, and by enough of its own.
    async fn follow_roots(&mut self, source: &Source) -> Result<(), SourceError> {
        for _ in 0..MOST_ROOTS {
            let wanted = self.root.signed.version.get() + 1;
            let file = format!("metadata/{wanted}.root.json");
            let Some(bytes) = self.read(source, &file, LARGEST).await? else { return Ok(()) };
            let next: Signed<Root> = match serde_json::from_slice(&bytes) {
                Ok(next) => next,
                Err(error) => {
                    self.problem(&file, "document", format!("it cannot be read: {error}"));
                    return Ok(());
                }
            };
            let signers = [("the root before it", &self.root.signed), ("itself", &next.signed)];
            let unsigned = signers.into_iter().find_map(|(by, root)| Some((by, root.verify_role(&next).err()?)));
            if let Some((by, error)) = unsigned {
                self.problem(&file, "signature", format!("it is not signed as {by} demands: {error}"));
                return Ok(());
            }
            if next.signed.version.get() != wanted {
                self.problem(&file, "version", format!("it says that it is version {}", next.signed.version));
                return Ok(());
            }
            self.files.push((file, bytes));
            self.root = next;
        }
        Ok(())
    }

    /// Reads a file; one that is too long is a problem of the repository and not of ours.
    async fn read(&mut self, source: &Source, file: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        match source.read(file, limit).await {
            Err(SourceError::TooLong(_, limit)) => {
                self.problem(file, "length", format!("it is longer than {limit} bytes"));
                Ok(None)
            }
            other => other,
        }
    }

    /// One role below the root, as the file above it names it.
    async fn role<T: Role + Serialize + DeserializeOwned>(
        &mut self,
        source: &Source,
        file: &str,
        meta: Option<&Metafile>,
        name: &str,
        now: Time,
    ) -> Result<Option<Signed<T>>, SourceError> {
        let Some(role) = self.document::<T>(source, file, meta).await? else { return Ok(None) };
        if let Err(error) = self.root.signed.verify_role(&role) {
            self.problem(file, "signature", error.to_string());
            return Ok(None);
        }
        self.note(name, file, &role.signed, now);
        Ok(Some(role))
    }

    async fn document<T: Role + DeserializeOwned>(
        &mut self,
        source: &Source,
        file: &str,
        meta: Option<&Metafile>,
    ) -> Result<Option<Signed<T>>, SourceError> {
        let limit = if file.ends_with("targets.json") { LARGEST_TARGETS } else { LARGEST };
        let limit = meta.and_then(|meta| meta.length).unwrap_or(limit).min(LARGEST_TARGETS);
        let before = self.problems.len();
        let Some(bytes) = self.read(source, file, limit).await? else {
            if self.problems.len() == before {
                self.problem(file, "missing", "it is not there");
            }
            return Ok(None);
        };
        let hash = meta.and_then(|meta| meta.hashes.as_ref()).map(|hashes| hashes.sha256.to_vec());
        if hash.is_some_and(|hash| hash != Sha256::digest(&bytes)[..]) {
            self.problem(file, "hash", "its bytes are not the ones that were signed");
            return Ok(None);
        }
        let role: Signed<T> = match serde_json::from_slice(&bytes) {
            Ok(role) => role,
            Err(error) => {
                self.problem(file, "document", format!("it cannot be read: {error}"));
                return Ok(None);
            }
        };
        if meta.is_some_and(|meta| meta.version != role.signed.version()) {
            self.problem(file, "version", format!("it says that it is version {}", role.signed.version()));
            return Ok(None);
        }
        self.files.push((file.to_owned(), bytes));
        Ok(Some(role))
    }

    fn note(&mut self, name: &str, file: &str, role: &impl Role, now: Time) {
        let (version, expires) = (role.version().get(), role.expires());
        if expires <= now {
            self.problem(file, "expired", format!("it has not been valid since {expires}"));
        }
        self.roles.push(RoleState { role: name.to_owned(), version, expires: expires.to_string() });
    }

    fn take_targets(&mut self, file: &str, targets: &Targets) {
        for (name, target) in &targets.targets {
            if layout::is_safe(name.raw()) && name.raw() == name.resolved() {
                // A role above wins over those that it delegates to.
                self.all.entry(name.raw().to_owned()).or_insert_with(|| target.clone());
            } else {
                self.problem(file, "name", format!("the target {:?} could leave its folder", name.raw()));
            }
        }
    }

    async fn follow_delegations(
        &mut self,
        source: &Source,
        snapshot: &Snapshot,
        top: &Targets,
        now: Time,
    ) -> Result<(), SourceError> {
        let mut open = vec![(top.clone(), 0)];
        while let Some((parent, depth)) = open.pop() {
            let Some(delegations) = &parent.delegations else { continue };
            for role in &delegations.roles {
                if !layout::is_safe(&role.name) || role.name.contains('/') {
                    self.problem(
                        "metadata",
                        "name",
                        format!("the delegated role {:?} could leave its folder", role.name),
                    );
                    continue;
                }
                let Some(meta) = snapshot.meta.get(&format!("{}.json", role.name)) else {
                    self.problem("metadata", "missing", format!("no snapshot names the delegated role {}", role.name));
                    continue;
                };
                let file = format!("metadata/{}.{}.json", meta.version, role.name);
                let Some(signed) = self.document::<Targets>(source, &file, Some(meta)).await? else { continue };
                if let Err(error) = delegations.verify_role(&signed, &role.name) {
                    self.problem(&file, "signature", error.to_string());
                    continue;
                }
                self.note(&role.name, &file, &signed.signed, now);
                let mut allowed = signed.signed.clone();
                let only = Delegations { keys: HashMap::new(), roles: vec![role.clone()] };
                allowed.targets.retain(|name, _| only.target_is_delegated(name));
                self.take_targets(&file, &allowed);
                if depth < DEEPEST {
                    open.push((signed.signed, depth + 1));
                }
            }
        }
        Ok(())
    }
}
