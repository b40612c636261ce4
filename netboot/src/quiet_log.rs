//! Keeps a repeating line out of the log: each pair of subject and line is written once a minute at most.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_secs(60);
const MOST: usize = 2048;

/// What was written lately.
#[derive(Debug, Default)]
pub struct QuietLog {
    written: Mutex<HashMap<(String, String), (Instant, u64)>>,
}

impl QuietLog {
    /// `Some(n)` when the line is due; `n` times it was kept back since it was last written.
    #[must_use]
    pub fn due(&self, now: Instant, subject: &str, line: &str) -> Option<u64> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() >= MOST {
            written.retain(|_, (at, _)| now.duration_since(*at) < EVERY);
        }
        if written.len() >= MOST {
            return None;
        }
        let entry = written.entry((subject.to_owned(), line.to_owned())).or_insert((now, u64::MAX));
        if entry.1 == u64::MAX {
            entry.1 = 0;
            return Some(0);
        }
        if now.duration_since(entry.0) < EVERY {
            entry.1 += 1;
            return None;
        }
        entry.0 = now;
        Some(std::mem::take(&mut entry.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_once_a_minute_with_its_count() {
        let (log, now) = (QuietLog::default(), Instant::now());
        assert_eq!(log.due(now, "a", "x"), Some(0));
        assert_eq!(log.due(now, "a", "y"), Some(0));
        assert_eq!(log.due(now + EVERY / 2, "a", "x"), None);
        assert_eq!(log.due(now + EVERY, "a", "x"), Some(1));
    }
}
