//! `image-builder lock`.

use crate::{
    cache::Cache,
    cli::LockArgs,
    locking::{self, LockingError},
    packages::{
        lock::{self, Lock},
        lock_diff,
    },
    pipeline::{self, BuildError},
    report::{Reporter, Steps, mebibytes},
};
use std::path::Path;
use time::OffsetDateTime;

const STEPS: &[(&str, &str)] = &[("lock", "Packages: versions and digests")];

/// Resolves a template and writes its lock, or says what would change. Returns what goes to standard output.
///
/// # Errors
/// See [`BuildError`].
pub async fn run(
    arguments: &LockArgs,
    variable: impl Fn(&str) -> Option<String>,
    now: OffsetDateTime,
    reporter: &mut dyn Reporter,
) -> Result<String, BuildError> {
    let template = profiles::load(&arguments.template, arguments.settings.as_deref());
    let template = template.map_err(|error| BuildError::Template(Box::new(error)))?;
    let place = arguments.out.clone().unwrap_or_else(|| lock::place(&arguments.template));
    let old = existing(&place, arguments.diff)?;
    pipeline::check_host()?;
    let origin = &arguments.origin;
    let mirrors = pipeline::mirrors(origin.debian_mirror.as_deref(), origin.debian_security_mirror.as_deref())?;
    let cache = Cache::open(&origin.cache_folder(variable)).map_err(BuildError::Cache)?;
    let mut steps = Steps::new(reporter, STEPS);
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let new = locking::renew(&cache, &template, &mirrors, now, steps.begin()).await?;
    let bytes: u64 = new.packages().map(|package| package.bytes).sum();
    steps.done(&format!("{} packages, {}", new.packages().count(), mebibytes(bytes)));
    if arguments.diff {
        let changes = old.map(|old| lock_diff::changes(&old, &new)).unwrap_or_default();
        return if arguments.json {
            serde_json::to_string_pretty(&changes).map_err(BuildError::Json)
        } else {
            Ok(lock_diff::table(&changes))
        };
    }
    // The time is part of every image that is built from the lock: without a change it stays.
    let same = |old: &Lock| (&old.image, &old.tools, &old.request) == (&new.image, &new.tools, &new.request);
    if !old.as_ref().is_some_and(same) {
        new.write(&place)?;
    }
    Ok(place.display().to_string())
}

/// The lock that is there. One that cannot be read stands in the way of a comparison, not of a new one.
fn existing(place: &Path, needed: bool) -> Result<Option<Lock>, LockingError> {
    match (place.exists(), needed) {
        (false, true) => Err(LockingError::Missing(place.to_owned())),
        (false, false) => Ok(None),
        (true, true) => Ok(Some(Lock::read(place)?)),
        (true, false) => Ok(Lock::read(place).ok()),
    }
}
