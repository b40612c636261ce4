use super::*;
use crate::disk::layout::SMALLEST_DISK;
use contracts::facts::{DiskHealth, Owner, Transport};
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

fn me() -> Identity {
    Identity { store: Some("s1".into()), macs: vec!["02:00:00:00:00:01".into()] }
}

fn plan(disks: &[Disk]) -> Result<Plan, Refusal> {
    choose(disks, &DiskPolicy::default(), Firmware::Uefi, &me())
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

fn with(disks: &[Disk], system: &[DiskSelector]) -> Result<Plan, Refusal> {
    choose(disks, &DiskPolicy { system: system.to_vec(), ..DiskPolicy::default() }, Firmware::Uefi, &me())
}

fn at(path: &str, transport: Transport, disk: Disk) -> Disk {
    Disk { path: path.into(), kernel_name: path.into(), transport, ..disk }
}

fn wants(transport: Transport) -> DiskSelector {
    DiskSelector { transport: vec![transport], ..DiskSelector::default() }
}

#[test]
fn a_preferred_disk_is_taken_and_another_one_only_when_there_is_none() {
    let nvme = |content| at("pci-9", Transport::Nvme, disk(200, content));
    let sata = at("pci-1", Transport::Sata, disk(100, DiskContent::Blank));
    let lines = [wants(Transport::Nvme), wants(Transport::Sata)];
    assert_eq!(with(&[sata.clone(), nvme(DiskContent::Blank)], &lines).unwrap().disk, 1);
    assert_eq!(with(std::slice::from_ref(&sata), &lines).unwrap().disk, 0);
    // Too small to be meant.
    let cache = Disk { bytes: 16_000_000_000, ..nvme(DiskContent::Blank) };
    assert_eq!(with(&[sata.clone(), cache], &lines).unwrap().disk, 0);
    // Meant, but it holds data, or is broken.
    assert_eq!(with(&[sata.clone(), nvme(foreign())], &lines).unwrap_err().code(), "foreign-data");
    let health = Some(DiskHealth { failing: Some("says that it is worn out".into()), wear_percent: None });
    let worn = Disk { health, ..nvme(DiskContent::Blank) };
    let refusal = with(&[sata.clone(), worn], &lines).unwrap_err();
    assert_eq!(refusal.code(), "no-disk-fits");
    assert!(refusal.to_string().contains("it says that it is worn out"), "{refusal}");
    // Nothing that anybody named.
    let refusal = with(&[sata], &lines[..1]).unwrap_err();
    assert_eq!(refusal.code(), "disk-policy");
    assert!(refusal.to_string().contains("is none that the template names"), "{refusal}");
}

#[test]
fn a_disk_that_is_named_is_not_confused_with_another_of_its_size() {
    let blank = Disk { serial: Some("S1".into()), ..disk(100, DiskContent::Blank) };
    let other = Disk { serial: Some("S2".into()), ..disk(100, foreign()) };
    let named = DiskSelector { serial: Some("S1".into()), ..DiskSelector::default() };
    assert_eq!(plan(&[other.clone(), blank.clone()]).unwrap_err().code(), "foreign-data");
    assert_eq!(with(&[other, blank], &[named]).unwrap().disk, 1);
}

#[test]
fn a_template_can_ask_to_stop_for_equal_disks_and_forbid_some() {
    let disks = [disk(100, DiskContent::Blank), at("pci-9", Transport::Nvme, disk(100, DiskContent::Blank))];
    let choose = |rules| choose(&disks, &rules, Firmware::Uefi, &me());
    let rules = DiskPolicy { several: Several::Stop, ..DiskPolicy::default() };
    assert_eq!(choose(rules.clone()).unwrap_err().code(), "ambiguous-disk");
    assert_eq!(choose(DiskPolicy { never: vec![wants(Transport::Nvme)], ..rules }).unwrap().disk, 0);
    let rules = DiskPolicy { smallest_bytes: Some(200_000_000_000), ..DiskPolicy::default() };
    assert_eq!(choose(rules).unwrap_err().code(), "no-disk-fits");
    let rules = DiskPolicy { system: vec![DiskSelector::default()], ..DiskPolicy::default() };
    assert_eq!(choose(rules).unwrap_err().code(), "disk-policy");
}

#[test]
fn one_disk_on_two_paths_is_one_and_two_that_differ_stop() {
    let path = |name: &str, content| Disk {
        wwn: Some("naa.500".into()),
        serial: Some("S1".into()),
        ..at(name, Transport::Sas, disk(100, content))
    };
    let lun = [path("pci-2", DiskContent::Blank), path("pci-1", DiskContent::Blank)];
    let judged = judge(&lun, &DiskPolicy { several: Several::Stop, ..DiskPolicy::default() }, Firmware::Uefi, &me());
    assert_eq!(judged.outcome.unwrap().disk, 1);
    assert_eq!(
        judged.verdicts.iter().map(|v| (v.disk, v.code)).collect::<Vec<_>>(),
        [(1, "chosen"), (0, "other-path")]
    );
    let unlike = [path("pci-1", DiskContent::Blank), path("pci-2", foreign())];
    assert_eq!(plan(&unlike).unwrap_err().code(), "ambiguous-disk");
    // The same beside a disk that is clearly another one.
    let [a, b] = unlike;
    assert_eq!(plan(&[a, b, at("pci-0", Transport::Sata, disk(200, DiskContent::Blank))]).unwrap().disk, 2);
}

#[test]
fn what_cannot_hold_a_system_says_why() {
    let blank = || disk(100, DiskContent::Blank);
    let health = Some(DiskHealth { failing: Some("is worn out".into()), wear_percent: Some(110) });
    for (unfit, code) in [
        (Disk { removable: true, ..blank() }, "no-disk"),
        (Disk { transport: Transport::Usb, ..blank() }, "no-disk"),
        (Disk { boot_medium: true, ..blank() }, "no-disk"),
        (Disk { read_only: true, ..blank() }, "no-disk-fits"),
        (Disk { zoned: true, ..blank() }, "no-disk-fits"),
        (Disk { sector_bytes: 520, ..blank() }, "no-disk-fits"),
        (Disk { used_by: Some("mounted at /srv".into()), ..blank() }, "no-disk-fits"),
        (Disk { transport: Transport::Network, ..blank() }, "no-disk-fits"),
        (Disk { health, ..blank() }, "no-disk-fits"),
    ] {
        assert_eq!(plan(std::slice::from_ref(&unfit)).unwrap_err().code(), code, "{unfit:?}");
        // None of them is in the way of one that can.
        let other = at("pci-9", Transport::Sata, disk(200, DiskContent::Blank));
        assert_eq!(plan(&[unfit, other]).unwrap().disk, 1);
    }
    assert!(with(&[Disk { transport: Transport::Network, ..blank() }], &[wants(Transport::Network)]).is_ok());
}

#[test]
fn sectors_of_4096_bytes_do_for_uefi_only() {
    let disks = [Disk { sector_bytes: 4096, ..disk(100, DiskContent::Blank) }];
    assert!(plan(&disks).is_ok());
    let refusal = choose(&disks, &DiskPolicy::default(), Firmware::Bios, &me()).unwrap_err();
    assert_eq!(refusal.code(), "sector-size");
}

#[test]
fn state_of_this_machine_is_not_left_behind_for_a_preferred_disk() {
    let state = at("pci-1", Transport::Sata, disk(100, half(Some(("s1", "02:00:00:00:00:01")))));
    let nvme = at("pci-2", Transport::Nvme, disk(200, DiskContent::Blank));
    let refusal = with(&[state.clone(), nvme.clone()], &[wants(Transport::Nvme)]).unwrap_err();
    assert_eq!(refusal.code(), "disk-policy");
    assert_eq!(plan(&[state, nvme]).unwrap().disk, 0);
}

mod generated;
