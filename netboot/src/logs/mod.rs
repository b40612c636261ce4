//! What machines logged of their attempts: one file for each in `logs/` of the state folder, bounded per machine and in all.
//!
//! They stay in the store: why an attempt ended is in its events, which reach the region in any case, and a few hundred kilobytes for
//! each try would compete with them for a thin line. Nothing here is served: who may read the state folder reads them, with
//! `netboot logs`.

pub mod room;

use crate::{proto::mac::Mac, shared::lock};
use contracts::logs::{LARGEST, LogBundle, LogPart};
use room::{Kept, Pace};
use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Instant, SystemTime},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Below the state folder.
pub const FOLDER: &str = "logs";
/// Bundles that are read from the network at once.
pub const AT_ONCE: usize = 2;
/// Names in the folder that are looked at when the service starts.
const MOST_NAMES: usize = 4096;

/// Which bundle: there is one for each part of an attempt, the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The machine.
    pub mac: Mac,
    /// Its attempt.
    pub attempt: Uuid,
    /// Boot image or installed system.
    pub part: LogPart,
}

impl Key {
    fn name(self) -> String {
        format!("{}_{}_{}.json", self.mac.to_string().replace(':', "-"), self.attempt, self.part.as_str())
    }

    fn of_name(name: &str) -> Option<Self> {
        let mut words = name.strip_suffix(".json")?.split('_');
        let (mac, attempt, part) = (words.next()?, words.next()?, words.next()?);
        let part = [LogPart::Installer, LogPart::Installed].into_iter().find(|known| known.as_str() == part)?;
        let key = Self { mac: mac.replace('-', ":").parse().ok()?, attempt: attempt.parse().ok()?, part };
        // The same file has no two names.
        (words.next().is_none() && key.name() == name).then_some(key)
    }
}

/// Reads what a machine sent, and makes it tidy.
///
/// # Errors
/// When it is no bundle, or names no machine.
pub fn read(bytes: &[u8]) -> Result<(Mac, LogBundle), ReadError> {
    let mut bundle: LogBundle = contracts::read(bytes)?;
    bundle.tidy();
    let mac: Mac = bundle.mac.parse().map_err(|_| ReadError::NoMachine)?;
    bundle.mac = mac.to_string();
    Ok((mac, bundle))
}

/// Why a bundle was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not one.
    #[error(transparent)]
    Document(#[from] contracts::ReadError),
    /// Nobody's.
    #[error("the bundle names no machine by its MAC address")]
    NoMachine,
}

/// The files, and what is known of them.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    state: Mutex<State>,
    /// Places for bundles on their way.
    pub places: Semaphore,
}

#[derive(Debug)]
struct State {
    kept: BTreeMap<Key, Kept>,
    pace: Pace,
}

impl Logs {
    /// Looks at what is in the folder. When that fails, it begins with nothing, and says so.
    #[must_use]
    pub fn open(state: &Path) -> Self {
        let folder = state.join(FOLDER);
        let kept = look(&folder).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("{} cannot be read: {error}", folder.display());
            }
            BTreeMap::new()
        });
        Self {
            folder,
            state: Mutex::new(State { kept, pace: Pace::new(Instant::now()) }),
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether this machine may send one now.
    #[must_use]
    pub fn may(&self, mac: Mac) -> bool {
        lock(&self.state).pace.may(Instant::now(), mac)
    }

    /// Keeps one, and removes those that give way. It waits for the disk.
    ///
    /// # Errors
    /// When it cannot be written: the one before it is still there then.
    pub fn keep(&self, mac: Mac, bundle: &LogBundle) -> io::Result<()> {
        let key = Key { mac, attempt: bundle.attempt, part: bundle.part };
        let bytes = serde_json::to_vec(bundle)?;
        let mut state = lock(&self.state);
        let length = bytes.len() as u64;
        for gone in room::give_way(&state.kept, key, length) {
            match fs::remove_file(self.folder.join(gone.name())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => drop(state.kept.remove(&gone)),
            }
        }
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.folder.join(key.name())).map_err(|error| error.error)?;
        fs::File::open(&self.folder)?.sync_all()?;
        state.kept.insert(key, Kept { bytes: length, at: SystemTime::now() });
        Ok(())
    }
}

/// What is in the folder; what a power cut left half is removed.
fn look(folder: &Path) -> io::Result<BTreeMap<Key, Kept>> {
    let mut kept = BTreeMap::new();
    for entry in fs::read_dir(folder)?.take(MOST_NAMES).flatten() {
        let name = entry.file_name();
        let Some(key) = name.to_str().and_then(Key::of_name) else {
            if name.to_string_lossy().starts_with(".tmp") {
                let _ = fs::remove_file(entry.path());
            }
            continue;
        };
        let data = entry.metadata()?;
        kept.insert(key, Kept { bytes: data.len(), at: data.modified()? });
    }
    Ok(kept)
}

/// Everything that is kept below a state folder, newest first. For the command line: the service need not run.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(state: &Path) -> io::Result<Vec<LogBundle>> {
    let folder = state.join(FOLDER);
    let kept = match names(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let mut bundles = Vec::new();
    for key in kept {
        let file = match fs::File::open(folder.join(key.name())) {
            // It has just given way.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        // By when it came: the machine's own clock may be years off.
        let (came, mut bytes) = (file.metadata()?.modified()?, Vec::new());
        file.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
        if let Ok((_, bundle)) = read(&bytes) {
            bundles.push((came, bundle));
        }
    }
    bundles.sort_by_key(|(came, _)| std::cmp::Reverse(*came));
    Ok(bundles.into_iter().map(|(_, bundle)| bundle).collect())
}

fn names(folder: &Path) -> io::Result<Vec<Key>> {
    let entries = fs::read_dir(folder)?.take(MOST_NAMES).flatten();
    Ok(entries.filter_map(|entry| Key::of_name(entry.file_name().to_str()?)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{event::StepStatus, logs::LogEnd, step::Step};
    use proptest::prelude::*;
    use time::OffsetDateTime;

    fn bundle(attempt: u128, bytes: usize) -> LogBundle {
        LogBundle {
            version: 1,
            attempt: Uuid::from_u128(attempt),
            mac: "02:00:00:00:00:01".into(),
            part: LogPart::Installer,
            agent: "0.1.0".into(),
            time: OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(attempt as i64),
            end: LogEnd {
                step: Some(Step::Plan),
                status: StepStatus::Failed,
                code: Some("foreign-data".into()),
                message: "sda holds data".into(),
            },
            lines: "x".repeat(bytes),
            left_out: 0,
            kernel: String::new(),
        }
    }

    #[test]
    fn what_is_kept_outlives_a_restart_and_stays_bounded() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(list(state.path()).unwrap(), [], "nothing was ever kept");
        let logs = Logs::open(state.path());
        for attempt in 1..=20 {
            let sent = serde_json::to_vec(&bundle(attempt, 100_000)).unwrap();
            let (mac, read) = read(&sent).unwrap();
            logs.keep(mac, &read).unwrap();
        }
        fs::write(state.path().join("logs/.tmpHALF"), "half").unwrap();
        fs::write(state.path().join("logs/notes.txt"), "of a person").unwrap();
        drop(logs);
        let again = Logs::open(state.path());
        assert_eq!(lock(&again.state).kept.len(), room::MOST_PER_MACHINE);
        again.keep(Mac([2, 0, 0, 0, 0, 1]), &bundle(21, 10)).unwrap();
        let attempts: Vec<_> = list(state.path()).unwrap().iter().map(|b| b.attempt.as_u128()).collect();
        assert_eq!(attempts, [21, 20, 19, 18, 17, 16, 15, 14]);
        let files = fs::read_dir(state.path().join("logs")).unwrap().count();
        assert_eq!(files, 9, "what was half is gone, what is a person's stays");
    }

    #[test]
    fn a_bundle_of_nobody_is_refused() {
        let mut nobody = bundle(1, 0);
        nobody.mac = "../../etc".into();
        assert!(matches!(read(&serde_json::to_vec(&nobody).unwrap()), Err(ReadError::NoMachine)));
        assert!(read(b"[]").is_err());
    }

    proptest! {
        #[test]
        fn a_name_comes_back_and_any_other_is_not_ours(name in "[0-9a-f:_./-]{0,80}", mac: [u8; 6], attempt: u128) {
            let key = Key { mac: Mac(mac), attempt: Uuid::from_u128(attempt), part: LogPart::Installed };
            prop_assert_eq!(Key::of_name(&key.name()), Some(key));
            if let Some(key) = Key::of_name(&name) {
                prop_assert_eq!(key.name(), name);
            }
        }
    }
}
