//! Keeps a repeating line out of the log: each pair of subject and line is written once a minute at most. Lines that were never
//! written are bounded too, since anybody on the LAN can make up subjects.

use crate::shared::lock;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// A line is not written again before.
const EVERY: Duration = Duration::from_secs(60);
/// Lines that are remembered. For another one the one that was written first is forgotten.
pub const MOST: usize = 2048;
/// Lines a minute, all in all.
pub const A_MINUTE: u32 = 2048;

/// What was written lately.
#[derive(Debug, Default)]
pub struct QuietLog(Mutex<Lines>);

type Key = Arc<(String, String)>;

#[derive(Debug, Default)]
struct Lines {
    known: HashMap<Key, Line>,
    /// The same lines in the order in which they were written.
    order: BTreeMap<u64, Key>,
    next: u64,
    /// The minute that is counted, what was written in it, and what was not.
    minute: Option<Instant>,
    written: u32,
    lost: u64,
}

#[derive(Debug)]
struct Line {
    at: Instant,
    place: u64,
    kept_back: u64,
}

impl QuietLog {
    /// `Some(n)` when the line is due; `n` times it was kept back since it was last written.
    #[must_use]
    pub fn due(&self, now: Instant, subject: &str, line: &str) -> Option<u64> {
        let (due, lost) = lock(&self.0).due(now, subject, line);
        if lost > 0 {
            tracing::warn!(lost, "{lost} lines were not written: more than {A_MINUTE} came within a minute");
        }
        due
    }
}

impl Lines {
    /// Whether the line is due, and how many lines the minute that has just ended has lost.
    fn due(&mut self, now: Instant, subject: &str, line: &str) -> (Option<u64>, u64) {
        let mut lost = 0;
        if self.minute.is_none_or(|begin| now.saturating_duration_since(begin) >= EVERY) {
            (self.minute, self.written) = (Some(now), 0);
            lost = std::mem::take(&mut self.lost);
        }
        let key = Arc::new((subject.to_owned(), line.to_owned()));
        let kept_back = match self.known.get_mut(&key) {
            Some(known) if now.saturating_duration_since(known.at) < EVERY => {
                known.kept_back += 1;
                return (None, lost);
            }
            Some(known) => known.kept_back,
            None => 0,
        };
        if self.written >= A_MINUTE {
            self.lost += 1;
            return (None, lost);
        }
        self.written += 1;
        self.note(now, key);
        (Some(kept_back), lost)
    }

    /// The line is written now.
    fn note(&mut self, now: Instant, key: Key) {
        let place = self.next;
        self.next += 1;
        if let Some(before) = self.known.insert(Arc::clone(&key), Line { at: now, place, kept_back: 0 }) {
            self.order.remove(&before.place);
        }
        self.order.insert(place, key);
        if self.order.len() > MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.known.remove(&oldest);
        }
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
        assert_eq!(log.due(now + EVERY * 2, "a", "x"), Some(0));
    }

    #[test]
    fn a_new_line_is_written_when_all_places_are_taken_and_the_oldest_is_forgotten() {
        let (log, now) = (QuietLog::default(), Instant::now());
        for number in 0..MOST {
            assert_eq!(log.due(now, &number.to_string(), "x"), Some(0));
        }
        // The next minute: nobody has come again, and nothing was forgotten.
        let later = now + EVERY;
        assert_eq!(log.due(later, "new", "x"), Some(0));
        assert_eq!(log.due(later, "new", "x"), None);
        let lines = lock(&log.0);
        assert_eq!((lines.known.len(), lines.order.len()), (MOST, MOST));
        assert!(!lines.known.contains_key(&("0".to_owned(), "x".to_owned())));
        assert!(lines.known.contains_key(&("1".to_owned(), "x".to_owned())));
    }

    #[test]
    fn made_up_subjects_get_a_bounded_number_of_lines_and_the_lost_ones_are_counted() {
        let (mut log, now) = (Lines::default(), Instant::now());
        let written = (0..10 * A_MINUTE).filter(|n| log.due(now, &n.to_string(), "x").0.is_some()).count();
        assert_eq!(written, A_MINUTE as usize);
        assert_eq!(log.due(now + EVERY, "real", "x"), (Some(0), u64::from(9 * A_MINUTE)));
        assert_eq!(log.due(now + EVERY, "next", "x"), (Some(0), 0));
        assert!(log.known.len() <= MOST);
    }
}
