//! What is known of the two slots, and what a start means. Pure: the boot loader counts, this decides.
//!
//! A version that was just written is on trial: the boot loader starts it as long as it has tries, and takes one away each time.
//! Whoever is started looks at how the start before ended. An end with a reason (a kernel panic, a watchdog, a deadline) costs its
//! try. An end without one is a plug that was pulled, or a machine that stood still until somebody pulled it: the try is given
//! back, but only [`GIVEN_BACK_MOST`] times, so that a version that never says a word loses too.

use serde::{Deserialize, Serialize};

/// Starts that a new version has to become healthy.
pub const TRIES: u32 = 3;
/// Tries that are given back in one trial, because nothing says why the start ended.
pub const GIVEN_BACK_MOST: u32 = 6;
/// Starts of the good version although the trial had tries left and was never started: a boot loader that does not count.
pub const PASSED_OVER_MOST: u32 = 2;
/// More of a reason than this is not kept.
const WORDS_MOST: usize = 600;

/// One image on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The image's version.
    pub image_version: String,
    /// Its root hash, which says in which slot it is.
    pub root_hash: String,
}

/// Why a start ended, or a version lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A word for machines.
    pub code: String,
    /// A sentence for people.
    pub words: String,
}

impl Reason {
    /// A reason; the words are cut where they are too long to keep.
    #[must_use]
    pub fn new(code: &str, words: &str) -> Self {
        Self { code: code.to_owned(), words: words.chars().take(WORDS_MOST).collect() }
    }
}

/// A version on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub to: Version,
    /// Starts that ended with a reason.
    pub explained: u32,
    /// Tries that were given back.
    pub given_back: u32,
    /// Starts of the good version although this one was to be started first.
    pub passed_over: u32,
    /// The last reason.
    pub reason: Option<Reason>,
    /// The start under way or last, until its end is explained: the kernel's boot id.
    pub start: Option<String>,
    /// Its boot files are on the disk. Until then nothing was tried.
    pub armed: bool,
    /// Why the version before could not go on with what this one leaves: its state changes format, and the template says that
    /// going back is not safe.
    #[serde(default)]
    pub unsafe_step: Option<String>,
    /// It was about to change that state: there is no way back any more.
    pub one_way: bool,
}

/// A version that lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which.
    pub version: Version,
    /// Why.
    pub reason: Reason,
    /// The store has heard of it.
    pub told: bool,
}

/// `/state/shelfboot/slots.json`. Not there before the first update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// [`contracts::VERSION`].
    pub version: u32,
    /// The version that counts.
    pub good: Version,
    /// The one on trial.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// The last one that lost. It is not tried again by itself.
    #[serde(default)]
    pub failed: Option<Failed>,
}

/// How often the boot loader has started the trial, and may still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Starts left.
    pub left: u32,
    /// Starts that were counted.
    pub done: u32,
}

impl Counter {
    /// Of a trial that was not started yet.
    pub const FRESH: Self = Self { left: TRIES, done: 0 };
}

/// What the hardware says about the end of the start before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The watchdog restarted the machine.
    pub watchdog: bool,
    /// The kernel left its last words.
    pub panic: bool,
}

impl Evidence {
    fn reason(self) -> Option<Reason> {
        if self.panic {
            return Some(Reason::new("kernel-panic", "its kernel stopped with a panic"));
        }
        self.watchdog.then(|| Reason::new("watchdog", "it stood still until the machine's watchdog restarted it"))
    }
}

/// What is seen when a system starts.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The root hash of what was started.
    pub root_hash: &'a str,
    /// This start.
    pub boot_id: &'a str,
    /// The boot loader's count for the trial. `None` where the trial has no counted entry.
    pub counter: Option<Counter>,
    /// See [`Evidence`].
    pub evidence: Evidence,
}

/// What a start means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Began {
    /// The good version, and there is no other.
    Good,
    /// The good version, and another is to be tried: the count is to be this.
    GoodBeforeTrial(Counter),
    /// The good version again, because the other lost. [`Slots::failed`] says why.
    FellBack,
    /// The version on trial; the count is to be this.
    Trial(Counter),
    /// The version on trial, which is not counted any more: it was committed, or there is no way back.
    TrialForGood,
    /// Neither: a version that is not to be started any more.
    Stale,
}

impl Slots {
    /// The name below the agent's folder.
    pub const FILE: &'static str = "slots.json";

    /// A machine with one version.
    #[must_use]
    pub const fn new(good: Version) -> Self {
        Self { version: contracts::VERSION, good, trial: None, failed: None }
    }

    /// Puts a version on trial. One that was on trial before is forgotten.
    #[must_use]
    pub fn on_trial(&self, to: Version, unsafe_step: Option<String>) -> Self {
        let trial = Trial {
            to,
            explained: 0,
            given_back: 0,
            passed_over: 0,
            reason: None,
            start: None,
            armed: false,
            unsafe_step,
            one_way: false,
        };
        Self { trial: Some(trial), ..self.clone() }
    }

    /// The boot files of the trial are on the disk.
    #[must_use]
    pub fn armed(&self) -> Self {
        let mut slots = self.clone();
        if let Some(trial) = &mut slots.trial {
            trial.armed = true;
        }
        slots
    }

    /// The version that a machine is to start when nobody counts any more.
    #[must_use]
    pub fn counts(&self) -> &Version {
        self.trial.as_ref().filter(|trial| trial.one_way).map_or(&self.good, |trial| &trial.to)
    }

    /// True for a running version that is on trial.
    #[must_use]
    pub fn is_trial(&self, root_hash: &str) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.to.root_hash == root_hash)
    }

    /// A system starts.
    #[must_use]
    pub fn begin(&self, seen: &Seen<'_>) -> (Self, Began) {
        let mut slots = self.clone();
        let Some(trial) = &mut slots.trial else {
            let began = if seen.root_hash == self.good.root_hash { Began::Good } else { Began::Stale };
            return (slots, began);
        };
        // What the hardware says is about the last start, and only once.
        if let (Some(_), Some(reason)) = (trial.start.take(), seen.evidence.reason()) {
            trial.explained = trial.explained.saturating_add(1);
            trial.reason = Some(reason);
        }
        if !trial.armed && seen.counter.is_none() && seen.root_hash == self.good.root_hash {
            // A power cut before its boot files were there. It is fetched again, from what is on the disk.
            slots.trial = None;
            return (slots, Began::Good);
        }
        trial.armed = true;
        if seen.root_hash == trial.to.root_hash {
            let began = trial.started(seen);
            return (slots, began);
        }
        if seen.root_hash != slots.good.root_hash {
            return (slots, Began::Stale);
        }
        if trial.one_way {
            // The boot files of the version before are taken away first, so somebody has put them back.
            return (slots, Began::Stale);
        }
        match trial.passed(seen.counter) {
            Ok(counter) => (slots, Began::GoodBeforeTrial(counter)),
            Err(reason) => {
                slots.lose(reason);
                (slots, Began::FellBack)
            }
        }
    }

    /// This start of the trial is given up. To be kept before the machine restarts.
    #[must_use]
    pub fn give_up(&self, reason: Reason) -> Self {
        let mut slots = self.clone();
        if let Some(trial) = &mut slots.trial
            && trial.start.take().is_some()
        {
            trial.explained = trial.explained.saturating_add(1);
            trial.reason = Some(reason);
        }
        slots
    }

    /// The trial's services are about to start. Where the step is unsafe there is no way back from here on.
    #[must_use]
    pub fn services_start(&self) -> Self {
        let mut slots = self.clone();
        if let Some(trial) = &mut slots.trial {
            trial.one_way |= trial.unsafe_step.is_some();
        }
        slots
    }

    /// The trial is healthy: it is the good version from now on.
    #[must_use]
    pub fn commit(&self) -> Self {
        match &self.trial {
            Some(trial) => Self { good: trial.to.clone(), trial: None, ..self.clone() },
            None => self.clone(),
        }
    }

    /// The trial is over without a success.
    pub fn lose(&mut self, reason: Reason) {
        if let Some(trial) = self.trial.take() {
            self.failed = Some(Failed { version: trial.to, reason, told: false });
        }
    }
}

impl Trial {
    /// It was started.
    fn started(&mut self, seen: &Seen<'_>) -> Began {
        self.start = Some(seen.boot_id.to_owned());
        self.passed_over = 0;
        let Some(counter) = seen.counter.filter(|_| !self.one_way) else { return Began::TrialForGood };
        // This start is counted already, and has not ended.
        let give = self.give(counter.done.saturating_sub(1));
        Began::Trial(Counter { left: counter.left.saturating_add(give), done: counter.done - give.min(counter.done) })
    }

    /// The good version was started instead. The count that it goes on with, or why it is over.
    fn passed(&mut self, counter: Option<Counter>) -> Result<Counter, Reason> {
        let Some(counter) = counter else {
            return Err(Reason::new("boot-files-lost", "its boot files are gone"));
        };
        let give = self.give(counter.done);
        if counter.left == 0 && give == 0 {
            return Err(self.reason.take().unwrap_or_else(|| {
                Reason::new("start-cut-off", "none of its starts came to an end, and none left a word why")
            }));
        }
        if counter.left > 0 && counter.done == 0 {
            self.passed_over = self.passed_over.saturating_add(1);
            if self.passed_over > PASSED_OVER_MOST {
                return Err(Reason::new("not-tried", "the boot loader never started it"));
            }
        }
        Ok(Counter { left: counter.left.saturating_add(give), done: counter.done - give.min(counter.done) })
    }

    /// How many of the starts that ended get their try back.
    fn give(&mut self, ended: u32) -> u32 {
        let give = ended.saturating_sub(self.explained).min(GIVEN_BACK_MOST - self.given_back.min(GIVEN_BACK_MOST));
        self.given_back = self.given_back.saturating_add(give);
        give
    }
}

#[cfg(test)]
mod tests;
