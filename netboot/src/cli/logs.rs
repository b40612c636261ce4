//! `netboot logs`: what machines of this store logged of their attempts, from the state folder.

use super::write_out;
use crate::{config::Config, logs, proto::mac::Mac};
use anyhow::{Context, Result};
use clap::Args;
use contracts::logs::LogBundle;
use std::{fmt::Write, path::PathBuf};
use time::format_description::well_known::Rfc3339;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The machine, by the MAC address that `netboot status` shows: prints the log of its last attempt.
    #[arg(value_name = "MAC")]
    machine: Option<Mac>,
    /// Another attempt than the last one: the beginning of its id, as the list shows it.
    #[arg(long, value_name = "ID", requires = "machine")]
    attempt: Option<String>,
    /// The service's configuration file, for its state folder. The service need not run.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON: the list without its texts, or the whole bundle.
    #[arg(long)]
    json: bool,
}

/// Nothing is kept that fits.
#[derive(Debug, thiserror::Error)]
#[error("no log is kept of {}", .0)]
pub(super) struct NoLog(String);

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let config = Config::load(&arguments.config)?;
    let folder = config.state.join(logs::FOLDER);
    let bundles = logs::list(&config.state).with_context(|| format!("cannot read {}", folder.display()))?;
    let text = match (arguments.machine, arguments.json) {
        (None, false) => table(&bundles),
        (None, true) => format!("{}\n", serde_json::to_string_pretty(&bundles.iter().map(head).collect::<Vec<_>>())?),
        (Some(mac), json) => {
            let bundle = chosen(&bundles, mac, arguments.attempt.as_deref())?;
            if json { format!("{}\n", serde_json::to_string_pretty(bundle)?) } else { whole(bundle) }
        }
    };
    write_out(text.as_bytes())
}

fn chosen<'a>(bundles: &'a [LogBundle], mac: Mac, attempt: Option<&str>) -> Result<&'a LogBundle, NoLog> {
    let is_it = |bundle: &&LogBundle| {
        bundle.mac == mac.to_string() && attempt.is_none_or(|attempt| bundle.attempt.to_string().starts_with(attempt))
    };
    let of = attempt.map_or_else(|| mac.to_string(), |attempt| format!("{mac} for the attempt {attempt}"));
    bundles.iter().find(is_it).ok_or(NoLog(of))
}

/// Without its texts.
fn head(bundle: &LogBundle) -> serde_json::Value {
    serde_json::json!({
        "mac": bundle.mac, "attempt": bundle.attempt, "part": bundle.part, "agent": bundle.agent, "end": bundle.end,
        "time": bundle.time.format(&Rfc3339).unwrap_or_default(),
        "bytes": bundle.lines.len() + bundle.kernel.len(),
    })
}

fn time(bundle: &LogBundle) -> String {
    bundle.time.replace_nanosecond(0).ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

fn table(bundles: &[LogBundle]) -> String {
    if bundles.is_empty() {
        return "no machine of this store has sent a log yet\n".into();
    }
    // Writing into a String cannot fail.
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<17}  {:<20}  {:<8}  {:<9}  {:<9}  {:<8}  REASON",
        "MACHINE", "TIME", "ATTEMPT", "PART", "STEP", "STATUS"
    );
    for bundle in bundles {
        let end = &bundle.end;
        let step = end.step.map_or_else(|| "-".into(), |step| step.to_string());
        let reason = end.code.as_ref().map_or_else(|| end.message.clone(), |code| format!("{code}: {}", end.message));
        let reason: String = reason.chars().take(100).collect();
        let (mac, attempt, part) = (&bundle.mac, bundle.attempt.to_string(), bundle.part.as_str());
        let _ = writeln!(
            out,
            "{mac:<17}  {:<20}  {:<8}  {part:<9}  {step:<9}  {:<8}  {reason}",
            time(bundle),
            &attempt[..8],
            end.status.as_str()
        );
    }
    out
}

fn whole(bundle: &LogBundle) -> String {
    let end = &bundle.end;
    let step = end.step.map_or_else(|| "no step".into(), |step| step.to_string());
    let code = end.code.as_ref().map_or_else(String::new, |code| format!(" (code {code})"));
    format!(
        "machine  {}\nattempt  {}, {}, agent {}\nsent     {} by the machine's clock\nended    {step} {}{code}: {}\n\n\
         what the agent said, in seconds after the kernel's start:\n{}\n\nthe kernel's last messages:\n{}\n",
        bundle.mac,
        bundle.attempt,
        bundle.part.as_str(),
        bundle.agent,
        time(bundle),
        end.status.as_str(),
        end.message,
        bundle.lines,
        if bundle.kernel.is_empty() { "(none)" } else { &bundle.kernel },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(machine: u8, attempt: u128) -> LogBundle {
        serde_json::from_value(serde_json::json!({
            "version": 1, "attempt": uuid::Uuid::from_u128(attempt << 64), "mac": format!("52:54:00:aa:bb:{machine:02}"),
            "part": "installer", "agent": "0.1.0", "time": "2026-11-21T09:00:00.123Z",
            "end": {"step": "plan", "status": "failed", "code": "foreign-data", "message": "sda holds data"},
            "lines": "    1.250 [plan] ... choosing the disk", "kernel": "[    0.000000] Linux version 6.12",
        }))
        .unwrap()
    }

    #[test]
    fn people_get_a_list_and_a_text() {
        insta::assert_snapshot!(table(&[bundle(1, 1), bundle(2, 2)]));
        insta::assert_snapshot!(whole(&bundle(1, 1)));
        assert_eq!(table(&[]), "no machine of this store has sent a log yet\n");
    }

    #[test]
    fn an_attempt_is_found_by_the_beginning_of_its_id() {
        let bundles = [bundle(1, 0x7700_0000_0000_0000), bundle(1, 0x8800_0000_0000_0000)];
        let mac = "52:54:00:aa:bb:01".parse().unwrap();
        assert_eq!(chosen(&bundles, mac, None).unwrap().attempt, bundles[0].attempt);
        assert_eq!(chosen(&bundles, mac, Some("88")).unwrap().attempt, bundles[1].attempt);
        let none = chosen(&bundles, mac, Some("99")).unwrap_err().to_string();
        assert_eq!(none, "no log is kept of 52:54:00:aa:bb:01 for the attempt 99");
    }
}
