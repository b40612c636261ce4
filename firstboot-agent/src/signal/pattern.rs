//! How what the machine is doing sounds and looks. Few patterns, so that people who hear them once a year can tell them apart: short is
//! good, long is bad, rising is finished. docs/signals.md says the same in words.

use super::doing::Doing;
use std::time::Duration;

/// The most groups of beeps in an hour, whatever happens.
pub const MOST_IN_AN_HOUR: usize = 30;
/// Silence between the end of one pattern and the beginning of the next.
pub const BETWEEN: Duration = Duration::from_millis(700);

/// A group of beeps, and how often it is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beeps {
    /// The pitch of each, in hertz.
    pub hertz: &'static [u16],
    /// How long each is.
    pub on: Duration,
    /// The silence behind each.
    pub off: Duration,
    /// How often the group is heard; then there is silence, for as long as nothing changes.
    pub times: u32,
    /// From the beginning of one group to the beginning of the next.
    pub every: Duration,
}

impl Beeps {
    /// How long the group is, its last silence left out.
    #[must_use]
    pub fn length(&self) -> Duration {
        let count = u32::try_from(self.hertz.len()).unwrap_or(u32::MAX);
        self.on * count + self.off * count.saturating_sub(1)
    }

    /// The pitch at a time after the group has begun, and when that changes next, after the group has begun. `None` in place of
    /// the latter: the group is over.
    #[must_use]
    pub fn at(&self, time: Duration) -> (Option<u16>, Option<Duration>) {
        if time >= self.length() {
            return (None, None);
        }
        let mut begin = Duration::ZERO;
        for hertz in self.hertz {
            let silence = begin + self.on;
            if time < silence {
                return (Some(*hertz), Some(silence));
            }
            begin = silence + self.off;
            if time < begin {
                return (None, Some(begin));
            }
        }
        (None, None)
    }
}

/// A light that goes on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blinks {
    /// On or off, and for how long; from the beginning again after the last.
    pub steps: &'static [(bool, Duration)],
    /// After this the light is what it was before. `None`: as long as nothing changes.
    pub ends: Option<Duration>,
}

impl Blinks {
    /// Whether the light is on at a time after it began, and when that changes next, after it began. `None` in place of the former:
    /// the light is as it was before; in place of the latter: nothing changes.
    #[must_use]
    pub fn at(&self, time: Duration) -> (Option<bool>, Option<Duration>) {
        if self.ends.is_some_and(|ends| time >= ends) {
            return (None, None);
        }
        if let [(lit, _)] = self.steps {
            return (Some(*lit), self.ends);
        }
        let round: u128 = self.steps.iter().map(|(_, length)| length.as_nanos()).sum();
        let into = time.as_nanos().checked_rem(round).unwrap_or(0);
        let mut end = 0;
        for (lit, length) in self.steps {
            end += length.as_nanos();
            if into < end {
                let next = time + Duration::from_nanos(u64::try_from(end - into).unwrap_or(u64::MAX));
                return (Some(*lit), Some(self.ends.map_or(next, |ends| ends.min(next))));
            }
        }
        (None, None)
    }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const MINUTE: Duration = Duration::from_secs(60);
/// What small loudspeakers of mainboards are good at.
const PITCH: u16 = 1000;

/// How it sounds. `None`: not at all.
#[must_use]
pub const fn beeps(doing: Doing) -> Option<Beeps> {
    let short = Beeps { hertz: &[PITCH], on: ms(120), off: ms(120), times: 1, every: MINUTE };
    match doing {
        Doing::Working => Some(short),
        Doing::Waiting => None,
        Doing::Restarting => Some(Beeps { hertz: &[PITCH, PITCH], ..short }),
        Doing::Finished => Some(Beeps { hertz: &[1000, 1500, 2000], on: ms(200), off: ms(60), ..short }),
        Doing::Trouble => {
            Some(Beeps { hertz: &[PITCH, PITCH, PITCH], on: ms(700), off: ms(300), times: 10, every: MINUTE })
        }
    }
}

/// On or off, and for how long.
type Step = (bool, Duration);

const EVEN: &[Step] = &[(true, ms(500)), (false, ms(500))];
const FLASH: &[Step] = &[(true, ms(150)), (false, ms(2850))];
const QUICK: &[Step] = &[(true, ms(100)), (false, ms(100))];
const THREE: &[Step] = &[ON, OFF, ON, OFF, ON, (false, ms(1750))];
const STEADY: &[Step] = &[(true, MINUTE)];
const ON: Step = (true, ms(250));
const OFF: Step = (false, ms(250));

/// How it looks.
#[must_use]
pub const fn blinks(doing: Doing) -> Blinks {
    let (steps, ends) = match doing {
        Doing::Working => (EVEN, None),
        Doing::Waiting => (FLASH, None),
        Doing::Restarting => (QUICK, None),
        Doing::Trouble => (THREE, None),
        // Lights that show where a machine stands are needed for that again.
        Doing::Finished => (STEADY, Some(Duration::from_secs(600))),
    };
    Blinks { steps, ends }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_beeps_is_tone_and_silence_in_turn() {
        let trouble = beeps(Doing::Trouble).unwrap();
        assert_eq!(trouble.length(), ms(2700));
        let at = |time| trouble.at(ms(time));
        assert_eq!(at(0), (Some(PITCH), Some(ms(700))));
        assert_eq!(at(699), (Some(PITCH), Some(ms(700))));
        assert_eq!(at(700), (None, Some(ms(1000))));
        assert_eq!(at(2000), (Some(PITCH), Some(ms(2700))));
        assert_eq!(at(2700), (None, None));
    }

    #[test]
    fn no_two_patterns_are_alike() {
        for (index, one) in Doing::ALL.iter().enumerate() {
            for other in &Doing::ALL[index + 1..] {
                assert_ne!(beeps(*one).map(|b| (b.hertz, b.on)), beeps(*other).map(|b| (b.hertz, b.on)));
                assert_ne!(blinks(*one), blinks(*other), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_light_goes_round_and_ends_where_it_has_an_end() {
        let trouble = blinks(Doing::Trouble);
        let on: Vec<bool> = (0..24).map(|n| trouble.at(ms(n * 250 + 10)).0.unwrap()).collect();
        let round = [true, false, true, false, true, false, false, false, false, false, false, false];
        assert_eq!(on, [round, round].concat());
        assert_eq!(trouble.at(ms(3100)), (Some(true), Some(ms(3250))));
        let finished = blinks(Doing::Finished);
        assert_eq!(finished.at(ms(0)), (Some(true), Some(ms(600_000))));
        assert_eq!(finished.at(ms(599_999)).0, Some(true));
        assert_eq!(finished.at(ms(600_000)), (None, None));
    }
}
