//! The staging boot: the machine is looked at for a template, and what was found goes on record. Nothing is written to any disk.

use crate::{
    console,
    disk::plan::{Identity, choose, describe},
    efi::BootOption,
    failure::Failure,
    net::client::Netboot,
    report::Reporter,
};
use contracts::{
    VERSION,
    event::Event,
    facts::{Disk, DiskContent, Firmware, MachineFacts},
    manifest::ImageManifest,
    staging::{
        Finding, LONGEST_FINDING, LONGEST_TEXT, MOST_PARTS, Passes, STAGED_EVENT, StageRecord, StagedDisk, StagedNic,
        StagedTpm,
    },
    step::Step,
};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use time::OffsetDateTime;
use uuid::Uuid;

/// The machine was looked at, and can go to the shelf.
pub const STAGED: &str = "staged";
/// Events have 16 KiB at most, with what is around the record.
const LONGEST_RECORD: usize = 14 << 10;
const TRIES: u32 = 3;

/// What the firmware and the TPM say beyond the facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Further {
    /// What the firmware tries, in its order; `None` where it does not say.
    pub boot_order: Option<Vec<BootOption>>,
    /// The TPM's endorsement key.
    pub endorsement_key: Option<String>,
}

/// Judges a machine by what a template needs.
#[must_use]
pub fn judge(
    facts: &MachineFacts,
    further: &Further,
    manifest: &ImageManifest,
    mac: &str,
    now: OffsetDateTime,
) -> StageRecord {
    let findings = vec![
        firmware(facts, manifest),
        disks(facts, manifest),
        network(facts, mac),
        boot_order(facts, further),
        secure_boot(facts),
        tpm(facts, further),
        serial(facts),
    ];
    let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect::<String>();
    let smbios = &facts.smbios;
    let mut record = StageRecord {
        version: VERSION,
        mac: mac.to_owned(),
        time: now,
        template: short(&manifest.template),
        passes: findings.iter().all(|finding| finding.result != Passes::No),
        findings,
        manufacturer: short(&smbios.manufacturer),
        product: short(&smbios.product),
        serial: short(&smbios.serial),
        uuid: short(&smbios.uuid),
        firmware: facts.firmware,
        secure_boot: facts.secure_boot,
        boot_order: options(further).iter().take(MOST_PARTS).map(|option| short(&option.description)).collect(),
        tpm: facts.tpm.as_ref().map(|tpm| StagedTpm {
            version: tpm.version,
            manufacturer: short(&tpm.manufacturer),
            endorsement_key: further.endorsement_key.clone(),
        }),
        nics: (facts.nics.iter().take(MOST_PARTS))
            .map(|nic| StagedNic { mac: short(&nic.mac), driver: short(&nic.driver), carrier: nic.carrier })
            .collect(),
        disks: facts.disks.iter().take(MOST_PARTS).map(|disk| staged_disk(disk, &short)).collect(),
    };
    // Letters that take four bytes each: what is least needed goes.
    while serde_json::to_vec(&record).is_ok_and(|bytes| bytes.len() > LONGEST_RECORD) {
        if record.disks.pop().is_none() && record.nics.pop().is_none() && record.boot_order.pop().is_none() {
            break;
        }
    }
    record
}

fn staged_disk(disk: &Disk, short: &dyn Fn(&str) -> String) -> StagedDisk {
    StagedDisk {
        serial: disk.serial.as_deref().map(short),
        wwn: disk.wwn.as_deref().map(short),
        model: disk.model.as_deref().map(short),
        bytes: disk.bytes,
        content: short(&match &disk.content {
            DiskContent::Blank => "blank".to_owned(),
            DiskContent::HalfInstall { .. } => "a half install".to_owned(),
            DiskContent::Installed { .. } => "an install".to_owned(),
            DiskContent::Foreign { what } => what.clone(),
        }),
    }
}

fn finding(about: &str, result: Passes, words: impl Into<String>) -> Finding {
    let words: String = words.into().chars().filter(|c| !c.is_control()).take(LONGEST_FINDING).collect();
    Finding { about: about.to_owned(), result, words }
}

fn firmware(facts: &MachineFacts, manifest: &ImageManifest) -> Finding {
    match (facts.firmware, &manifest.bios) {
        (Firmware::Uefi, _) => finding("firmware", Passes::Yes, "UEFI"),
        (Firmware::Bios, Some(_)) => {
            finding("firmware", Passes::Note, "BIOS: UEFI is better where it can be switched on")
        }
        (Firmware::Bios, None) => {
            finding("firmware", Passes::No, "the template has no boot files for BIOS: switch the firmware to UEFI")
        }
    }
}

fn disks(facts: &MachineFacts, manifest: &ImageManifest) -> Finding {
    // Whose a disk is plays no part: a spare belongs to nobody.
    let nobody = Identity { store: None, macs: Vec::new() };
    match choose(&facts.disks, &manifest.disks, facts.firmware, &nobody) {
        Ok(plan) => {
            finding("disks", Passes::Yes, format!("{} would get the system", describe(&facts.disks[plan.disk])))
        }
        Err(refusal) => finding("disks", Passes::No, refusal.to_string()),
    }
}

fn network(facts: &MachineFacts, mac: &str) -> Finding {
    let nic = facts.nics.iter().find(|nic| nic.mac == mac);
    let speed = nic.and_then(|nic| nic.speed);
    match speed {
        Some(speed) if speed < 1000 => {
            finding("network", Passes::Note, format!("{mac} has a link of {speed} Mbit/s: an install takes long on it"))
        }
        _ => finding("network", Passes::Yes, format!("{mac} reaches the store")),
    }
}

fn options(further: &Further) -> &[BootOption] {
    further.boot_order.as_deref().unwrap_or_default()
}

fn boot_order(facts: &MachineFacts, further: &Further) -> Finding {
    let about = "boot-order";
    match (facts.firmware, &further.boot_order) {
        (Firmware::Bios, _) => {
            finding(about, Passes::Note, "a BIOS does not tell it: put the disk first, and the network second")
        }
        (Firmware::Uefi, None) => finding(about, Passes::Note, "the firmware does not tell it"),
        (Firmware::Uefi, Some(order)) => match order.iter().find(|option| option.active && option.network) {
            Some(option) => {
                finding(about, Passes::Yes, format!("asks the network by \"{}\"", option.description.trim()))
            }
            None => finding(
                about,
                Passes::No,
                "nothing in it asks the network: switch PXE or HTTP Boot on in the firmware setup",
            ),
        },
    }
}

fn secure_boot(facts: &MachineFacts) -> Finding {
    let about = "secure-boot";
    let setup = facts.uefi.as_ref().and_then(|uefi| uefi.setup_mode).unwrap_or(false);
    match facts.secure_boot {
        Some(true) => {
            let db = facts.uefi.iter().flat_map(|uefi| &uefi.certificates).filter(|known| known.list == "db");
            let names: Vec<&str> = db.map(|known| known.subject.as_str()).collect();
            finding(about, Passes::Yes, format!("on; db holds {}", names.join(", ")))
        }
        _ if setup => {
            finding(about, Passes::Note, "setup mode: anybody who starts it can enroll keys. Enroll your own")
        }
        Some(false) => finding(about, Passes::Note, "off: the store's LAN is trusted for what this machine starts"),
        None => finding(about, Passes::Note, "this firmware has none"),
    }
}

fn tpm(facts: &MachineFacts, further: &Further) -> Finding {
    match (&facts.tpm, &further.endorsement_key) {
        (Some(tpm), Some(key)) => {
            let words = format!("TPM {}, known by its endorsement key {}…", tpm.version, &key[..16.min(key.len())]);
            finding("tpm", Passes::Yes, words)
        }
        (Some(tpm), None) => {
            finding("tpm", Passes::Note, format!("TPM {}, which gives no endorsement key for P-256", tpm.version))
        }
        (None, _) => finding("tpm", Passes::Note, "none: the machine's key will lie on its disk"),
    }
}

fn serial(facts: &MachineFacts) -> Finding {
    let serial = facts.smbios.serial.trim();
    let useless = serial.is_empty() || serial.eq_ignore_ascii_case("to be filled by o.e.m.") || serial == "0";
    if useless {
        finding("serial", Passes::Note, "the machine has no serial number of its own: it is known by its MAC address")
    } else {
        finding("serial", Passes::Yes, serial)
    }
}

/// The record that this boot has sent.
static SENT: Mutex<Option<StageRecord>> = Mutex::new(None);

/// Says what was found, and sends it. It never ends well: the machine asks on, in case that it is admitted.
pub async fn tell(reporter: &Reporter, netboot: &Netboot, record: StageRecord) -> Failure {
    for Finding { about, result, words } in &record.findings {
        let result = match result {
            Passes::Yes => "yes ",
            Passes::Note => "note",
            Passes::No => "NO  ",
        };
        console::line(&format!("staging: {about:<12} {result} {words}"));
    }
    let same = |sent: &StageRecord| StageRecord { time: record.time, ..sent.clone() } == record;
    let known = SENT.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(same);
    if !known {
        if let Err(error) = send(netboot, &record).await {
            let words = format!("what was found could not be told to the store: {error:#}");
            reporter.failed(Step::Plan, "not-told", words.clone());
            return Failure::new("not-told", words);
        }
        *SENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
    }
    if record.passes {
        let words = format!("looked at for {}: it can go to the shelf. Switch it off", record.template);
        reporter.waiting(Step::Plan, STAGED, words.clone());
        return Failure::wait(STAGED, words);
    }
    let wrong = record.findings.iter().filter(|finding| finding.result == Passes::No);
    let wrong: Vec<String> = wrong.map(|finding| format!("{}: {}", finding.about, finding.words)).collect();
    let words = format!("it cannot go to the shelf for {} as it is. {}", record.template, wrong.join("; "));
    reporter.failed(Step::Plan, "not-for-the-shelf", words.clone());
    Failure::new("not-for-the-shelf", words)
}

async fn send(netboot: &Netboot, record: &StageRecord) -> anyhow::Result<()> {
    let event = Event {
        specversion: "1.0".into(),
        id: Uuid::new_v4(),
        source: "agent".into(),
        kind: STAGED_EVENT.into(),
        subject: record.mac.clone(),
        time: record.time,
        datacontenttype: "application/json".into(),
        data: record.clone(),
    };
    let mut tried = 0;
    // The same event each time: who has it already knows its id.
    loop {
        match netboot.send_events(std::slice::from_ref(&event)).await {
            Err(error) if tried + 1 >= TRIES => return Err(error),
            Err(_) => tried += 1,
            Ok(()) => return Ok(()),
        }
        tokio::time::sleep(Duration::from_secs(1 << tried).mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
