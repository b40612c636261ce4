//! Over generated machines and policies: what the plan may never do, whoever made the machine.

use super::*;

fn any_content() -> impl Strategy<Value = DiskContent> {
    prop_oneof![
        4 => Just(DiskContent::Blank),
        1 => Just(half(None)),
        1 => Just(half(Some(("s1", "02:00:00:00:00:01")))),
        1 => Just(half(Some(("s1", "02:00:00:00:00:02")))),
        2 => Just(foreign()),
        1 => Just(DiskContent::default()),
        1 => Just(DiskContent::Installed { root_hashes: vec![], owner: None }),
        1 => Just(installed("s1", "02:00:00:00:00:01")),
        1 => Just(installed("s2", "02:00:00:00:00:01")),
    ]
}

fn any_transport() -> impl Strategy<Value = Transport> {
    use Transport::{Emmc, Network, Nvme, Sas, Sata, Scsi, Sd, Unknown, Usb, Virtio};
    proptest::sample::select(vec![Sata, Sas, Scsi, Nvme, Virtio, Emmc, Sd, Usb, Network, Unknown])
}

/// Few values, so that disks are often alike.
fn any_disk() -> impl Strategy<Value = Disk> {
    let size = proptest::sample::select(vec![0, 16, 64, 100, 100, 240, 1000]);
    let sector = proptest::sample::select(vec![512, 512, 512, 4096, 520]);
    let name = || proptest::option::of(proptest::sample::select(vec!["a".to_owned(), "b".into(), "c".into()]));
    let path = proptest::sample::select(vec!["pci-1".to_owned(), "pci-2".into(), "pci-10".into()]);
    let rare = || proptest::bool::weighted(0.08);
    (
        (size, sector, path, name(), name(), any_content(), any_transport()),
        (rare(), rare(), rare(), rare(), rare(), rare(), any::<Option<bool>>()),
    )
        .prop_map(|((gb, sector_bytes, path, wwn, serial, content, transport), flags)| {
            let (removable, read_only, boot_medium, zoned, used, failing, rotational) = flags;
            let health = DiskHealth { wear_percent: None, failing: failing.then(|| "is worn out".into()) };
            Disk {
                sector_bytes,
                path,
                wwn,
                serial,
                removable,
                read_only,
                boot_medium,
                zoned,
                used_by: used.then(|| "mounted".into()),
                rotational,
                transport,
                health: Some(health),
                ..disk(gb, content)
            }
        })
}

/// A machine: kernel names are what no two of its disks share.
fn any_machine() -> impl Strategy<Value = Vec<Disk>> {
    proptest::collection::vec(any_disk(), 0..7).prop_map(|mut disks| {
        for (number, disk) in disks.iter_mut().enumerate() {
            disk.kernel_name = format!("sd{number}");
        }
        disks
    })
}

fn any_line() -> impl Strategy<Value = DiskSelector> {
    let name = || proptest::option::weighted(0.2, proptest::sample::select(vec!["a".to_owned(), "b".into()]));
    let transports = proptest::collection::vec(any_transport(), 0..3);
    let sizes = proptest::option::weighted(0.3, proptest::sample::select(vec![80_000_000_000, 240_000_000_000]));
    (name(), name(), transports, proptest::option::weighted(0.3, any::<bool>()), sizes.clone(), sizes).prop_map(
        |(wwn, serial, transport, rotational, at_least_bytes, at_most_bytes)| DiskSelector {
            wwn,
            serial,
            transport,
            rotational,
            at_least_bytes,
            at_most_bytes,
            ..DiskSelector::default()
        },
    )
}

fn any_rules() -> impl Strategy<Value = DiskPolicy> {
    let smallest = proptest::option::weighted(0.2, Just(240_000_000_000));
    let several = prop_oneof![3 => Just(Several::First), 1 => Just(Several::Stop)];
    let lines = |most| proptest::collection::vec(any_line(), 0..most);
    (lines(3), lines(2), smallest, several).prop_map(|(system, never, smallest_bytes, several)| DiskPolicy {
        system,
        never,
        smallest_bytes,
        several,
    })
}

fn any_firmware() -> impl Strategy<Value = Firmware> {
    prop_oneof![Just(Firmware::Uefi), Just(Firmware::Bios)]
}

/// Without the indexes, which differ with the order: the chosen disk's name, or the refusal; and every verdict by name.
fn told(disks: &[Disk], rules: &DiskPolicy, firmware: Firmware) -> (Result<(String, String), Refusal>, Vec<String>) {
    let judged = judge(disks, rules, firmware, &me());
    let name = |index: usize| disks[index].kernel_name.clone();
    let verdicts = judged.verdicts.iter().map(|v| format!("{} {} {}", name(v.disk), v.code, v.words)).collect();
    (judged.outcome.map(|plan| (name(plan.disk), plan.why)), verdicts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_plan_never_names_a_disk_that_is_forbidden(
        disks in any_machine(), rules in any_rules(), firmware in any_firmware()
    ) {
        let Ok(plan) = choose(&disks, &rules, firmware, &me()) else { return Ok(()) };
        let chosen = &disks[plan.disk];
        let ours = half(Some(("s1", "02:00:00:00:00:01")));
        prop_assert!([DiskContent::Blank, half(None), ours.clone()].contains(&chosen.content), "{chosen:?}");
        prop_assert!(!chosen.removable && !chosen.read_only && !chosen.boot_medium && !chosen.zoned);
        prop_assert!(!matches!(chosen.transport, Transport::Usb | Transport::Sd));
        prop_assert!(chosen.used_by.is_none() && chosen.health.as_ref().unwrap().failing.is_none());
        prop_assert!(chosen.bytes >= SMALLEST_DISK && chosen.bytes >= rules.smallest_bytes.unwrap_or(0));
        prop_assert!(chosen.sector_bytes == 512 || chosen.sector_bytes == 4096 && firmware == Firmware::Uefi);
        prop_assert!(!rules.never.iter().any(|line| policy::fits(line, chosen)));
        let line = rules.system.iter().find(|line| policy::fits(line, chosen));
        prop_assert!(rules.system.is_empty() || line.is_some());
        let networks = rules.system.iter().any(|line| line.transport.contains(&Transport::Network));
        prop_assert!(chosen.transport != Transport::Network || networks);
        // A machine with a finished install of its own is left as it is.
        let fixed = |disk: &&Disk| {
            !disk.removable && !disk.boot_medium && !matches!(disk.transport, Transport::Usb | Transport::Sd)
        };
        prop_assert!(!disks.iter().filter(fixed).any(|disk| me().installed_on(disk)));
        // Its own state is not left behind for an empty disk, unless that disk cannot be used.
        if chosen.content != ours {
            for other in disks.iter().filter(|disk| disk.content == ours) {
                let unclear = disks.iter().any(|d| d.kernel_name != other.kernel_name && fitness::same(d, other) != Same::No);
                prop_assert!(unclear || unfit(other, &rules, firmware).is_some(), "{other:?}");
            }
        }
        // An empty disk beside data on one of its size, only where the template names the disk.
        if chosen.content == DiskContent::Blank {
            let twin = disks.iter().filter(fixed).any(|disk| me().foreign(disk).is_some() && disk.bytes == chosen.bytes);
            let named = rules.system.iter().any(|line| policy::fits(line, chosen) && policy::names_one(line));
            prop_assert!(!twin || named);
        }
    }

    #[test]
    fn the_same_facts_give_the_same_plan_in_any_order(
        (disks, shuffled) in any_machine().prop_flat_map(|disks| (Just(disks.clone()), Just(disks).prop_shuffle())),
        rules in any_rules(),
        firmware in any_firmware(),
    ) {
        let (outcome, verdicts) = told(&disks, &rules, firmware);
        prop_assert_eq!(told(&disks, &rules, firmware), (outcome.clone(), verdicts.clone()));
        prop_assert_eq!(told(&shuffled, &rules, firmware), (outcome.clone(), verdicts.clone()));
        prop_assert_eq!(verdicts.len(), disks.len());
        let chosen = verdicts.iter().filter(|words| words.contains(" chosen ")).count();
        prop_assert_eq!(chosen, usize::from(outcome.is_ok()));
    }

    /// Generated machines would prove nothing if no plan ever came of them.
    #[test]
    fn a_single_empty_disk_is_taken(gb in 64_u64..4000, firmware in any_firmware()) {
        prop_assert!(choose(&[disk(gb, DiskContent::Blank)], &DiskPolicy::default(), firmware, &me()).is_ok());
    }
}
