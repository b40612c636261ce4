//! Bundles that could not be sent, as files in `logs/` of the agent's folder on the state partition.

use super::{Teller, Waiting, bundle, written};
use crate::{console, durable, install::state::Mounted, report::Reporter, retry::Backoff};
use anyhow::Result;
use contracts::logs::{LARGEST, LogBundle, LogPart};
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// The folder.
pub const FOLDER: &str = "logs";
/// More attempts than this in a row that reach nobody tell nothing new; the oldest go.
pub const MOST: usize = 4;

fn path_of(folder: &Path, bundle: &LogBundle) -> PathBuf {
    folder.join(format!("{}-{}.json", bundle.attempt, bundle.part.as_str()))
}

/// Writes one down, and makes room for it.
///
/// # Errors
/// With the file that could not be written.
pub fn keep(folder: &Path, bundle: &LogBundle) -> Result<()> {
    let path = path_of(folder, bundle);
    durable::write(&path, &serde_json::to_vec(bundle)?, 0o600)?;
    let others: Vec<_> = files(folder).into_iter().filter(|other| *other != path).collect();
    for old in others.iter().take((others.len() + 1).saturating_sub(MOST)) {
        fs::remove_file(old)?;
    }
    Ok(())
}

/// All that can be read, oldest first. What cannot be read is removed: nobody else will want it.
#[must_use]
pub fn all(folder: &Path) -> Vec<Waiting> {
    let mut found = Vec::new();
    for path in files(folder) {
        match read(&path) {
            Some(bundle) => found.push(Waiting { bundle, file: Some(path) }),
            None => drop(fs::remove_file(&path)),
        }
    }
    found
}

fn read(path: &Path) -> Option<LogBundle> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(LARGEST as u64 + 1).read_to_end(&mut bytes).ok()?;
    let mut bundle: LogBundle = contracts::read(&bytes).ok()?;
    bundle.tidy();
    Some(bundle)
}

/// The files of the folder, oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let aged = entries.filter_map(|entry| {
        let path = entry.path();
        let is_one = path.extension().is_some_and(|extension| extension == "json");
        let age = entry.metadata().and_then(|data| data.modified()).ok()?;
        is_one.then_some((age, path))
    });
    let mut aged: Vec<_> = aged.collect();
    aged.sort();
    aged.into_iter().map(|(_, path)| path).collect()
}

/// What the installer could not send goes onto the state partition, when it can be mounted.
pub fn keep_on(node: &Path, teller: &Teller) {
    let kept = Mounted::new(node, "ext4").and_then(|mounted| {
        let folder = mounted.path().join("shelfboot").join(FOLDER);
        teller.unsent().iter().try_for_each(|bundle| keep(&folder, bundle))?;
        mounted.unmount()
    });
    if let Err(error) = kept {
        console::line(&format!("what was logged so far cannot be kept for the store: {error:#}"));
    }
}

/// What an attempt before this one left on a half install of ours, before its state partition is made anew.
#[must_use]
pub fn take_from(node: &Path) -> Vec<Waiting> {
    let Ok(mounted) = Mounted::read_only(node, "ext4") else { return Vec::new() };
    let mut found = all(&mounted.path().join("shelfboot").join(FOLDER));
    found.iter_mut().for_each(|waiting| waiting.file = None);
    found
}

/// In the installed system: what was said is on the disk from time to time until `teller` has sent it, so that a machine that dies
/// tells at its next start. Less and less often, because a machine that waits for weeks must not wear out its disk.
pub async fn write_down(folder: PathBuf, reporter: Reporter, teller: Teller) {
    let mut pause = Backoff::new(Duration::from_secs(15), Duration::from_secs(600));
    let mut before = 0;
    loop {
        tokio::time::sleep(pause.next_wait()).await;
        let now = written();
        let own = bundle(&reporter, LogPart::Installed);
        if super::has_sent(&teller, &own.end) {
            continue;
        }
        if now != before && keep(&folder, &own).is_ok() {
            before = now;
        }
    }
}

/// The attempt under way needs no file any more.
pub fn forget(folder: &Path, reporter: &Reporter) {
    let _ = fs::remove_file(path_of(folder, &bundle(reporter, LogPart::Installed)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::step::Step;
    use uuid::Uuid;

    fn logged(attempt: u128) -> LogBundle {
        let reporter = Reporter::new(Uuid::from_u128(attempt));
        reporter.failed(Step::Join, "join", "the region does not answer");
        bundle(&reporter, LogPart::Installed)
    }

    #[test]
    fn the_last_few_attempts_are_kept_and_nobody_else_may_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(FOLDER);
        for attempt in 1..=6_u128 {
            keep(&folder, &logged(attempt)).unwrap();
            std::thread::sleep(Duration::from_millis(15));
        }
        keep(&folder, &logged(6)).unwrap();
        let found = all(&folder);
        assert_eq!(found.iter().map(|w| w.bundle.attempt.as_u128()).collect::<Vec<_>>(), [3, 4, 5, 6]);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(found[0].file.as_ref().unwrap()).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.join("x.json"), "{").unwrap();
        assert_eq!(all(&folder).len(), 4);
        assert!(!folder.join("x.json").exists(), "what cannot be read does not stay for ever");
    }
}
