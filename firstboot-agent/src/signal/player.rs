//! What is heard and seen at a moment. Pure: time comes from outside.
//!
//! A group of beeps that has begun is heard to its end, so that three long ones are never two. It is bounded how many there are in an
//! hour: a machine that changes its mind every minute must not drive a shop mad.

use super::{
    doing::Doing,
    pattern::{self, BETWEEN, Beeps, MOST_IN_AN_HOUR},
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

const HOUR: Duration = Duration::from_secs(3600);

/// What is to be heard and seen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// What the machine is doing, once it is known.
    pub doing: Option<Doing>,
    /// The pitch in hertz; `None` is silence.
    pub tone: Option<u16>,
    /// The light is on or off; `None`: as it was before.
    pub light: Option<bool>,
    /// After this time something changes. `None`: nothing does by itself.
    pub until: Option<Duration>,
}

/// Plays.
#[derive(Debug, Default)]
pub struct Player {
    doing: Option<Doing>,
    /// Since when it has been doing that.
    since: Option<Instant>,
    /// The next group, and how many there are still to come.
    next: Option<(Instant, Beeps, u32)>,
    /// The group that is heard, and when it began.
    playing: Option<(Instant, Beeps)>,
    /// When the groups of the last hour began.
    heard: VecDeque<Instant>,
}

impl Player {
    /// The machine does this from now on.
    pub fn hear(&mut self, now: Instant, doing: Doing) {
        if self.doing == Some(doing) {
            return;
        }
        (self.doing, self.since) = (Some(doing), Some(now));
        let begin = self.playing.map_or(now, |(begun, beeps)| now.max(begun + beeps.length() + BETWEEN));
        self.next = pattern::beeps(doing).map(|beeps| (begin, beeps, beeps.times));
    }

    /// True while a group of beeps has begun and not ended.
    #[must_use]
    pub const fn is_playing(&self) -> bool {
        self.playing.is_some()
    }

    /// What is heard and seen now. Whoever asks late hears a group late, and whole.
    pub fn at(&mut self, now: Instant) -> Signal {
        let mut tone = self.tone(now);
        if self.playing.is_none() {
            self.begin(now);
            tone = self.tone(now);
        }
        let blinks = self.doing.map(pattern::blinks).zip(self.since);
        let light = blinks.map_or((None, None), |(blinks, since)| {
            let (lit, next) = blinks.at(now.saturating_duration_since(since));
            (lit, next.map(|next| since + next))
        });
        let group = self.next.filter(|_| self.playing.is_none()).map(|(at, _, _)| at);
        let until = [tone.1, light.1, group].into_iter().flatten().min();
        let until = until.map(|until| until.saturating_duration_since(now));
        Signal { doing: self.doing, tone: tone.0, light: light.0, until }
    }

    /// The pitch, and when it changes.
    fn tone(&mut self, now: Instant) -> (Option<u16>, Option<Instant>) {
        let Some((begun, beeps)) = self.playing else { return (None, None) };
        let (tone, next) = beeps.at(now.saturating_duration_since(begun));
        if next.is_none() {
            self.playing = None;
        }
        (tone, next.map(|next| begun + next))
    }

    /// Begins the next group when its time has come.
    fn begin(&mut self, now: Instant) {
        let Some((at, beeps, left)) = self.next.filter(|(at, _, _)| *at <= now) else { return };
        self.next = (left > 1).then(|| (at.max(now) + beeps.every, beeps, left - 1));
        while self.heard.front().is_some_and(|begun| now.saturating_duration_since(*begun) >= HOUR) {
            self.heard.pop_front();
        }
        if self.heard.len() < MOST_IN_AN_HOUR {
            self.heard.push_back(now);
            self.playing = Some((now, beeps));
        }
    }
}

#[cfg(test)]
mod tests;
