//! How a machine stands, and what the sentence at the top of the page is: pure.

use contracts::{
    claim,
    event::StepStatus,
    status::{MachineStatus, StepLine, StoreStatus},
    step::Step,
};
use time::Duration;

/// A device that is not on the list and was not heard for this long has given up, or was no spare.
const STRANGER_STAYS: Duration = Duration::minutes(30);

/// How a machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Situation {
    /// Not in the store's list: a spare that IT has to add, or an office PC that tries the network first.
    Stranger,
    /// Heard, and nothing has happened.
    Heard,
    /// In the list, its firmware asked, and it got no answer yet.
    Asked,
    /// Installed, on its way to its disk.
    Disk,
    /// A member of its cluster.
    Working,
    /// A step is under way.
    Busy,
    /// Waits, and goes on by itself.
    Waits(Code),
    /// Waits for a person who reads out this claim code.
    Claim(String),
    /// Somebody has to look after it, without any failure being reported: nothing is heard.
    Check(Code),
    /// A step failed.
    Failed(Code),
}

/// A code as machines send it, and their own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The stable code.
    pub code: String,
    /// What the machine said.
    pub message: String,
}

/// How urgent something is, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Somebody has to do something, or nothing goes on.
    Bad,
    /// Somebody has to say or look at something.
    Ask,
    /// It goes on by itself.
    Busy,
    /// All is well.
    Good,
}

impl Tone {
    /// Its class in the style sheet.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Ask => "ask",
            Self::Busy => "busy",
            Self::Good => "good",
        }
    }
}

impl Situation {
    /// How a machine stands by its last step.
    #[must_use]
    pub fn of(machine: &MachineStatus) -> Self {
        let Some(line) = machine.steps.last() else { return Self::Heard };
        let code = || Code { code: code_of(line), message: line.message.clone() };
        match (line.step, line.status) {
            (_, StepStatus::Failed) => Self::Failed(code()),
            (_, StepStatus::Waiting) => match line.code.as_deref() {
                Some("claim") => match claim_code(&line.message) {
                    Some(code) => Self::Claim(code),
                    None => Self::Waits(code()),
                },
                // Every machine says that for a while: it is the last step under way.
                Some("not-ready") => Self::Busy,
                Some("take-medium-out") => Self::Check(code()),
                Some(known) if crate::silence::CODES.contains(&known) => Self::Check(code()),
                _ => Self::Waits(code()),
            },
            (Step::Ready, StepStatus::Done) => Self::Working,
            (Step::PowerOn, _) if machine.name.is_none() => Self::Stranger,
            (Step::PowerOn, _) if machine.installed => Self::Disk,
            (Step::PowerOn, _) => Self::Asked,
            _ => Self::Busy,
        }
    }

    /// How urgent it is.
    #[must_use]
    pub const fn tone(&self) -> Tone {
        match self {
            Self::Failed(_) => Tone::Bad,
            Self::Check(_) | Self::Claim(_) | Self::Stranger => Tone::Ask,
            Self::Asked | Self::Busy | Self::Waits(_) | Self::Disk | Self::Heard => Tone::Busy,
            Self::Working => Tone::Good,
        }
    }

    /// Its place in the headline: one machine speaks for all, the one that needs people most.
    const fn rank(&self) -> u8 {
        match self {
            Self::Failed(_) => 0,
            Self::Check(_) => 1,
            Self::Claim(_) => 2,
            Self::Busy | Self::Asked => 3,
            Self::Waits(_) => 4,
            Self::Disk | Self::Heard => 5,
            Self::Stranger => 6,
            Self::Working => 7,
        }
    }
}

fn code_of(line: &StepLine) -> String {
    line.code.clone().unwrap_or_else(|| line.step.as_str().to_owned())
}

/// The claim code in a sentence, in its normal form.
#[must_use]
pub fn claim_code(message: &str) -> Option<String> {
    message.split(' ').find_map(claim::normal)
}

/// The sentence at the top: a key of the catalogue (its advice is under the same key with `.do`), the machine that it is
/// about, and how many are like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// Key of the catalogue.
    pub key: &'static str,
    /// How urgent it is.
    pub tone: Tone,
    /// The machine that it is about, as an index into the status.
    pub about: Option<usize>,
    /// Machines that stand like it.
    pub count: usize,
}

/// The machines that the page shows, the most urgent first, and the headline. Indexes are those of the status.
/// `images_good` tells whether there is something to set machines up with.
#[must_use]
pub fn overview(status: &StoreStatus, images_good: bool) -> (Headline, Vec<(usize, Situation)>) {
    let mut shown: Vec<(usize, Situation)> = status
        .machines
        .iter()
        .enumerate()
        .map(|(at, machine)| (at, Situation::of(machine)))
        .filter(|(at, situation)| {
            let gone = |heard| status.now - heard > STRANGER_STAYS;
            *situation != Situation::Stranger || !status.machines[*at].heard.is_some_and(gone)
        })
        .collect();
    // Stable: machines of one rank stay in the order in which they were heard.
    shown.sort_by_key(|(_, situation)| situation.rank());
    let Some((at, first)) = shown.first() else {
        let key = match (images_good, status.region_reachable) {
            (false, _) => "state.images",
            (true, false) => "state.empty-but",
            (true, true) => "state.empty",
        };
        let tone = if images_good { Tone::Good } else { Tone::Bad };
        return (Headline { key, tone, about: None, count: 0 }, shown);
    };
    let count = shown.iter().filter(|(_, other)| other.rank() == first.rank()).count();
    if *first == Situation::Working && !images_good {
        return (Headline { key: "state.images", tone: Tone::Bad, about: None, count: 0 }, shown);
    }
    let key = match (first, count) {
        (Situation::Failed(_), 1) => "state.help",
        (Situation::Failed(_), _) => "state.help-many",
        (Situation::Check(_), _) => "state.check",
        (Situation::Claim(_), _) => "state.claim",
        (Situation::Busy | Situation::Asked, 1) => "state.busy",
        (Situation::Busy | Situation::Asked, _) => "state.busy-many",
        (Situation::Waits(_), _) => "state.waits",
        (Situation::Disk | Situation::Heard, _) => "state.starting",
        (Situation::Stranger, _) => "state.stranger",
        (Situation::Working, _) if !status.region_reachable => "state.good-but",
        (Situation::Working, _) => "state.good",
    };
    (Headline { key, tone: first.tone(), about: Some(*at), count }, shown)
}

#[cfg(test)]
#[path = "situation_tests.rs"]
mod tests;
