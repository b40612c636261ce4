//! The pause at the first start: the LAN is listened to before netboot answers anybody, so that the log names the other
//! servers before it names the machines.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// How long. Firmware asks again after two to four seconds.
const LISTEN: Duration = Duration::from_secs(2);
/// A restart within this time goes on at once: the LAN was listened to.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Whether netboot still only listens.
#[derive(Debug)]
pub struct Patience {
    until: Option<Instant>,
    mark: PathBuf,
}

impl Patience {
    /// Begins to listen, unless the mark in the state folder says that this was done lately.
    #[must_use]
    pub fn new(state: &Path, now: Instant) -> Self {
        let mark = state.join("surveyed");
        let age = std::fs::metadata(&mark)
            .and_then(|m| m.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        let until = age.is_none_or(|age| age > FRESH).then_some(now + LISTEN);
        Self { until, mark }
    }

    /// For ports where nothing is to be learned by waiting.
    #[must_use]
    pub fn none() -> Self {
        Self { until: None, mark: PathBuf::new() }
    }

    /// Until when netboot only listens.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The pause is over. The next start within a day does without.
    pub fn over(&mut self) {
        self.until = None;
        // Losing the mark costs two seconds at the next start, so nobody waits for the disk here.
        if let Err(error) = std::fs::write(&self.mark, "") {
            tracing::debug!("{} cannot be written: {error}", self.mark.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_listens_and_the_next_does_not() {
        let (folder, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut first = Patience::new(folder.path(), now);
        assert_eq!(first.until(), Some(now + LISTEN));
        first.over();
        assert_eq!((first.until(), Patience::new(folder.path(), now).until()), (None, None));
        let old = SystemTime::now() - FRESH - Duration::from_secs(1);
        let mark = std::fs::File::options().write(true).open(folder.path().join("surveyed")).unwrap();
        mark.set_modified(old).unwrap();
        assert_eq!(Patience::new(folder.path(), now).until(), Some(now + LISTEN));
    }
}
