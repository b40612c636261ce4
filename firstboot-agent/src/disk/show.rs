//! `firstboot-agent plan`: what the plan would be and why, for people and for programs. Nothing is touched.

use super::plan::{self, Identity, Judgement, describe};
use anyhow::{Context, Result};
use contracts::{
    disks::DiskPolicy,
    facts::{Disk, MachineFacts},
    manifest::ImageManifest,
};
use serde::Serialize;
use std::{fs, io::Read as _, path::Path};

/// Facts and policies are a few kilobytes.
const LIMIT: u64 = 4 << 20;

/// Reads the facts that `firstboot-agent facts` printed; `-` is standard input.
///
/// # Errors
/// When the file cannot be read, or is no such document.
pub fn read_facts(path: &Path) -> Result<MachineFacts> {
    contracts::read(&read(path)?).with_context(|| format!("reading the facts in {}", path.display()))
}

/// Reads the rules: from an image's manifest, which is what machines believe, or from a file that holds only them.
///
/// # Errors
/// When the file cannot be read, or is neither.
pub fn read_rules(path: &Path) -> Result<DiskPolicy> {
    let bytes = read(path)?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).with_context(|| {
        format!(
            "reading {}: it is the manifest.json of a template's image that is wanted, or its `disks` as JSON",
            path.display()
        )
    })?;
    if value.get("image_version").is_some() {
        return Ok(contracts::read::<ImageManifest>(&bytes)?.disks);
    }
    serde_json::from_value(value).with_context(|| format!("reading the rules for disks in {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(LIMIT).read_to_end(&mut bytes).context("reading standard input")?;
    } else {
        let file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
        file.take(LIMIT).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(bytes)
}

/// The plan as a document.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    version: u32,
    /// `None` when it refuses.
    chosen: Option<Choice<'a>>,
    /// `None` when it chooses.
    refusal: Option<Refused>,
    disks: Vec<Line<'a>>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    kernel_name: &'a str,
    path: &'a str,
    wwn: Option<&'a str>,
    serial: Option<&'a str>,
    why: &'a str,
}

#[derive(Debug, Serialize)]
struct Refused {
    code: &'static str,
    message: String,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    kernel_name: &'a str,
    verdict: &'static str,
    why: &'a str,
}

/// Judges the machine, and gives the words for standard output.
///
/// # Errors
/// Never in practice: the plan can always be written as JSON.
pub fn show(facts: &MachineFacts, rules: &DiskPolicy, me: &Identity, json: bool) -> Result<(String, Judgement)> {
    let judged = plan::judge(&facts.disks, rules, facts.firmware, me);
    let text = if json { as_json(&facts.disks, &judged)? } else { as_text(&facts.disks, &judged) };
    Ok((text, judged))
}

fn as_json(disks: &[Disk], judged: &Judgement) -> Result<String> {
    let chosen = judged.outcome.as_ref().ok().map(|plan| {
        let disk = &disks[plan.disk];
        Choice {
            kernel_name: &disk.kernel_name,
            path: &disk.path,
            wwn: disk.wwn.as_deref(),
            serial: disk.serial.as_deref(),
            why: &plan.why,
        }
    });
    let refusal = judged.outcome.as_ref().err();
    let refusal = refusal.map(|refusal| Refused { code: refusal.code(), message: refusal.to_string() });

    let lines = judged.verdicts.iter().map(|verdict| Line {
        kernel_name: &disks[verdict.disk].kernel_name,
        verdict: verdict.code,
        why: &verdict.words,
    });
    let shown = Shown { version: contracts::VERSION, chosen, refusal, disks: lines.collect() };
    Ok(serde_json::to_string_pretty(&shown)?)
}

fn as_text(disks: &[Disk], judged: &Judgement) -> String {
    let mut text = match &judged.outcome {
        Ok(plan) => format!("The system would go there: {}.\n", plan.why),
        Err(refusal) => format!("No disk would be written to ({}): {refusal}.\n", refusal.code()),
    };
    for verdict in &judged.verdicts {
        let name = describe(&disks[verdict.disk]);
        text.push_str(&format!("  {:<13} {name} {}\n", verdict.code, verdict.words));
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::facts::{DiskContent, Nic};

    fn machine() -> MachineFacts {
        let disk = |name: &str, content| Disk {
            kernel_name: name.into(),
            path: format!("pci-{name}"),
            bytes: 100_000_000_000,
            sector_bytes: 512,
            serial: Some(name.to_uppercase()),
            content,
            ..Disk::default()
        };
        MachineFacts {
            disks: vec![
                Disk { bytes: 200_000_000_000, ..disk("sdb", DiskContent::Foreign { what: "an LVM volume".into() }) },
                disk("sda", DiskContent::Blank),
            ],
            nics: vec![Nic { mac: "52:54:00:00:00:01".into(), ..Nic::default() }],
            ..MachineFacts::default()
        }
    }

    #[test]
    fn the_plan_says_of_every_disk_why() {
        let facts = machine();
        let me = Identity::new(None, &facts);
        let (text, _) = show(&facts, &DiskPolicy::default(), &me, false).unwrap();
        assert_eq!(
            text,
            "The system would go there: disk sda (100 GB, serial SDA) is the only blank disk.\n\
             \x20 chosen        disk sda (100 GB, serial SDA) gets the system\n\
             \x20 foreign-data  disk sdb (200 GB, serial SDB) holds an LVM volume"
        );
        let rules = DiskPolicy { smallest_bytes: Some(150_000_000_000), ..DiskPolicy::default() };
        let (text, judged) = show(&facts, &rules, &me, true).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["refusal"]["code"], "foreign-data");
        assert_eq!(value["chosen"], serde_json::Value::Null);
        assert_eq!(value["disks"][0]["verdict"], "too-small");
        assert!(judged.outcome.is_err());
    }

    #[test]
    fn facts_and_rules_come_from_files_and_nothing_else_passes_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("file.json");
            fs::write(&path, text).unwrap();
            path
        };
        let facts = machine();
        assert_eq!(read_facts(&file(&serde_json::to_string(&facts).unwrap())).unwrap(), facts);
        assert!(read_facts(&file("{}")).is_err());
        assert_eq!(read_rules(&file(r#"{"smallest_bytes": 5}"#)).unwrap().smallest_bytes, Some(5));
        assert!(read_rules(&file(r#"{"smallest": 5}"#)).is_err());
        assert!(read_rules(&file("kind: MachineTemplate")).is_err());
        let manifest = include_str!("../../../contracts/tests/golden/image-manifest.json");
        assert!(read_rules(&file(manifest)).unwrap().is_default());
    }
}
