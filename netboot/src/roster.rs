//! What each machine is to do: a pure function of the region's assignments and this store's ledger.
//!
//! The ledger is what makes an install permit single-use: a machine whose image was verified on its disk is told
//! to boot from then on, until the region raises the entry's epoch.

use crate::proto::mac::Mac;
use contracts::store::{MachineSelector, StoreAssignments, StoreMachine};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// One line of the ledger: which entry a machine has, and how far it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The inventory entry's name.
    pub entry: String,
    /// The entry's epoch when the machine was given its action.
    pub epoch: u64,
    /// How far it got.
    pub progress: Progress,
    /// The machine was known here under an older epoch: what is on its disk is not what the region wants there.
    #[serde(default)]
    pub renewed: bool,
}

impl Line {
    /// True when this line says no more than that the machine asked for a boot file: it may have been installed here
    /// before, and the ledger lost.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.progress == Progress::None && !self.renewed
    }
}

/// How far a machine got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Progress {
    /// It holds the entry, no more.
    None,
    /// It was told to install.
    Installing,
    /// Its disk holds a verified image.
    Installed {
        /// Since when.
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
}

/// Everything that decisions are made from.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// The region's document, once there was one.
    pub assignments: Option<StoreAssignments>,
    /// The ledger.
    pub ledger: BTreeMap<Mac, Line>,
}

/// How a machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The region has not been reached yet, ever.
    NoAssignments,
    /// No entry matches, or all spares are taken.
    NotListed,
    /// The machine has, or may take, this entry.
    Listed {
        /// The entry.
        machine: StoreMachine,
        /// Its install permit is used up.
        installed: bool,
    },
}

impl Roster {
    /// How this machine stands.
    #[must_use]
    pub fn standing(&self, mac: Mac) -> Standing {
        let Some(assignments) = &self.assignments else { return Standing::NoAssignments };
        let Some(machine) = self.entry(&assignments.machines, mac) else { return Standing::NotListed };
        let installed = self.valid_line(machine, mac).is_some_and(|l| matches!(l.progress, Progress::Installed { .. }));
        Standing::Listed { machine: machine.clone(), installed }
    }

    /// The entry that names this MAC; else the spare's entry that it holds; else the first that nobody holds.
    fn entry<'a>(&self, machines: &'a [StoreMachine], mac: Mac) -> Option<&'a StoreMachine> {
        let named = |m: &&StoreMachine| matches!(&m.selector, MachineSelector::Mac(text) if text.parse() == Ok(mac));
        if let Some(machine) = machines.iter().find(named) {
            return Some(machine);
        }
        let any = || machines.iter().filter(|m| m.selector == MachineSelector::Any);
        any().find(|m| self.valid_line(m, mac).is_some()).or_else(|| any().find(|m| self.holder(m).is_none()))
    }

    /// The machine that holds an entry for spares.
    fn holder(&self, machine: &StoreMachine) -> Option<Mac> {
        self.ledger.keys().copied().find(|mac| self.valid_line(machine, *mac).is_some())
    }

    /// A line of an older epoch does not count: IT ordered a reinstall, or opened the entry again.
    fn valid_line(&self, machine: &StoreMachine, mac: Mac) -> Option<&Line> {
        self.ledger.get(&mac).filter(|line| line.entry == machine.name && line.epoch >= machine.epoch)
    }

    /// The line with which a machine takes its entry, if that is news.
    #[must_use]
    pub fn bind(&self, mac: Mac, progress: Progress) -> Option<Line> {
        let Standing::Listed { machine, .. } = self.standing(mac) else { return None };
        let renewed = self.ledger.contains_key(&mac);
        let fresh = || Line { entry: machine.name.clone(), epoch: machine.epoch, progress, renewed };
        match self.valid_line(&machine, mac) {
            None => Some(fresh()),
            Some(Line { progress: Progress::Installed { .. }, .. }) => None,
            Some(line) if progress == Progress::None || line.progress == progress => None,
            Some(line) => Some(Line { progress, ..line.clone() }),
        }
    }

    /// The line after a verified install. It keeps the epoch under which the machine was told to install, so that
    /// a reinstall ordered meanwhile still happens. `None` when there is nothing to note.
    #[must_use]
    pub fn installed(&self, mac: Mac, at: OffsetDateTime) -> Option<Line> {
        match self.ledger.get(&mac) {
            Some(Line { progress: Progress::Installed { .. }, .. }) => None,
            Some(line) => Some(Line { progress: Progress::Installed { at }, ..line.clone() }),
            None => self.bind(mac, Progress::Installed { at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::assignment::ImageRef;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn machine(name: &str, selector: MachineSelector, epoch: u64) -> StoreMachine {
        let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
        StoreMachine { name: name.into(), selector, image, epoch }
    }

    fn roster(machines: Vec<StoreMachine>) -> Roster {
        let assignments = StoreAssignments { version: 1, store: "s".into(), generation: 1, machines, windows: vec![] };
        Roster { assignments: Some(assignments), ledger: BTreeMap::new() }
    }

    fn standing(roster: &Roster, mac: Mac) -> Option<(String, bool)> {
        match roster.standing(mac) {
            Standing::Listed { machine, installed } => Some((machine.name, installed)),
            _ => None,
        }
    }

    #[test]
    fn one_spare_takes_one_entry() {
        let mut roster = roster(vec![
            machine("named", MachineSelector::Mac(B.to_string().to_uppercase()), 1),
            machine("spare", MachineSelector::Any, 1),
        ]);
        assert_eq!(standing(&roster, A).unwrap().0, "spare");
        assert_eq!(standing(&roster, B).unwrap().0, "named", "a named machine leaves the spares alone");
        let line = roster.bind(A, Progress::None).unwrap();
        roster.ledger.insert(A, line);
        assert_eq!(roster.bind(A, Progress::None), None, "nothing new");
        assert_eq!(standing(&roster, A).unwrap().0, "spare");
        assert_eq!(roster.standing(Mac([2; 6])), Standing::NotListed, "the spare's entry is taken");
    }

    #[test]
    fn installed_lasts_until_the_epoch_grows() {
        let mut roster = roster(vec![machine("spare", MachineSelector::Any, 1)]);
        let line = roster.bind(A, Progress::Installing).unwrap();
        roster.ledger.insert(A, line);
        assert_eq!(standing(&roster, A), Some(("spare".into(), false)));
        let line = roster.installed(A, NOW).unwrap();
        roster.ledger.insert(A, line);
        assert_eq!(standing(&roster, A), Some(("spare".into(), true)));
        assert_eq!(roster.bind(A, Progress::Installing), None, "an installed machine stays installed");
        roster.assignments.as_mut().unwrap().machines[0].epoch = 2;
        assert_eq!(standing(&roster, A), Some(("spare".into(), false)));
        assert_eq!(standing(&roster, B), Some(("spare".into(), false)), "the entry is open to another machine");
        assert_eq!(roster.bind(A, Progress::Installing).unwrap().epoch, 2);
        assert!(
            !roster.bind(A, Progress::None).unwrap().is_blank(),
            "it was installed here before, and is to be again"
        );
        assert!(roster.bind(B, Progress::None).unwrap().is_blank());
    }

    #[test]
    fn a_reinstall_ordered_during_an_install_still_happens() {
        let mut roster = roster(vec![machine("m", MachineSelector::Mac(A.to_string()), 1)]);
        let line = roster.bind(A, Progress::Installing).unwrap();
        roster.ledger.insert(A, line);
        roster.assignments.as_mut().unwrap().machines[0].epoch = 2;
        let line = roster.installed(A, NOW).unwrap();
        assert_eq!(line.epoch, 1);
        roster.ledger.insert(A, line);
        assert_eq!(standing(&roster, A), Some(("m".into(), false)));
    }

    #[test]
    fn without_assignments_nobody_is_listed() {
        assert_eq!(Roster::default().standing(A), Standing::NoAssignments);
        assert_eq!(Roster::default().installed(A, NOW), None);
    }
}
