//! `registrar machine list|show|waiting|approve|revoke|reopen`: reads and changes the database that a running server uses.

use anyhow::Context as _;
use clap::Subcommand;
use contracts::claim;
use registrar::broker::{BrokerError, Brokers};
use registrar::db::{Approval, ClaimView, MachineView};
use registrar::state::{State, StateError};
use std::io::Write;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Debug, Subcommand)]
pub(crate) enum MachineCommand {
    /// Show all machines
    List {
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show one machine
    Show {
        /// The inventory entry's name
        name: String,
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Show machines that wait until a person admits them
    Waiting {
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Admit the machine that shows this claim code on its screen and on its store's page
    ///
    /// Have the code read out to you by somebody who stands before the machine. It stands for that machine's key: no other
    /// key is let in by it.
    Approve {
        /// The claim code, for example K7QM-2F9X-0TBD
        #[arg(long)]
        code: String,
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Keep a machine out, and make what it was given useless at its cluster
    ///
    /// For a machine that was stolen, or that is not trusted any more. It stays out until its entry is opened again. Harmless
    /// to repeat: do so when the cluster did not answer.
    Revoke {
        /// The inventory entry's name
        name: String,
        /// The server's configuration file: it names the clusters
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Forget a machine's pinned key, so that the next machine may take its place
    Reopen {
        /// The inventory entry's name
        name: String,
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

/// There is no such machine.
#[derive(Debug, thiserror::Error)]
#[error("there is no machine {0}")]
pub(crate) struct UnknownMachine(String);

impl UnknownMachine {
    pub(super) fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub(crate) fn hint(&self) -> &'static str {
        "registrar machine list shows the names; a running server takes new ones from its inventory"
    }
}

/// The cluster has not taken back what it gave.
#[derive(Debug, thiserror::Error)]
#[error("{name} is kept out, but its cluster still knows it")]
pub(crate) struct NotRevoked {
    name: String,
    #[source]
    source: BrokerError,
}

impl NotRevoked {
    /// The cluster can never take it back: asking it again does not help.
    pub(super) const fn is_by_hand(&self) -> bool {
        matches!(self.source, BrokerError::NotRevocable(_))
    }

    pub(crate) fn hint(&self) -> &'static str {
        match self.source {
            BrokerError::NotRevocable(_) => "do that by hand; the machine cannot enroll again in the meantime",
            _ => "run the same command again when the cluster answers; the machine cannot enroll in the meantime",
        }
    }
}

/// A claim code lets nobody in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadCode {
    /// Not a code at all.
    #[error("`{0}` is not a claim code: it has three groups of four letters and digits, like K7QM-2F9X-0TBD")]
    Malformed(String),
    /// Nobody shows it.
    #[error("no machine waits under the claim code {0}")]
    Unknown(String),
    /// It is too old.
    #[error("the claim code {code} was good until {}", moment(Some(*until)))]
    Expired {
        /// The code.
        code: String,
        /// Its end.
        until: OffsetDateTime,
    },
}

impl BadCode {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "have it read out again from the machine's screen or the store's page",
            Self::Unknown(_) => {
                "have it read out again; registrar machine waiting shows which machines wait. A machine that was admitted or \
                 got a new code shows this one no more"
            }
            Self::Expired { .. } => "the machine shows a new one within a minute: have that one read out",
        }
    }
}

async fn approve(state: &State, typed: &str) -> anyhow::Result<ClaimView> {
    let code = claim::normal(typed).ok_or_else(|| BadCode::Malformed(typed.into()))?;
    let approval = state.db.approve(&code, OffsetDateTime::now_utc()).await.map_err(|error| state.database(error))?;
    match approval {
        Approval::Given(claim) => Ok(claim),
        Approval::Unknown => Err(BadCode::Unknown(code).into()),
        Approval::Expired(until) => Err(BadCode::Expired { code, until }.into()),
    }
}

pub(crate) async fn run(command: MachineCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        MachineCommand::List { state, json } => {
            let state = State::open(&state).await?;
            let machines = state.db.machines(None).await.map_err(|error| state.database(error))?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&machines)?)?;
            } else {
                out.write_all(table(&machines).as_bytes())?;
            }
        }
        MachineCommand::Show { name, state, json } => {
            let state = State::open(&state).await?;
            let machine = one(&state, &name).await?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&machine)?)?;
            } else {
                out.write_all(details(&machine).as_bytes())?;
            }
        }
        MachineCommand::Waiting { state, json } => {
            let state = State::open(&state).await?;
            let claims = state.db.claims(OffsetDateTime::now_utc()).await.map_err(|error| state.database(error))?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&claims)?)?;
            } else {
                out.write_all(waiting(&claims).as_bytes())?;
            }
        }
        MachineCommand::Approve { code, state, json } => {
            let state = State::open(&state).await?;
            let claim = approve(&state, &code).await?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&claim)?)?;
            } else {
                let ClaimView { store, machine, mac, .. } = &claim;
                writeln!(
                    out,
                    "the machine {mac} of {store} is let in as {machine} when it asks again, within a minute"
                )?;
            }
        }
        MachineCommand::Revoke { name, config, json } => revoke(&name, &config, json, out).await?,
        MachineCommand::Reopen { name, state, json } => {
            let state = State::open(&state).await?;
            let pinned =
                state.db.reopen(&name, OffsetDateTime::now_utc()).await.map_err(|error| state.database(error))?;
            let pinned = pinned.ok_or_else(|| UnknownMachine(name.clone()))?;
            let machine = one(&state, &name).await.ok();
            if json {
                writeln!(out, "{}", serde_json::json!({ "name": name, "key_forgotten": pinned, "machine": machine }))?;
            } else {
                let key = if pinned { "its key is forgotten" } else { "no key was pinned" };
                writeln!(out, "{name} is open for the next machine; {key}")?;
            }
        }
    }
    Ok(())
}

/// The machine stays out from the first moment, whatever the cluster answers.
pub(super) async fn revoke(name: &str, config: &Path, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let config = registrar::config::read(config).context("the configuration is not usable")?;
    let state = State::open(&config.state).await?;
    let template = state.db.revoke(name, OffsetDateTime::now_utc()).await.map_err(|error| state.database(error))?;
    let template = template.ok_or_else(|| UnknownMachine(name.into()))?;
    let brokers = Brokers::of_config(&config).await;
    let brokers = brokers.with_context(|| format!("{name} is kept out, but its cluster was not asked"))?;
    let done = match brokers.of(&template) {
        Some(broker) => broker.revoke(name).await.map_err(|source| NotRevoked { name: name.into(), source })?,
        None => vec![format!("no cluster serves its template {template}, so nothing was to be taken back there")],
    };
    if json {
        writeln!(out, "{}", serde_json::json!({ "name": name, "template": template, "done": done }))?;
    } else {
        writeln!(out, "{name} is kept out until its entry is opened again (registrar machine reopen {name})")?;
        done.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(())
}

async fn one(state: &State, name: &str) -> anyhow::Result<MachineView> {
    let found = state.db.machines(Some(name)).await.map_err(|error| -> StateError { state.database(error) })?;
    Ok(found.into_iter().next().ok_or_else(|| UnknownMachine(name.into()))?)
}

const DASH: &str = "-";

fn moment(time: Option<OffsetDateTime>) -> String {
    let whole = time.map(|time| time.replace_millisecond(0).unwrap_or(time));
    whole.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| DASH.into())
}

fn step(machine: &MachineView) -> String {
    match (&machine.last_step, &machine.last_status) {
        (Some(step), Some(status)) => format!("{step} {status}"),
        _ => DASH.into(),
    }
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| DASH.into())
}

fn table(machines: &[MachineView]) -> String {
    let head = ["NAME", "STORE", "TEMPLATE", "KEY", "LAST STEP", "READY SINCE", "BOOT ID"];
    let short = |key: &Option<String>| key.as_deref().map_or_else(|| DASH.into(), short);
    let rows = machines.iter().map(|m| {
        let names = [m.name.clone(), m.store.clone(), m.template.clone()];
        let states = [short(&m.fingerprint), step(m), moment(m.ready_since), text(&m.boot_id)];
        [names.as_slice(), states.as_slice()].concat()
    });
    columns(&head, rows)
}

fn waiting(claims: &[ClaimView]) -> String {
    let head = ["WOULD BE", "STORE", "TEMPLATE", "MAC", "KEY", "SINCE", "STATE"];
    let rows = claims.iter().map(|c| {
        let state = if c.approved { "approved" } else { "waiting" };
        let names = [c.machine.clone(), c.store.clone(), c.template.clone(), c.mac.clone()];
        [names.as_slice(), &[short(&c.fingerprint), moment(Some(c.since)), state.into()]].concat()
    });
    columns(&head, rows)
}

fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(12).collect()
}

pub(super) fn columns(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn details(machine: &MachineView) -> String {
    let lines = [
        ("name", machine.name.clone()),
        ("store", machine.store.clone()),
        ("template", machine.template.clone()),
        ("in the inventory", if machine.listed { "yes" } else { "no" }.into()),
        ("epoch", machine.epoch.to_string()),
        ("mac", text(&machine.mac)),
        ("pinned key", text(&machine.fingerprint)),
        ("pinned", moment(machine.pinned_at)),
        ("revoked", moment(machine.revoked_at)),
        ("boot id", text(&machine.boot_id)),
        ("ready since", moment(machine.ready_since)),
        ("last step", step(machine)),
        ("said", text(&machine.last_message)),
    ];
    lines.iter().map(|(name, value)| format!("{name:<18}{value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up() {
        let machine = MachineView {
            name: "w1".into(),
            store: "store-1".into(),
            template: "k8s-worker".into(),
            listed: true,
            epoch: 1,
            fingerprint: Some("ab".repeat(32)),
            pinned_at: None,
            revoked_at: None,
            mac: None,
            boot_id: None,
            ready_since: Some(time::macros::datetime!(2026-11-21 10:00:00.123 UTC)),
            last_step: Some("ready".into()),
            last_status: Some("done".into()),
            last_message: None,
        };
        let text = table(&[machine]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME  STORE    TEMPLATE    KEY           LAST STEP   READY SINCE           BOOT ID");
        assert_eq!(lines[1], "w1    store-1  k8s-worker  abababababab  ready done  2026-11-21T10:00:00Z  -");
    }
}
