//! How far a transfer is, and how fast it goes.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::shared::lock;

/// The rate is that of about this time.
const WINDOW: Duration = Duration::from_secs(10);

/// The rate of the last seconds, from a count that grows.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Begin of the window before, of this one, and the counts at their begins.
    marks: [Option<(Duration, u64)>; 2],
}

impl Meter {
    /// Bytes per second when the count is this; `None` before there is anything to measure.
    pub fn rate(&mut self, now: Duration, count: u64) -> Option<u64> {
        let [before, begin] = &mut self.marks;
        match *begin {
            None => *begin = Some((now, count)),
            Some((at, _)) if now.saturating_sub(at) > WINDOW => (*before, *begin) = (*begin, Some((now, count))),
            Some(_) => {}
        }
        let (at, from) = self.marks.iter().flatten().next()?;
        let passed = now.saturating_sub(*at).as_secs_f64();
        (passed >= 0.5).then(|| (count.saturating_sub(*from) as f64 / passed) as u64)
    }
}

#[derive(Debug, Default)]
struct State {
    what: String,
    bytes: u64,
    /// Bytes of objects that are finished, or were here.
    base: u64,
    /// Bytes of the object under way.
    current: u64,
    fetched: u64,
    reused: u64,
    meter: Meter,
}

/// A set of objects that is being fetched.
#[derive(Debug)]
pub struct Progress {
    begin: Instant,
    state: Mutex<State>,
}

/// What can be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What for.
    pub what: String,
    /// Bytes of all of it.
    pub bytes: u64,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes of these that came over the line.
    pub fetched: u64,
    /// Bytes of these that an older image had already.
    pub reused: u64,
    /// Bytes per second over the line, lately.
    pub rate: Option<u64>,
}

impl Progress {
    /// Something of this many bytes, of which `here` are here.
    #[must_use]
    pub fn new(what: impl Into<String>, bytes: u64, here: u64) -> Self {
        let state = State { what: what.into(), bytes, base: here, ..State::default() };
        Self { begin: Instant::now(), state: Mutex::new(state) }
    }

    /// The object under way has this many bytes now.
    pub fn have(&self, bytes: u64) {
        lock(&self.state).current = bytes;
    }

    /// So many more came over the line.
    pub fn fetched(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.current += bytes;
        state.fetched += bytes;
    }

    /// So many more were taken from an older image.
    pub fn reused(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.current += bytes;
        state.reused += bytes;
    }

    /// The object under way is whole.
    pub fn finished(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.base += bytes;
        state.current = 0;
    }

    /// Bytes per second over the line since it began; `None` when too little came to say.
    #[must_use]
    pub fn average(&self) -> Option<u64> {
        let fetched = lock(&self.state).fetched;
        (fetched > 64 << 10).then(|| (fetched as f64 / self.begin.elapsed().as_secs_f64().max(0.001)) as u64)
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut state = lock(&self.state);
        let (now, fetched) = (self.begin.elapsed(), state.fetched);
        let rate = state.meter.rate(now, fetched);
        let done = (state.base + state.current).min(state.bytes);
        Snapshot { what: state.what.clone(), bytes: state.bytes, done, fetched, reused: state.reused, rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_last_seconds() {
        let mut meter = Meter::default();
        let second = Duration::from_secs;
        assert_eq!(meter.rate(second(0), 0), None);
        assert_eq!(meter.rate(second(5), 5000), Some(1000));
        for now in 6..=40 {
            meter.rate(second(now), 5000 + (now - 5) * 100);
        }
        assert_eq!(meter.rate(second(40), 8500), Some(100), "it is slower now");
        assert!(meter.rate(second(60), 8500).unwrap() < 100);
    }

    #[test]
    fn bytes_are_counted_by_where_they_came_from() {
        let progress = Progress::new("till 2", 100, 20);
        progress.have(10);
        progress.fetched(15);
        progress.reused(5);
        let seen = progress.snapshot();
        assert_eq!((seen.done, seen.fetched, seen.reused), (50, 15, 5));
        progress.finished(40);
        assert_eq!(progress.snapshot().done, 60);
    }
}
