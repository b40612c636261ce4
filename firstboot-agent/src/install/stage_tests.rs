use super::*;
use contracts::facts::{FirmwareCertificate, Nic, Tpm, Uefi};
use proptest::prelude::*;

const MAC: &str = "02:00:00:00:00:01";
const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn manifest() -> ImageManifest {
    let golden = include_bytes!("../../../contracts/tests/golden/image-manifest.json");
    ImageManifest { disks: contracts::disks::DiskPolicy::default(), ..contracts::read(golden).unwrap() }
}

fn disk(content: DiskContent) -> Disk {
    Disk {
        kernel_name: "vda".into(),
        bytes: 100_000_000_000,
        sector_bytes: 512,
        serial: Some("D1".into()),
        content,
        ..Disk::default()
    }
}

fn good() -> (MachineFacts, Further) {
    let nic = Nic { kernel_name: "eth0".into(), mac: MAC.into(), carrier: true, speed: Some(1000), ..Nic::default() };
    let db = FirmwareCertificate { list: "db".into(), subject: "Our own".into(), sha256: String::new() };
    let mut facts = MachineFacts {
        firmware: Firmware::Uefi,
        secure_boot: Some(true),
        uefi: Some(Uefi { setup_mode: Some(false), certificates: vec![db] }),
        tpm: Some(Tpm { version: 2, manufacturer: "IBM".into() }),
        nics: vec![nic],
        disks: vec![disk(DiskContent::Blank)],
        ..MachineFacts::default()
    };
    facts.smbios.serial = "SHELF0001".into();
    let option = |description: &str, network| BootOption { description: description.into(), active: true, network };
    let order = vec![option("UiApp", false), option("UEFI PXEv4", true)];
    (facts, Further { boot_order: Some(order), endorsement_key: Some("ab".repeat(64)) })
}

fn result(record: &StageRecord, about: &str) -> Passes {
    record.findings.iter().find(|finding| finding.about == about).unwrap().result
}

#[test]
fn a_good_spare_passes_in_everything() {
    let (facts, further) = good();
    let record = judge(&facts, &further, &manifest(), MAC, NOW);
    assert!(record.passes && record.findings.iter().all(|f| f.result == Passes::Yes), "{:#?}", record.findings);
    assert_eq!(record.boot_order, ["UiApp", "UEFI PXEv4"]);
    assert_eq!(record.disks[0].serial.as_deref(), Some("D1"));
    assert_eq!(record.tpm.unwrap().endorsement_key, Some("ab".repeat(64)));
}

#[test]
fn what_keeps_a_spare_from_the_shelf_is_named() {
    let judged = |change: &dyn Fn(&mut MachineFacts, &mut Further)| {
        let (mut facts, mut further) = good();
        change(&mut facts, &mut further);
        judge(&facts, &further, &manifest(), MAC, NOW)
    };
    let foreign = judged(&|facts, _| facts.disks = vec![disk(DiskContent::Foreign { what: "NTFS".into() })]);
    assert_eq!((foreign.passes, result(&foreign, "disks")), (false, Passes::No));
    let somebody = judged(&|facts, _| {
        facts.disks = vec![disk(DiskContent::Installed { root_hashes: vec!["aa".into()], owner: None })];
    });
    assert_eq!((somebody.passes, result(&somebody, "disks")), (false, Passes::No), "it is to be retired first");
    let silent = judged(&|_, further| further.boot_order.as_mut().unwrap()[1].active = false);
    assert_eq!((silent.passes, result(&silent, "boot-order")), (false, Passes::No));
    for (change, about) in [
        (
            (&|facts: &mut MachineFacts, _: &mut Further| facts.tpm = None) as &dyn Fn(&mut MachineFacts, &mut Further),
            "tpm",
        ),
        (&|facts, _| facts.secure_boot = Some(false), "secure-boot"),
        (&|facts, _| facts.smbios.serial.clear(), "serial"),
        (&|facts, _| facts.nics[0].speed = Some(100), "network"),
        (&|_, further| further.boot_order = None, "boot-order"),
    ] {
        let record = judged(change);
        assert!(record.passes && result(&record, about) == Passes::Note, "{about}: {:?}", record.findings);
    }
}

proptest! {
    #[test]
    fn a_record_always_fits_into_an_event(text in ".{0,200}", parts in 0..60_usize) {
        let (mut facts, mut further) = good();
        facts.smbios.product = text.clone();
        facts.smbios.serial = text.clone();
        let part = Disk { serial: Some(text.clone()), model: Some(text.clone()), wwn: Some(text.clone()), ..disk(DiskContent::Foreign { what: text.clone() }) };
        facts.disks = vec![part; parts];
        facts.nics.extend(vec![Nic { driver: text.clone(), ..Nic::default() }; parts]);
        further.boot_order = Some(vec![BootOption { description: text, active: true, network: false }; parts]);
        let record = judge(&facts, &further, &manifest(), MAC, NOW);
        prop_assert!(serde_json::to_vec(&record).unwrap().len() <= LONGEST_RECORD);
    }
}
