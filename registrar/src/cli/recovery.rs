//! `registrar recovery-key`: shows the keys that open a machine's encrypted state, and writes down who asked.

use clap::Args;
use registrar::db::{Look, RecoveryKeyView};
use registrar::state::State;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Debug, Args)]
pub(crate) struct RecoveryArguments {
    /// The inventory entry's name
    name: String,
    /// Who asks, for the record
    #[arg(long, value_name = "NAME")]
    by: String,
    /// The state folder
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Nothing to show.
#[derive(Debug, thiserror::Error)]
#[error("no recovery key of {0} is here")]
pub(crate) struct NoKey(String);

impl NoKey {
    pub(crate) fn hint(&self) -> &'static str {
        "a machine hands its key over when it is admitted, if its template has `state: {encryption: tpm}`; `registrar machine list` \
         shows names"
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    machine: String,
    keys: Vec<RecoveryKeyView>,
    shown_before: Vec<Look>,
}

pub(crate) async fn run(arguments: RecoveryArguments, now: OffsetDateTime, out: &mut impl Write) -> anyhow::Result<()> {
    let RecoveryArguments { name, by, state, json } = arguments;
    let state = State::open(&state).await?;
    let (keys, shown_before) =
        state.db.show_recovery_keys(&name, &by, now).await.map_err(|error| state.database(error))?;
    if keys.is_empty() {
        return Err(NoKey(name).into());
    }
    tracing::info!(target: "audit", decision = "recovery-key-shown", machine = name, by, keys = keys.len());
    state.db.close().await;
    if json {
        let shown = Shown { machine: name, keys, shown_before };
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(());
    }
    for RecoveryKeyView { volume, key, received } in keys {
        writeln!(out, "{key}")?;
        writeln!(out, "  opens the volume {volume}, handed over {}", moment(received))?;
    }
    for Look { by, at } in shown_before {
        writeln!(out, "shown to {by} {}", moment(at))?;
    }
    Ok(())
}

fn moment(time: OffsetDateTime) -> String {
    time.replace_millisecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}
