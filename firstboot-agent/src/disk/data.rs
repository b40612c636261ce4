//! Which disks are for the data of a machine's role: a pure function of facts, policy and what was chosen before.
//!
//! Every fixed disk that is blank and large enough is taken; a disk that was taken once is named again, with the word
//! that it is not blank any more. Nothing else is: not the system disk, no removable or write-protected medium, no disk with anybody's data.

use super::plan;
use contracts::{
    facts::{Disk, DiskContent, Transport},
    machine::{DataDisk, DataDisks},
};

/// The choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataPlan {
    /// For data.
    pub disks: Vec<DataDisk>,
    /// Left alone, with the reason in words.
    pub left: Vec<String>,
    /// One of those left alone holds somebody's data.
    pub foreign: bool,
}

/// Chooses. `known` has the ids that were chosen before.
#[must_use]
pub fn choose(disks: &[Disk], policy: &DataDisks, known: &[String]) -> DataPlan {
    let mut plan = DataPlan::default();
    for disk in disks.iter().filter(|disk| !disk.removable && !is_ours(disk)) {
        let id = id(disk);
        let twin = disks.iter().filter(|other| self::id(other) == id).count() > 1;
        let blank = disk.content == DiskContent::Blank;
        let why = if twin {
            Some("calls itself the same as another disk".to_owned())
        } else if disk.boot_medium {
            Some("is what this machine was started from".to_owned())
        } else if disk.read_only {
            Some("is write-protected".to_owned())
        } else if known.contains(&id) {
            None
        } else if disk.bytes < policy.smallest_bytes {
            Some("is too small".to_owned())
        } else if let DiskContent::Foreign { what } = &disk.content {
            plan.foreign = true;
            Some(format!("holds {what} and is not prepared"))
        } else if disk.transport == Transport::Network {
            Some("is reached through a network".to_owned())
        } else if let Some(who) = &disk.used_by {
            Some(format!("is in use ({who})"))
        } else {
            let failing = disk.health.as_ref().and_then(|health| health.failing.as_ref());
            failing.map(|failing| format!("must not be trusted: it {failing}"))
        };
        match why {
            Some(why) => plan.left.push(format!("{} {why}", plan::describe(disk))),
            None => plan.disks.push(DataDisk { device: format!("/dev/{}", disk.kernel_name), id, blank }),
        }
    }
    plan
}

/// A disk with our partition table is a system disk, of this machine or of another one.
fn is_ours(disk: &Disk) -> bool {
    matches!(disk.content, DiskContent::Installed { .. } | DiskContent::HalfInstall { .. })
}

/// What a disk is known by at every start: World Wide Name, else serial number, else its place.
#[must_use]
pub fn id(disk: &Disk) -> String {
    let (kind, value) = match (&disk.wwn, &disk.serial) {
        (Some(wwn), _) => ("wwn", wwn),
        (None, Some(serial)) => ("serial", serial),
        (None, None) => ("path", &disk.path),
    };
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    format!("{kind}-{}", value.chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::facts::DiskHealth;
    use proptest::prelude::*;

    const POLICY: DataDisks = DataDisks { smallest_bytes: 10_000_000_000 };

    fn disk(name: &str, gb: u64, content: DiskContent) -> Disk {
        Disk {
            kernel_name: name.into(),
            bytes: gb * 1_000_000_000,
            sector_bytes: 512,
            path: format!("pci-{name}"),
            wwn: None,
            serial: Some(name.into()),
            model: None,
            removable: false,
            read_only: false,
            content,
            ..Disk::default()
        }
    }

    fn lvm() -> DiskContent {
        DiskContent::Foreign { what: "an LVM volume".into() }
    }

    #[test]
    fn blank_disks_are_taken_and_others_named() {
        let system = disk("vda", 64, DiskContent::Installed { root_hashes: vec![], owner: None });
        let disks =
            [system, disk("vdb", 20, DiskContent::Blank), disk("vdc", 20, lvm()), disk("vdd", 5, DiskContent::Blank)];
        let plan = choose(&disks, &POLICY, &[]);
        assert_eq!(plan.disks, [DataDisk { device: "/dev/vdb".into(), id: "serial-vdb".into(), blank: true }]);
        assert!(plan.foreign && plan.left.len() == 2);
        assert_eq!(plan.left[0], "disk vdc (20 GB, serial vdc) holds an LVM volume and is not prepared");
    }

    #[test]
    fn what_was_chosen_before_stays_chosen() {
        let plan = choose(&[disk("vdc", 20, lvm())], &POLICY, &["serial-vdc".into()]);
        assert_eq!(plan.disks.len(), 1);
        assert!(!plan.disks[0].blank && !plan.foreign);
    }

    #[test]
    fn disks_that_cannot_be_told_apart_are_left_alone() {
        let twins =
            [disk("vdb", 20, DiskContent::Blank), Disk { serial: Some("vdb".into()), ..disk("vdc", 20, lvm()) }];
        let plan = choose(&twins, &POLICY, &["serial-vdb".into()]);
        assert!(plan.disks.is_empty() && plan.left.len() == 2, "{plan:?}");
    }

    #[test]
    fn what_must_not_be_trusted_is_left_alone() {
        let blank = || disk("vdb", 20, DiskContent::Blank);
        let health = Some(DiskHealth { failing: Some("is worn out".into()), wear_percent: None });
        for odd in [
            Disk { health, ..blank() },
            Disk { boot_medium: true, ..blank() },
            Disk { transport: Transport::Network, ..blank() },
            Disk { used_by: Some("mounted".into()), ..blank() },
        ] {
            let plan = choose(&[odd], &POLICY, &[]);
            assert!(plan.disks.is_empty() && plan.left.len() == 1, "{plan:?}");
        }
        // Data comes first: whose it is, its product can tell, also when the kernel has opened it.
        let held = Disk { used_by: Some("dm-0".into()), ..disk("vdb", 20, lvm()) };
        assert!(choose(&[held], &POLICY, &[]).foreign);
        // What it has chosen before is in use, as a rule.
        let used = Disk { used_by: Some("ceph".into()), ..disk("vdb", 20, lvm()) };
        assert_eq!(choose(&[used], &POLICY, &["serial-vdb".into()]).disks.len(), 1);
    }

    #[test]
    fn ids_are_safe_in_file_names() {
        let odd = Disk { wwn: Some("t10.ATA  ../x".into()), ..disk("sda", 1, DiskContent::Blank) };
        assert_eq!(id(&odd), "wwn-t10.ATA__.._x");
    }

    fn any_disk() -> impl Strategy<Value = Disk> {
        let content = prop_oneof![
            Just(DiskContent::Blank),
            Just(lvm()),
            Just(DiskContent::HalfInstall { owner: None }),
            Just(DiskContent::Installed { root_hashes: vec![], owner: None }),
        ];
        ("[a-d]", 1u64..30, content, any::<bool>(), any::<bool>()).prop_map(
            |(name, gb, content, removable, read_only)| Disk { removable, read_only, ..disk(&name, gb, content) },
        )
    }

    proptest! {
        #[test]
        fn no_disk_with_data_is_taken_unless_it_was_before(
            disks in proptest::collection::vec(any_disk(), 0..6), known in proptest::collection::vec("serial-[a-d]", 0..3)
        ) {
            let plan = choose(&disks, &POLICY, &known);
            for taken in &plan.disks {
                let all: Vec<&Disk> = disks.iter().filter(|d| id(d) == taken.id).collect();
                prop_assert_eq!(all.len(), 1);
                let disk = all[0];
                prop_assert!(!disk.removable && !disk.read_only && !is_ours(disk));
                prop_assert!(known.contains(&taken.id) || disk.content == DiskContent::Blank);
                prop_assert!(known.contains(&taken.id) || disk.bytes >= POLICY.smallest_bytes);
                prop_assert_eq!(taken.blank, disk.content == DiskContent::Blank);
            }
            prop_assert_eq!(plan.clone(), choose(&disks, &POLICY, &known));
        }
    }
}
