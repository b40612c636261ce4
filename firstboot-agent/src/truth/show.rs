//! `firstboot-agent check` and `firstboot-agent status`, for people and for machines.

use super::{Finding, State, findings, look};
use anyhow::{Context as _, Result};
use contracts::{event::StepStatus, install::InstallRecord, step::Step};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};
use time::OffsetDateTime;

/// Where the service leaves its last words, for this start of the machine.
pub const LAST_WORDS: &str = "/run/shelfboot/steps.json";

/// What a step last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// How it is with it.
    pub status: StepStatus,
    /// A sentence.
    pub message: String,
    /// The code of what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// The last word of each step.
pub type Words = BTreeMap<Step, Word>;

#[derive(Debug, Serialize)]
struct Checked<'a> {
    ok: bool,
    findings: &'a [Finding],
}

/// What `check` prints, and whether all is well.
///
/// # Errors
/// When this is no installed machine.
pub fn check(json: bool) -> Result<(String, bool)> {
    let config = look::machine_config(Path::new("/"))?;
    let seen = look::look(Path::new("/"), &config)?;
    let found = findings(&seen, OffsetDateTime::now_utc());
    let ok = found.is_empty();
    if json {
        return Ok((serde_json::to_string_pretty(&Checked { ok, findings: &found }).context("writing JSON")?, ok));
    }
    let mut text = String::new();
    for Finding { code, message, help } in &found {
        let _ = writeln!(text, "{message} (code {code})\n  {help}");
    }
    if ok {
        let _ = write!(
            text,
            "This machine is as {} {} says: a verified root, {} files of its configuration, {} certificates, its state {}.",
            config.template,
            config.image_version,
            seen.wanted.len(),
            seen.certificates.len(),
            if seen.state.encrypted { "encrypted" } else { "in the clear" }
        );
    }
    Ok((text.trim_end().to_owned(), ok))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    name: Option<String>,
    template: String,
    image_version: String,
    store: Option<String>,
    mac: Option<String>,
    kernel: Option<String>,
    boot_id: Option<String>,
    up_seconds: Option<u64>,
    ready: bool,
    state: State,
    steps: Words,
    findings: Vec<Finding>,
}

/// What `status` prints.
///
/// # Errors
/// When this is no installed machine.
pub fn status(json: bool) -> Result<String> {
    let root = Path::new("/");
    let config = look::machine_config(root)?;
    let seen = look::look(root, &config)?;
    let findings = findings(&seen, OffsetDateTime::now_utc());
    let record = fs::read(Path::new(crate::boot::installed::STATE).join(InstallRecord::FILE)).ok();
    let owner = record.and_then(|bytes| serde_json::from_slice::<InstallRecord>(&bytes).ok()).and_then(|r| r.owner);
    let text = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let steps: Words = fs::read(LAST_WORDS).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let status = Status {
        name: look::node(root).map(|node| node.name),
        template: config.template,
        image_version: config.image_version,
        store: owner.as_ref().map(|owner| owner.store.clone()),
        mac: owner.map(|owner| owner.machine),
        kernel: text("/proc/sys/kernel/osrelease"),
        boot_id: text("/proc/sys/kernel/random/boot_id"),
        up_seconds: text("/proc/uptime").and_then(|t| t.split('.').next()?.parse().ok()),
        ready: steps.get(&Step::Ready).is_some_and(|word| word.status == StepStatus::Done),
        state: seen.state,
        steps,
        findings,
    };
    if json { serde_json::to_string_pretty(&status).context("writing JSON") } else { Ok(words(&status)) }
}

fn words(status: &Status) -> String {
    let mut text = String::new();
    let mut row = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{what:<10}{value}");
        }
    };
    row("name", Some(status.name.clone().unwrap_or_else(|| "not admitted yet".into())));
    row("template", Some(format!("{} {}", status.template, status.image_version)));
    row("store", status.store.clone());
    row("MAC", status.mac.clone());
    row("kernel", status.kernel.clone());
    row("up", status.up_seconds.map(|s| format!("{} h {} min", s / 3600, s / 60 % 60)));
    row("state", Some(if status.state.encrypted { "encrypted; the TPM opens it" } else { "in the clear" }.into()));
    row("member", Some(if status.ready { "yes, ready" } else { "not yet" }.into()));
    for (step, word) in &status.steps {
        let code = word.code.as_ref().map_or(String::new(), |code| format!(" (code {code})"));
        row(&format!("  {step}"), Some(format!("{:?}: {}{code}", word.status, word.message).to_lowercase()));
    }
    let count = status.findings.len();
    row(
        "check",
        Some(if count == 0 { "as its template says".into() } else { format!("{count} findings; see `check`") }),
    );
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn people_see_the_code_of_what_it_waits_for() {
        let word = Word {
            status: StepStatus::Waiting,
            message: "a person decides".into(),
            code: Some("claim".into()),
            at: datetime!(2026-11-22 00:00 UTC),
        };
        let status = Status {
            name: None,
            template: "k8s-worker".into(),
            image_version: "1".into(),
            store: Some("store-1".into()),
            mac: None,
            kernel: None,
            boot_id: None,
            up_seconds: Some(3725),
            ready: false,
            state: State { encrypted: true, ..State::default() },
            steps: Words::from([(Step::Enroll, word.clone())]),
            findings: vec![],
        };
        let text = words(&status);
        for part in
            ["not admitted yet", "k8s-worker 1", "1 h 2 min", "waiting: a person decides (code claim)", "not yet"]
        {
            assert!(text.contains(part), "{text}");
        }
        let json = serde_json::to_string(&status).unwrap();
        assert!(json.contains(r#""imageVersion":"1""#), "{json}");
        let kept: Words = serde_json::from_slice(&serde_json::to_vec(&status.steps).unwrap()).unwrap();
        assert_eq!(kept[&Step::Enroll], word);
    }
}
