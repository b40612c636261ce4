//! What a template says on the kernel's command line about updates. It is signed with the boot image.

use std::time::Duration;

/// `shelfboot.deadline=SECONDS`: how long a version on trial may take to become healthy.
const DEADLINE_WORD: &str = "shelfboot.deadline=";
/// `shelfboot.update=SECONDS`: how often a machine asks whether there is a newer version; 0 is never.
const UPDATE_WORD: &str = "shelfboot.update=";

/// Time to become healthy, unless the template says otherwise.
const DEADLINE: u64 = 600;
/// Asked this often, unless the template says otherwise.
const UPDATE_EVERY: u64 = 900;

/// They.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a version on trial may take to become healthy: between half a minute and a day.
    pub deadline: Duration,
    /// How often a machine asks for another version: `None` is never.
    pub update_every: Option<Duration>,
}

impl Settings {
    /// Reads the kernel's command line.
    #[must_use]
    pub fn read(command_line: &str) -> Self {
        // The kernel takes the last one of a kind; so does this.
        let number = |word: &str| {
            let values = command_line.split_whitespace().rev();
            values.filter_map(|found| found.strip_prefix(word)).find_map(|value| value.parse::<u64>().ok())
        };
        let every = number(UPDATE_WORD).unwrap_or(UPDATE_EVERY);
        Self {
            deadline: Duration::from_secs(number(DEADLINE_WORD).unwrap_or(DEADLINE).clamp(30, 86_400)),
            update_every: (every > 0).then(|| Duration::from_secs(every.clamp(10, 7 * 86_400))),
        }
    }

    /// Those of the running kernel.
    #[must_use]
    pub fn here() -> Self {
        Self::read(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_how_long_and_how_often() {
        let usual = Settings::read("roothash=ab quiet shelfboot.deadline=x");
        assert_eq!((usual.deadline, usual.update_every), (Duration::from_secs(600), Some(Duration::from_secs(900))));
        let own = Settings::read("shelfboot.deadline=1 shelfboot.deadline=120 shelfboot.update=0");
        assert_eq!((own.deadline, own.update_every), (Duration::from_secs(120), None));
        assert_eq!(Settings::read("shelfboot.deadline=1").deadline, Duration::from_secs(30));
    }
}
