//! Which disk to use: a pure function from facts to a plan or a refusal. It can be printed before anything is
//! written, and nothing is written to a disk that it did not choose.

use crate::disk::layout::SMALLEST_DISK;
use contracts::facts::{Disk, DiskContent, MachineFacts, Owner};

/// Who asks: what tells an install of this machine from that of another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The store; `None` when netboot did not say.
    pub store: Option<String>,
    /// MAC addresses of this machine.
    pub macs: Vec<String>,
}

impl Identity {
    /// This machine in this store.
    #[must_use]
    pub fn new(store: Option<String>, facts: &MachineFacts) -> Self {
        Self { store, macs: facts.nics.iter().map(|nic| nic.mac.clone()).collect() }
    }

    /// True when this machine in this store is meant.
    #[must_use]
    pub fn is(&self, owner: &Owner) -> bool {
        self.store.as_ref().is_none_or(|store| *store == owner.store) && self.macs.contains(&owner.machine)
    }

    /// What somebody else has on this disk, in words. `None` for blank disks and for our own installs.
    #[must_use]
    pub fn foreign(&self, disk: &Disk) -> Option<String> {
        match &disk.content {
            DiskContent::Foreign { what } => Some(what.clone()),
            DiskContent::Installed { owner: Some(owner), .. } | DiskContent::HalfInstall { owner: Some(owner) }
                if !self.is(owner) =>
            {
                Some(format!("the system of another machine ({} of store {})", owner.machine, owner.store))
            }
            _ => None,
        }
    }

    /// The disk holds state of this very machine, which survives a reinstall.
    #[must_use]
    pub fn keeps_state(&self, disk: &Disk) -> bool {
        matches!(&disk.content, DiskContent::HalfInstall { owner: Some(owner) } if self.is(owner))
    }

    /// The disk holds a finished install that is not somebody else's.
    #[must_use]
    pub fn installed_on(&self, disk: &Disk) -> bool {
        matches!(disk.content, DiskContent::Installed { .. }) && self.foreign(disk).is_none()
    }
}

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
    /// None is usable in size or kind.
    #[error("no disk can be used: {0}; put in a disk of at least 64 GB")]
    NoneFits(String),
    /// Somebody's data.
    #[error("{0}; nothing was written. Use an empty disk, or ask support for a wipe permit")]
    ForeignData(String),
    /// A finished install of ours.
    #[error("{0} holds a finished install; nothing was written. To install anew, put in an empty disk")]
    AlreadyInstalled(String),
}

impl Refusal {
    /// The stable code that console and store page show.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoDisk => "no-disk",
            Self::NoneFits(_) => "no-disk-fits",
            Self::ForeignData(_) => "foreign-data",
            Self::AlreadyInstalled(_) => "already-installed",
        }
    }
}

/// Chooses the disk.
///
/// Removable and read-only media never qualify. A half install of ours is taken up again. Of several equal blank
/// disks the first in the order of the facts (PCI path) is taken. A blank disk beside somebody's data is taken
/// only if the two cannot be confused: when they have the same size, a wrong guess about which of them was meant
/// would cost data.
///
/// # Errors
/// See [`Refusal`].
pub fn choose(disks: &[Disk], me: &Identity) -> Result<Plan, Refusal> {
    let fixed: Vec<(usize, &Disk)> = disks.iter().enumerate().filter(|(_, d)| !d.removable).collect();
    if fixed.is_empty() {
        return Err(Refusal::NoDisk);
    }
    if let Some((_, disk)) = fixed.iter().find(|(_, d)| me.installed_on(d)) {
        return Err(Refusal::AlreadyInstalled(describe(disk)));
    }
    let (fit, unfit): (Vec<_>, Vec<_>) = fixed
        .iter()
        .partition(|(_, d)| !d.read_only && d.bytes >= SMALLEST_DISK && matches!(d.sector_bytes, 512 | 4096));
    let foreign: Vec<(&Disk, String)> = fixed.iter().filter_map(|(_, d)| Some((*d, me.foreign(d)?))).collect();

    let half = |d: &Disk| matches!(d.content, DiskContent::HalfInstall { .. }) && me.foreign(d).is_none();
    // One with state before one without.
    let with_state = fit.iter().find(|(_, d)| half(d) && me.keeps_state(d));
    if let Some((index, disk)) = with_state.or_else(|| fit.iter().find(|(_, d)| half(d))) {
        let kept = if me.keeps_state(disk) { "; the state of this machine on it is kept" } else { "" };
        return Ok(Plan {
            disk: *index,
            why: format!("{} holds an install of ours that did not finish{kept}", describe(disk)),
        });
    }
    let blank: Vec<(usize, &Disk)> = fit.iter().copied().filter(|(_, d)| d.content == DiskContent::Blank).collect();
    match blank.first() {
        Some((_, disk)) if foreign.iter().any(|(other, _)| other.bytes == disk.bytes) => {
            Err(Refusal::ForeignData(format!("{}, and it has the same size as the blank disk", list(&foreign))))
        }
        Some((index, disk)) if blank.len() == 1 => {
            Ok(Plan { disk: *index, why: format!("{} is the only blank disk", describe(disk)) })
        }
        Some((index, disk)) => {
            let why = format!(
                "{} is the first of {} blank disks in the order of their PCI paths",
                describe(disk),
                blank.len()
            );
            Ok(Plan { disk: *index, why })
        }
        None if !foreign.is_empty() => Err(Refusal::ForeignData(list(&foreign))),
        None => Err(Refusal::NoneFits(unfit.iter().map(|(_, d)| unfit_reason(d)).collect::<Vec<_>>().join(", "))),
    }
}

/// A disk in words: kernel name, size, and its serial number where it has one.
#[must_use]
pub fn describe(disk: &Disk) -> String {
    let serial = disk.serial.as_ref().map_or(String::new(), |s| format!(", serial {s}"));
    format!("disk {} ({} GB{serial})", disk.kernel_name, disk.bytes / 1_000_000_000)
}

fn list(foreign: &[(&Disk, String)]) -> String {
    let words: Vec<String> = foreign.iter().map(|(disk, what)| format!("{} holds {what}", describe(disk))).collect();
    words.join(", ")
}

fn unfit_reason(disk: &Disk) -> String {
    let why = if disk.read_only {
        "is write-protected".to_owned()
    } else if disk.bytes < SMALLEST_DISK {
        "is too small".to_owned()
    } else {
        format!("has sectors of {} bytes", disk.sector_bytes)
    };
    format!("{} {why}", describe(disk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disk(gb: u64, content: DiskContent) -> Disk {
        Disk {
            kernel_name: "vda".into(),
            bytes: gb * 1_000_000_000,
            sector_bytes: 512,
            path: "pci-0000:00:04.0".into(),
            wwn: None,
            serial: None,
            model: None,
            removable: false,
            read_only: false,
            content,
            ..Disk::default()
        }
    }

    fn plan(disks: &[Disk]) -> Result<Plan, Refusal> {
        let me = Identity { store: Some("s1".into()), macs: vec!["02:00:00:00:00:01".into()] };
        choose(disks, &me)
    }

    fn installed(store: &str, machine: &str) -> DiskContent {
        let owner = Some(Owner { store: store.into(), machine: machine.into() });
        DiskContent::Installed { root_hashes: vec![], owner }
    }

    fn half(owner: Option<(&str, &str)>) -> DiskContent {
        let owner = owner.map(|(store, machine)| Owner { store: store.into(), machine: machine.into() });
        DiskContent::HalfInstall { owner }
    }

    fn foreign() -> DiskContent {
        DiskContent::Foreign { what: "an NTFS file system".into() }
    }

    #[test]
    fn the_only_blank_disk_is_taken_beside_foreign_data_of_another_size() {
        let plan = plan(&[disk(500, foreign()), disk(100, DiskContent::Blank)]).unwrap();
        assert_eq!(plan.disk, 1);
    }

    #[test]
    fn a_blank_twin_of_a_disk_with_data_is_not_guessed_at() {
        let refusal = plan(&[disk(100, foreign()), disk(100, DiskContent::Blank)]).unwrap_err();
        assert_eq!(refusal.code(), "foreign-data");
    }

    #[test]
    fn a_half_install_is_taken_up_again() {
        assert_eq!(plan(&[disk(100, DiskContent::Blank), disk(100, half(None))]).unwrap().disk, 1);
    }

    #[test]
    fn equal_blank_disks_do_not_stop() {
        assert_eq!(plan(&[disk(100, DiskContent::Blank), disk(100, DiskContent::Blank)]).unwrap().disk, 0);
    }

    #[test]
    fn refusals_name_their_reason() {
        assert_eq!(plan(&[]).unwrap_err().code(), "no-disk");
        assert_eq!(plan(&[disk(10, DiskContent::Blank)]).unwrap_err().code(), "no-disk-fits");
        let refusal = plan(&[disk(100, foreign())]).unwrap_err();
        assert!(refusal.to_string().contains("an NTFS file system"), "{refusal}");
        let installed = DiskContent::Installed { root_hashes: vec![], owner: None };
        assert_eq!(plan(&[disk(100, installed)]).unwrap_err().code(), "already-installed");
    }

    #[test]
    fn an_install_is_ours_only_in_this_store_and_machine() {
        let own = plan(&[disk(100, installed("s1", "02:00:00:00:00:01"))]).unwrap_err();
        assert_eq!(own.code(), "already-installed");
        for (store, machine) in [("s2", "02:00:00:00:00:01"), ("s1", "02:00:00:00:00:02")] {
            let refusal = plan(&[disk(100, installed(store, machine))]).unwrap_err();
            assert_eq!(refusal.code(), "foreign-data");
            assert!(refusal.to_string().contains(&format!("{machine} of store {store}")), "{refusal}");
            assert_eq!(plan(&[disk(100, installed(store, machine)), disk(200, DiskContent::Blank)]).unwrap().disk, 1);
        }
    }

    #[test]
    fn state_on_a_half_install_is_kept_by_its_own_machine_and_refused_to_others() {
        let own = plan(&[disk(100, half(Some(("s1", "02:00:00:00:00:01"))))]).unwrap();
        assert!(own.why.ends_with("is kept"), "{}", own.why);
        let refusal = plan(&[disk(100, half(Some(("s1", "02:00:00:00:00:02"))))]).unwrap_err();
        assert_eq!(refusal.code(), "foreign-data");
        let with_state = half(Some(("s1", "02:00:00:00:00:01")));
        assert_eq!(plan(&[disk(100, half(None)), disk(100, with_state)]).unwrap().disk, 1);
    }

    fn any_disk() -> impl Strategy<Value = Disk> {
        let content = prop_oneof![
            Just(DiskContent::Blank),
            Just(half(None)),
            Just(half(Some(("s1", "02:00:00:00:00:01")))),
            Just(half(Some(("s1", "02:00:00:00:00:02")))),
            Just(foreign()),
            Just(DiskContent::Installed { root_hashes: vec![], owner: None }),
            Just(installed("s1", "02:00:00:00:00:01")),
            Just(installed("s2", "02:00:00:00:00:01")),
        ];
        (1u64..3000, content, any::<bool>(), any::<bool>()).prop_map(|(gb, content, removable, read_only)| Disk {
            removable,
            read_only,
            ..disk(gb, content)
        })
    }

    proptest! {
        #[test]
        fn the_plan_never_names_a_disk_with_data(disks in proptest::collection::vec(any_disk(), 0..6)) {
            if let Ok(plan) = plan(&disks) {
                let chosen = &disks[plan.disk];
                let ours = half(Some(("s1", "02:00:00:00:00:01")));
                prop_assert!([DiskContent::Blank, half(None), ours].contains(&chosen.content));
                prop_assert!(!chosen.removable && !chosen.read_only && chosen.bytes >= SMALLEST_DISK);
            }
            prop_assert_eq!(plan(&disks), plan(&disks));
        }
    }
}
