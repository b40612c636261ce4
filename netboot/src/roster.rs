//! What each machine is to do: a pure function of the region's assignments and this store's ledger.
//!
//! The ledger is what makes an install permit single-use: a machine whose image was verified on its disk is told
//! to boot from then on, until the region raises the entry's epoch.

use crate::{
    admission::{Asker, Local},
    permit::Tries,
    proto::mac::Mac,
};
use contracts::{
    assignment::ImageRef,
    store::{MachineSelector, RetiredMachine, StoreAssignments, StoreMachine},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

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
    /// The attempt that was told to install last: only its outcome uses up the permit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Uuid>,
    /// Power-ons in which it got a boot image, since its last install.
    #[serde(default)]
    pub tries: Tries,
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
    /// What somebody in the store did to windows, by their names.
    pub windows: BTreeMap<String, Local>,
}

/// How a machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The region has not been reached yet, ever.
    NoAssignments,
    /// No entry matches, or all spares are taken.
    NotListed,
    /// As [`Standing::NotListed`], and machines like that are looked at now, by the boot image of this template.
    Staging(ImageRef),
    /// The machine has, or may take, this entry.
    Listed {
        /// The entry.
        machine: StoreMachine,
        /// Its install permit is used up.
        installed: bool,
    },
}

impl Roster {
    /// The region's signed orders for this machine, opaque here.
    #[must_use]
    pub fn orders(&self, mac: Mac) -> Vec<serde_json::Value> {
        let all = self.assignments.iter().flat_map(|assignments| &assignments.orders);
        all.filter(|order| order.mac.parse() == Ok(mac)).map(|order| order.envelope.clone()).collect()
    }

    /// Whether this store knows a machine by this address: its ledger has it, or the inventory names it.
    #[must_use]
    pub fn knows(&self, mac: Mac) -> bool {
        let named = |m: &StoreMachine| matches!(&m.selector, MachineSelector::Mac(text) if text.parse() == Ok(mac));
        self.ledger.contains_key(&mac) || self.assignments.iter().flat_map(|a| &a.machines).any(named)
    }

    /// How this machine stands, by what it is or has: whether a window would let it in is no question here.
    #[must_use]
    pub fn standing(&self, mac: Mac) -> Standing {
        self.stands(mac, None)
    }

    /// How this machine stands when it asks now: an open window may have a place for it.
    #[must_use]
    pub fn asks(&self, mac: Mac, asker: Asker<'_>) -> Standing {
        self.stands(mac, Some(asker))
    }

    /// The machine that is to go to the shelf, or is ready for it.
    #[must_use]
    pub fn retired(&self, mac: Mac) -> Option<&RetiredMachine> {
        self.assignments.as_ref()?.retired.iter().find(|retired| retired.mac.parse() == Ok(mac))
    }

    /// What machines that no entry names are looked at for, while they are.
    #[must_use]
    pub fn staging(&self, now: OffsetDateTime) -> Option<&ImageRef> {
        let window = self.assignments.as_ref()?.staging.as_ref()?;
        (now < window.until).then_some(&window.image)
    }

    fn stands(&self, mac: Mac, asker: Option<Asker<'_>>) -> Standing {
        let Some(assignments) = &self.assignments else { return Standing::NoAssignments };
        let retired = self.retired(mac);
        // Its own entry gives it its boot image, whoever holds that by now. It takes no other.
        let machine = match retired {
            Some(retired) => assignments.machines.iter().find(|machine| machine.name == retired.name),
            None => self.entry(&assignments.machines, mac, asker),
        };
        let Some(machine) = machine else {
            let staging = asker.and_then(|asker| self.staging(asker.now));
            return staging.map_or(Standing::NotListed, |image| Standing::Staging(image.clone()));
        };
        let installed = retired.is_none()
            && self.valid_line(machine, mac).is_some_and(|l| matches!(l.progress, Progress::Installed { .. }));
        Standing::Listed { machine: machine.clone(), installed }
    }

    /// The entry that names this MAC; else the one that it holds; else the first for spares that nobody holds; else a place
    /// in a window that lets it in.
    fn entry<'a>(
        &'a self,
        machines: &'a [StoreMachine],
        mac: Mac,
        asker: Option<Asker<'_>>,
    ) -> Option<&'a StoreMachine> {
        let named = |m: &&StoreMachine| matches!(&m.selector, MachineSelector::Mac(text) if text.parse() == Ok(mac));
        if let Some(machine) = machines.iter().find(named) {
            return Some(machine);
        }
        let mut others = machines.iter().filter(|m| !matches!(m.selector, MachineSelector::Mac(_)));
        let mut spares = machines.iter().filter(|m| m.selector == MachineSelector::Any);
        let held = others.find(|m| self.valid_line(m, mac).is_some());
        let free = || spares.find(|m| self.holder(m).is_none());
        held.or_else(free).or_else(|| self.admitted(machines, mac, asker?))
    }

    /// The machine that holds an entry for spares, or a place.
    pub(crate) fn holder(&self, machine: &StoreMachine) -> Option<Mac> {
        self.ledger.keys().copied().find(|mac| self.valid_line(machine, *mac).is_some())
    }

    /// A line of an older epoch does not count: IT ordered a reinstall, or opened the entry again.
    fn valid_line(&self, machine: &StoreMachine, mac: Mac) -> Option<&Line> {
        self.ledger.get(&mac).filter(|line| line.entry == machine.name && line.epoch >= machine.epoch)
    }

    /// A machine's tries since its last install; none while another order is in force than the one that they were for.
    #[must_use]
    pub fn tries(&self, mac: Mac) -> Option<&Tries> {
        let Standing::Listed { machine, installed: false } = self.standing(mac) else { return None };
        self.valid_line(&machine, mac).map(|line| &line.tries)
    }

    /// The line with which a machine takes its entry, if that is news. It has to be among the entries of its standing.
    #[must_use]
    pub fn bind(&self, mac: Mac, progress: Progress, asker: Asker<'_>) -> Option<Line> {
        if self.retired(mac).is_some() {
            // It takes nothing, and what it was stays on record until its entry is opened again.
            return None;
        }
        let Standing::Listed { machine, .. } = self.asks(mac, asker) else { return None };
        let renewed = self.ledger.contains_key(&mac);
        match self.valid_line(&machine, mac) {
            None => Some(Line {
                entry: machine.name.clone(),
                epoch: machine.epoch,
                progress,
                renewed,
                attempt: None,
                tries: Tries::default(),
            }),
            Some(Line { progress: Progress::Installed { .. }, .. }) => None,
            Some(line) if progress == Progress::None || line.progress == progress => None,
            Some(line) => Some(Line { progress, ..line.clone() }),
        }
    }

    /// The line with which the try that began with this power-on is counted, and the machine takes its entry. `None` when there
    /// is nothing to note.
    #[must_use]
    pub fn begin_try(&self, mac: Mac, power_on: OffsetDateTime, asker: Asker<'_>) -> Option<Line> {
        let fresh = self.bind(mac, Progress::None, asker);
        let known = || self.tries(mac).and_then(|_| self.ledger.get(&mac).cloned());
        let mut line = fresh.or_else(known)?;
        line.tries.begin(power_on).then_some(line)
    }

    /// The line of a machine that is told to install in this attempt. `None` when there is nothing to note.
    #[must_use]
    pub fn installing(&self, mac: Mac, attempt: Uuid, asker: Asker<'_>) -> Option<Line> {
        let fresh = self.bind(mac, Progress::Installing, asker);
        let known =
            || self.tries(mac).filter(|_| self.retired(mac).is_none()).and_then(|_| self.ledger.get(&mac).cloned());
        let line = fresh.clone().or_else(known)?;
        (fresh.is_some() || line.attempt != Some(attempt)).then_some(Line { attempt: Some(attempt), ..line })
    }

    /// The line after a verified install. It keeps the epoch under which the machine was told to install, so that
    /// a reinstall ordered meanwhile still happens. What another attempt has to tell than the one that was told to install last is
    /// of the past. `None` when there is nothing to note.
    #[must_use]
    pub fn installed(&self, mac: Mac, attempt: Option<Uuid>, at: OffsetDateTime) -> Option<Line> {
        let progress = Progress::Installed { at };
        match self.ledger.get(&mac) {
            Some(Line { progress: Progress::Installed { .. }, .. }) => None,
            // Nobody was told to install since the order, or another attempt was.
            Some(line) if line.progress == Progress::None || line.attempt != attempt => None,
            Some(line) => Some(Line { progress, tries: Tries::default(), ..line.clone() }),
            // The ledger was lost; nobody who was not listed could have been told to install.
            None => self
                .bind(mac, progress, Asker { now: at, architecture: None })
                .filter(|_| matches!(self.standing(mac), Standing::Listed { .. })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::staging::StagingWindow;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const ASKER: Asker<'_> = Asker { now: NOW, architecture: None };

    fn machine(name: &str, selector: MachineSelector, epoch: u64) -> StoreMachine {
        let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
        StoreMachine { name: name.into(), selector, image, epoch }
    }

    fn roster(machines: Vec<StoreMachine>) -> Roster {
        let assignments = StoreAssignments {
            version: 1,
            store: "s".into(),
            generation: 1,
            machines,
            windows: vec![],
            orders: vec![],
            retired: vec![],
            staging: None,
        };
        Roster { assignments: Some(assignments), ..Roster::default() }
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
        let line = roster.bind(A, Progress::None, ASKER).unwrap();
        roster.ledger.insert(A, line);
        assert_eq!(roster.bind(A, Progress::None, ASKER), None, "nothing new");
        assert_eq!(standing(&roster, A).unwrap().0, "spare");
        assert_eq!(roster.standing(Mac([2; 6])), Standing::NotListed, "the spare's entry is taken");
    }

    #[test]
    fn installed_lasts_until_the_epoch_grows() {
        let mut roster = roster(vec![machine("spare", MachineSelector::Any, 1)]);
        let line = roster.bind(A, Progress::Installing, ASKER).unwrap();
        roster.ledger.insert(A, line);
        assert_eq!(standing(&roster, A), Some(("spare".into(), false)));
        let line = roster.installed(A, None, NOW).unwrap();
        roster.ledger.insert(A, line);
        assert_eq!(standing(&roster, A), Some(("spare".into(), true)));
        assert_eq!(roster.bind(A, Progress::Installing, ASKER), None, "an installed machine stays installed");
        roster.assignments.as_mut().unwrap().machines[0].epoch = 2;
        assert_eq!(standing(&roster, A), Some(("spare".into(), false)));
        assert_eq!(standing(&roster, B), Some(("spare".into(), false)), "the entry is open to another machine");
        assert_eq!(roster.bind(A, Progress::Installing, ASKER).unwrap().epoch, 2);
        assert!(
            !roster.bind(A, Progress::None, ASKER).unwrap().is_blank(),
            "it was installed here before, and is to be again"
        );
        assert!(roster.bind(B, Progress::None, ASKER).unwrap().is_blank());
    }

    #[test]
    fn a_reinstall_ordered_during_an_install_still_happens() {
        let mut roster = roster(vec![machine("m", MachineSelector::Mac(A.to_string()), 1)]);
        let line = roster.bind(A, Progress::Installing, ASKER).unwrap();
        roster.ledger.insert(A, line);
        roster.assignments.as_mut().unwrap().machines[0].epoch = 2;
        let line = roster.installed(A, None, NOW).unwrap();
        assert_eq!(line.epoch, 1);
        roster.ledger.insert(A, line);
        assert_eq!(standing(&roster, A), Some(("m".into(), false)));
    }

    #[test]
    fn only_the_attempt_that_was_told_to_install_uses_up_the_permit() {
        let mut roster = roster(vec![machine("m", MachineSelector::Mac(A.to_string()), 2)]);
        let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let line = roster.installing(A, new, ASKER).unwrap();
        roster.ledger.insert(A, line);
        assert_eq!(roster.installing(A, new, ASKER), None, "nothing new");
        assert_eq!(roster.installed(A, Some(old), NOW), None, "told late, of an install before the order");
        assert_eq!(roster.installed(A, None, NOW), None);
        assert!(roster.installed(A, Some(new), NOW).is_some());
    }

    #[test]
    fn a_retired_machine_gets_a_boot_image_and_takes_no_entry_until_it_is_admitted_anew() {
        let mut roster = roster(vec![
            machine("named", MachineSelector::Mac(A.to_string()), 1),
            machine("spare", MachineSelector::Any, 1),
        ]);
        let line = roster.bind(A, Progress::Installing, ASKER).unwrap();
        roster.ledger.insert(A, line);
        let line = roster.installed(A, None, NOW).unwrap();
        roster.ledger.insert(A, line);
        let retired = RetiredMachine { mac: A.to_string().to_uppercase(), name: "named".into() };
        roster.assignments.as_mut().unwrap().retired.push(retired);
        assert_eq!(standing(&roster, A), Some(("named".into(), false)), "its firmware is answered");
        assert_eq!(roster.bind(A, Progress::Installing, ASKER), None);
        assert_eq!(roster.installing(A, Uuid::from_u128(1), ASKER), None);
        assert_eq!(roster.begin_try(A, NOW, ASKER).map(|line| line.progress), Some(Progress::Installed { at: NOW }));
        assert_eq!(standing(&roster, B).unwrap().0, "spare", "others are not concerned");
        let document = roster.assignments.as_mut().unwrap();
        document.retired.clear();
        document.machines[0].epoch = 2;
        assert_eq!(roster.bind(A, Progress::Installing, ASKER).unwrap().epoch, 2, "admitted anew");
    }

    #[test]
    fn while_staging_is_open_unknown_machines_are_looked_at_and_known_ones_are_not() {
        let mut roster = roster(vec![machine("named", MachineSelector::Mac(A.to_string()), 1)]);
        assert_eq!(roster.asks(B, ASKER), Standing::NotListed);
        let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
        let until = NOW + time::Duration::hours(1);
        roster.assignments.as_mut().unwrap().staging = Some(StagingWindow { until, image: image.clone() });
        assert_eq!(roster.asks(B, ASKER), Standing::Staging(image));
        assert_eq!(roster.standing(B), Standing::NotListed, "it takes no place on any list");
        assert_eq!(roster.bind(B, Progress::Installing, ASKER), None);
        assert_eq!(roster.begin_try(B, NOW, ASKER), None);
        assert!(matches!(roster.asks(A, ASKER), Standing::Listed { .. }));
        assert_eq!(roster.asks(B, Asker { now: until, architecture: None }), Standing::NotListed, "its time is over");
    }

    #[test]
    fn without_assignments_nobody_is_listed() {
        assert_eq!(Roster::default().standing(A), Standing::NoAssignments);
        assert_eq!(Roster::default().installed(A, None, NOW), None);
    }
}
