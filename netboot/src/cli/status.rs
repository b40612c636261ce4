//! `netboot status`: asks the running service, and shows its answer as a table or as JSON.

use crate::{config::Config, interface};
use anyhow::{Context, Result};
use clap::Args;
use contracts::{
    event::StepStatus,
    status::{Health, MachineStatus, StoreStatus},
};
use std::{fmt::Write, path::PathBuf, time::Duration};
use time::OffsetDateTime;

const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is larger than this only when it is not netboot's.
const LARGEST: usize = 8 << 20;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Arguments {
    /// The address of the service, as `http://ADDRESS[:PORT]`.
    #[arg(long, value_name = "URL")]
    url: Option<url::Url>,
    /// The service's configuration file, to work out its address.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The service does not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// No answer.
    #[error("no netboot answers at {0}")]
    Silent(String, #[source] reqwest::Error),
    /// An answer that is not netboot's.
    #[error("what answers at {0} is not netboot")]
    Strange(String, #[source] anyhow::Error),
}

/// Both documents, as `--json` prints them.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Answer {
    /// `GET /v1/health`.
    pub(super) health: Health,
    /// `GET /v1/status`.
    pub(super) status: StoreStatus,
}

/// Asks.
pub(super) async fn ask(arguments: &Arguments) -> Result<Answer> {
    let base = base(arguments)?;
    let client =
        reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().context("cannot make an HTTP client")?;
    let health = fetch(&client, format!("{base}/v1/health")).await?;
    let status = fetch(&client, format!("{base}/v1/status")).await?;
    Ok(Answer { health, status })
}

fn base(arguments: &Arguments) -> Result<String> {
    if let Some(url) = &arguments.url {
        return Ok(url.as_str().trim_end_matches('/').to_owned());
    }
    let path = arguments.config.as_deref().unwrap_or(std::path::Path::new(""));
    let config = Config::load(path)?;
    let address = interface::address(&config.interface, config.address)?;
    Ok(format!("http://{address}:{}", config.http_port))
}

async fn fetch<T: serde::de::DeserializeOwned>(client: &reqwest::Client, url: String) -> Result<T, AskError> {
    let silent = |error| AskError::Silent(url.clone(), error);
    let mut response = client.get(&url).send().await.map_err(silent)?;
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(silent)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LARGEST {
            return Err(AskError::Strange(url, anyhow::anyhow!("its answer is larger than {LARGEST} bytes")));
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| AskError::Strange(url.clone(), error.into()))
}

/// The table for people.
pub(super) fn table(answer: &Answer) -> String {
    let (health, status) = (&answer.health, &answer.status);
    let mut out = String::new();
    // Writing into a String cannot fail.
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "{name:<13} {text}");
    };
    line("store", &status.store);
    line("ready", if health.ready { "yes" } else { "no" });
    for reason in &health.reasons {
        line("", &format!("{}: {}", reason.code, reason.message));
    }
    for warning in &health.warnings {
        line("warning", &format!("{}: {}", warning.code, warning.message));
    }
    line("region", if status.region_reachable { "answers" } else { "does not answer" });
    let (waiting, refused) = (status.events_waiting, status.events_refused);
    line("events", &format!("{waiting} wait for the region, {refused} were refused by it"));
    let servers = if status.dhcp_servers.is_empty() { "none heard yet".into() } else { status.dhcp_servers.join(", ") };
    line("dhcp servers", &servers);
    if status.machines.is_empty() {
        line("machines", "none has asked for anything since the service was started");
        return out;
    }
    let rows = status.machines.iter().map(|machine| row(machine, status.now));
    let head = ["MACHINE", "NAME", "STEP", "STATUS", "FOR", "SENT", "MESSAGE"].map(String::from);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    out.push('\n');
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    out
}

fn row(machine: &MachineStatus, now: OffsetDateTime) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let last = machine.steps.last();
    let status = last.map(|line| match (line.status, line.progress) {
        (StepStatus::Started | StepStatus::Progress, Some(part)) => format!("{:.0} %", part * 100.0),
        (status, _) => match &line.code {
            Some(code) => format!("{} ({code})", status.as_str()),
            None => status.as_str().into(),
        },
    });
    // What machines say goes to a terminal: no control characters.
    let clean = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    [
        machine.mac.clone(),
        or_dash(machine.name.as_deref().map(clean)),
        or_dash(last.map(|line| line.step.to_string())),
        clean(&or_dash(status)),
        or_dash(last.map(|line| span(now - line.started))),
        format!("{:.1} MiB", (machine.boot_bytes + machine.install_bytes) as f64 / f64::from(1 << 20)),
        clean(last.map_or("", |line| line.message.as_str())),
    ]
}

fn span(span: time::Duration) -> String {
    let seconds = span.whole_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn people_get_a_table() {
        let line = |step: &str, status: &str, progress: Value, code: Value| {
            json!({
                "step": step, "status": status, "started": "2026-11-21T09:00:00Z", "updated": "2026-11-21T09:01:00Z",
                "progress": progress, "message": "a message\u{1b}[2J of the machine", "code": code,
            })
        };
        let machine = |last: u8, name: Value, steps: Value| {
            json!({
                "mac": format!("52:54:00:aa:bb:{last:02}"), "name": name, "boot_bytes": 37 << 20,
                "install_bytes": 100 << 20, "installed": false, "steps": steps,
            })
        };
        let reason = |code: &str| json!({"code": code, "message": "a sentence"});
        let answer = json!({
            "health": {
                "version": 1, "ready": false, "reasons": [reason("no-boot-image")],
                "warnings": [reason("region-unreachable")],
            },
            "status": {
                "version": 1, "store": "store-17", "now": "2026-11-21T09:01:15Z", "region_reachable": false,
                "events_waiting": 3, "events_refused": 1, "dhcp_servers": ["10.77.0.1"],
                "machines": [
                    machine(1, "w1".into(), json!([line("install", "progress", json!(0.423), Value::Null)])),
                    machine(2, Value::Null, json!([line("plan", "failed", Value::Null, "foreign-disk".into())])),
                    machine(3, Value::Null, json!([])),
                ],
            },
        });
        let answer: Answer = serde_json::from_value(answer).unwrap();
        insta::assert_snapshot!(table(&answer));
    }
}
