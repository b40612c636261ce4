//! Which disk to use: a pure function from facts and the template's policy to a plan or a refusal. It can be printed
//! before anything is written, and nothing is written to a disk that it did not choose.

pub use super::identity::Identity;
use super::{
    fitness::{self, Same, Unfit, by_place, unfit},
    policy::{self, PolicyError},
};
use contracts::{
    disks::{DiskPolicy, DiskSelector, Several},
    facts::{Disk, DiskContent, Firmware},
};

/// The choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The disk, as an index into the facts.
    pub disk: usize,
    /// Why this one, for people.
    pub why: String,
}

/// Why no disk was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No fixed disk at all.
    #[error("no disk was found; check that the disk is plugged in and enabled in the firmware")]
    NoDisk,
    /// None is usable in size, kind or health.
    #[error("no disk can be used: {0}; put in a disk of at least 64 GB")]
    NoneFits(String),
    /// What there is, this firmware cannot start from.
    #[error("{0}; switch this machine to UEFI, or put in another disk")]
    SectorSize(String),
    /// Somebody's data.
    #[error("{0}; nothing was written. Use an empty disk, or ask support for a wipe permit")]
    ForeignData(String),
    /// A finished install of ours.
    #[error("{0} holds a finished install; nothing was written. To install anew, put in an empty disk")]
    AlreadyInstalled(String),
    /// Disks that cannot be told apart, and it matters.
    #[error(
        "{0}; nothing was written. Leave only the disk in that the system is for, or let IT name it in the template"
    )]
    Ambiguous(String),
    /// The template's word cannot be kept.
    #[error("{0}; nothing was written. IT has to change the template's `disks`, or the disks of this machine")]
    Policy(String),
}

impl Refusal {
    /// The stable code that console and store page show.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoDisk => "no-disk",
            Self::NoneFits(_) => "no-disk-fits",
            Self::SectorSize(_) => "sector-size",
            Self::ForeignData(_) => "foreign-data",
            Self::AlreadyInstalled(_) => "already-installed",
            Self::Ambiguous(_) => "ambiguous-disk",
            Self::Policy(_) => "disk-policy",
        }
    }
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        Self::Policy(format!("the template's `disks` make no sense: {error}"))
    }
}

/// What the plan says of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The disk, as an index into the facts.
    pub disk: usize,
    /// A stable word: `chosen`, `blank`, `half-install`, `installed`, `foreign-data`, `other-path`, `ambiguous`,
    /// `not-wanted`, or one of [`Unfit::code`].
    pub code: &'static str,
    /// Why, in words after the disk's name.
    pub words: String,
}

/// All that the plan has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The disk, or why there is none.
    pub outcome: Result<Plan, Refusal>,
    /// Every disk, in the order of their places.
    pub verdicts: Vec<Verdict>,
}

/// Chooses the disk.
///
/// # Errors
/// See [`Refusal`].
pub fn choose(disks: &[Disk], rules: &DiskPolicy, firmware: Firmware, me: &Identity) -> Result<Plan, Refusal> {
    judge(disks, rules, firmware, me).outcome
}

/// Chooses the disk, and says of every one why it was chosen or not.
///
/// Removable media and what the machine was started from never qualify. A half install of ours is taken up again. Of
/// several blank disks the one with the lowest place is taken. A blank disk beside somebody's data is taken only if the two
/// cannot be confused: when they have the same size, a wrong guess about which of them was meant would cost data. Where the
/// template prefers some disks, others are taken only when none of those is there: not when one is there and holds data
/// or is broken. The order of `disks` does not matter.
#[must_use]
pub fn judge(disks: &[Disk], rules: &DiskPolicy, firmware: Firmware, me: &Identity) -> Judgement {
    let view = View::new(disks, rules, firmware, me);
    let outcome = match policy::check(rules) {
        Ok(()) => view.outcome(rules),
        Err(error) => Err(error.into()),
    };
    let chosen = outcome.as_ref().ok();
    let verdict = |seen: &Seen<'_>| {
        let (code, words) = if chosen.is_some_and(|plan| plan.disk == seen.index) {
            ("chosen", "gets the system".to_owned())
        } else {
            let wanted = view.lines(rules).any(|line| line.is_none_or(|line| policy::fits(line, seen.disk)));
            seen.standing.words(wanted, chosen.is_some())
        };
        Verdict { disk: seen.index, code, words }
    };
    Judgement { verdicts: view.disks.iter().map(verdict).collect(), outcome }
}

/// How a disk stands, before anybody chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Unfit(Unfit),
    /// The same disk as another one, which counts.
    OtherPath(String),
    /// It calls itself the same as another one, and does not look the same.
    Unclear(String),
    Installed,
    Foreign(String),
    /// `true` with this machine's state on it.
    Half(bool),
    Blank,
}

impl Standing {
    fn words(&self, wanted: bool, another: bool) -> (&'static str, String) {
        match self {
            Self::Unfit(unfit) => (unfit.code(), unfit.words()),
            Self::OtherPath(first) => ("other-path", format!("is the same disk as {first}, on another path")),
            Self::Unclear(other) => ("ambiguous", format!("calls itself the same as {other}")),
            Self::Installed => ("installed", "holds a finished install".into()),
            Self::Foreign(what) => ("foreign-data", format!("holds {what}")),
            Self::Half(_) | Self::Blank if !wanted => ("not-wanted", "is none that the template names".into()),
            Self::Half(true) => ("half-install", "holds an unfinished install with this machine's state".into()),
            Self::Half(false) => ("half-install", "holds an unfinished install".into()),
            Self::Blank if another => ("blank", "is empty; another one comes first".into()),
            Self::Blank => ("blank", "is empty".into()),
        }
    }

    const fn is_usable(&self) -> bool {
        matches!(self, Self::Half(_) | Self::Blank)
    }
}

#[derive(Debug)]
struct Seen<'a> {
    index: usize,
    disk: &'a Disk,
    standing: Standing,
    /// Data of somebody else's is on it, whether it would fit or not. Only of fixed disks.
    foreign: Option<String>,
    /// A finished install of this machine is on it, whether it would fit or not.
    installed: bool,
}

/// The disks in the order of their places, each with how it stands.
#[derive(Debug)]
struct View<'a> {
    disks: Vec<Seen<'a>>,
}

impl<'a> View<'a> {
    fn new(disks: &'a [Disk], rules: &DiskPolicy, firmware: Firmware, me: &Identity) -> Self {
        let mut order: Vec<(usize, &Disk)> = disks.iter().enumerate().collect();
        order.sort_by(|(_, a), (_, b)| by_place(a, b));
        let stands = |place: usize, disk: &Disk| {
            let unfit = unfit(disk, rules, firmware);
            if let Some(unfit) = unfit.clone().filter(Unfit::is_not_fixed) {
                return Standing::Unfit(unfit);
            }
            let others = || order.iter().enumerate().filter(|(at, _)| *at != place);
            if let Some((_, (_, other))) = others().find(|(_, (_, other))| fitness::same(disk, other) == Same::Unclear)
            {
                return Standing::Unclear(describe(other));
            }
            let first = others().take_while(|(at, _)| *at < place);
            let mut first = first.filter(|(_, (_, other))| fitness::same(disk, other) == Same::OneDisk);
            if let Some((_, (_, other))) = first.next() {
                return Standing::OtherPath(describe(other));
            }
            match unfit {
                Some(unfit) => Standing::Unfit(unfit),
                None if me.installed_on(disk) => Standing::Installed,
                None => match (me.foreign(disk), &disk.content) {
                    (Some(what), _) => Standing::Foreign(what),
                    (None, DiskContent::HalfInstall { .. }) => Standing::Half(me.keeps_state(disk)),
                    (None, _) => Standing::Blank,
                },
            }
        };
        let seen = |(place, (index, disk)): (usize, &(usize, &'a Disk))| {
            let standing = stands(place, disk);
            let fixed = !matches!(&standing, Standing::Unfit(unfit) if unfit.is_not_fixed());
            let foreign = match &standing {
                Standing::OtherPath(_) => None,
                Standing::Unclear(other) => Some(format!("the same name as {other}, and they do not look the same")),
                _ => me.foreign(disk),
            };
            Seen {
                index: *index,
                disk,
                foreign: foreign.filter(|_| fixed),
                installed: fixed && me.installed_on(disk),
                standing,
            }
        };
        Self { disks: order.iter().enumerate().map(seen).collect() }
    }

    /// The template's lines; one that every disk fits, where it has none.
    fn lines<'r>(&self, rules: &'r DiskPolicy) -> impl Iterator<Item = Option<&'r DiskSelector>> {
        let any = rules.system.is_empty().then_some(None);
        any.into_iter().chain(rules.system.iter().map(Some))
    }

    fn outcome(&self, rules: &DiskPolicy) -> Result<Plan, Refusal> {
        let fixed =
            || self.disks.iter().filter(|seen| !matches!(&seen.standing, Standing::Unfit(u) if u.is_not_fixed()));
        if fixed().next().is_none() {
            return Err(Refusal::NoDisk);
        }
        if let Some(seen) = fixed().find(|seen| seen.installed) {
            return Err(Refusal::AlreadyInstalled(describe(seen.disk)));
        }
        for line in self.lines(rules) {
            let meant: Vec<&Seen<'_>> =
                fixed().filter(|seen| line.is_none_or(|line| policy::fits(line, seen.disk))).collect();
            if let Some(plan) = self.among(&meant, line, rules.several)? {
                return self.keeping_state(plan);
            }
        }
        Err(self.nothing_fits(fixed()))
    }

    /// Chooses among the disks that one line means; `None` when it means none that could ever hold a system.
    fn among(
        &self,
        meant: &[&Seen<'_>],
        line: Option<&DiskSelector>,
        several: Several,
    ) -> Result<Option<Plan>, Refusal> {
        let usable: Vec<&&Seen<'_>> = meant.iter().filter(|seen| seen.standing.is_usable()).collect();
        let half = |state| usable.iter().find(move |seen| seen.standing == Standing::Half(state));
        // One with state before one without.
        if let Some(seen) = half(true).or_else(|| half(false)) {
            let kept =
                if seen.standing == Standing::Half(true) { "; the state of this machine on it is kept" } else { "" };
            let why = format!("{} holds an install of ours that did not finish{kept}", describe(seen.disk));
            return Ok(Some(Plan { disk: seen.index, why }));
        }
        let Some(first) = usable.first() else {
            if let Some(seen) = meant.iter().find(|seen| matches!(seen.standing, Standing::Unclear(_))) {
                let other = seen.foreign.as_deref().unwrap_or("another name");
                return Err(Refusal::Ambiguous(format!("{} has {other}", describe(seen.disk))));
            }
            let held: Vec<&Seen<'_>> = meant.iter().copied().filter(|seen| seen.foreign.is_some()).collect();
            if !held.is_empty() {
                return Err(Refusal::ForeignData(list(&held)));
            }
            let fault = |seen: &&&Seen<'_>| matches!(&seen.standing, Standing::Unfit(unfit) if unfit.is_a_fault());
            return match meant.iter().find(fault) {
                Some(seen) if line.is_some() => Err(Refusal::NoneFits(sentence(seen))),
                _ => Ok(None),
            };
        };
        let twin = |seen: &&Seen<'_>| seen.foreign.is_some() && seen.disk.bytes == first.disk.bytes;
        let twins: Vec<&Seen<'_>> = self.disks.iter().filter(twin).collect();
        if !line.is_some_and(policy::names_one) && !twins.is_empty() {
            return Err(Refusal::ForeignData(format!("{}, and it has the same size as the blank disk", list(&twins))));
        }
        let words = describe(first.disk);
        let why = match (usable.len(), several) {
            (1, _) => format!("{words} is the only blank disk"),
            (_, Several::Stop) => {
                let all: Vec<String> = usable.iter().map(|seen| describe(seen.disk)).collect();
                return Err(Refusal::Ambiguous(format!("{} are blank, and any of them would do", all.join(" and "))));
            }
            (count, Several::First) => {
                format!("{words} is the first of {count} blank disks in the order of their PCI paths")
            }
        };
        Ok(Some(Plan { disk: first.index, why }))
    }

    /// State of this very machine on another disk than the chosen one would be lost to it.
    fn keeping_state(&self, plan: Plan) -> Result<Plan, Refusal> {
        match self.disks.iter().find(|seen| seen.standing == Standing::Half(true) && seen.index != plan.disk) {
            Some(seen) if !self.disks.iter().any(|s| s.index == plan.disk && s.standing == Standing::Half(true)) => {
                let words = describe(seen.disk);
                Err(Refusal::Policy(format!(
                    "{words} holds this machine's state, but the template prefers another disk"
                )))
            }
            _ => Ok(plan),
        }
    }

    fn nothing_fits<'s>(&self, fixed: impl Iterator<Item = &'s Seen<'s>>) -> Refusal
    where
        'a: 's,
    {
        let fixed: Vec<&Seen<'_>> = fixed.collect();
        let all = || fixed.iter().map(|seen| sentence(seen)).collect::<Vec<_>>().join(", ");
        if fixed.iter().any(|seen| seen.standing.is_usable() || matches!(seen.standing, Standing::Foreign(_))) {
            return Refusal::Policy(format!("no disk is one that the template names: {}", all()));
        }
        let only_sectors = |seen: &&Seen<'_>| matches!(seen.standing, Standing::Unfit(Unfit::BiosSectors(_)));
        if fixed.iter().all(only_sectors) { Refusal::SectorSize(all()) } else { Refusal::NoneFits(all()) }
    }
}

/// A disk in words: kernel name, size, and model and serial number where it has them.
#[must_use]
pub fn describe(disk: &Disk) -> String {
    let model = disk.model.as_ref().map_or(String::new(), |model| format!(", {model}"));
    let serial = disk.serial.as_ref().map_or(String::new(), |s| format!(", serial {s}"));
    format!("disk {} ({} GB{model}{serial})", disk.kernel_name, disk.bytes / 1_000_000_000)
}

fn sentence(seen: &Seen<'_>) -> String {
    format!("{} {}", describe(seen.disk), seen.standing.words(false, false).1)
}

fn list(foreign: &[&Seen<'_>]) -> String {
    let held = |seen: &&Seen<'_>| Some(format!("{} holds {}", describe(seen.disk), seen.foreign.as_ref()?));
    foreign.iter().filter_map(held).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
