//! `registrar stage|staged`: spares are looked at before they go to the shelf.

use super::machines::columns;
use clap::{Args, Subcommand};
use contracts::assignment::ImageRef;
use contracts::staging::{Passes, StagingWindow};
use registrar::db::Staged;
use registrar::state::State;
use std::io::Write;
use std::path::PathBuf;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

#[derive(Debug, Subcommand)]
pub(crate) enum StageCommand {
    /// Let machines that no entry names start from a store's network, to be looked at
    ///
    /// They install nothing and write to no disk: the boot image records serial numbers, MAC addresses, disks, the TPM's key,
    /// Secure Boot and the boot order, and says whether the machine can go to the shelf. `registrar staged` shows the records.
    Open {
        /// The store, as in the inventory
        #[arg(long, value_name = "NAME")]
        store: String,
        /// What the machines are to be good for; the store needs its image
        #[arg(long, value_name = "TEMPLATE")]
        template: String,
        /// The channel of its image
        #[arg(long, value_name = "CHANNEL", default_value = "stable")]
        channel: String,
        /// For how long
        #[arg(long, value_name = "HOURS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=168))]
        hours: u32,
        /// Who opens it, for the record
        #[arg(long, value_name = "NAME")]
        by: String,
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Close it before its time
    Close {
        /// The store
        #[arg(long, value_name = "NAME")]
        store: String,
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StagedArguments {
    /// One machine, by its MAC address, in full
    #[arg(value_name = "MAC")]
    mac: Option<String>,
    /// The state folder
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// JSON instead of text: the whole records
    #[arg(long)]
    json: bool,
}

/// There is no such store.
#[derive(Debug, thiserror::Error)]
#[error("there is no store {0}")]
pub(crate) struct UnknownStore(String);

impl UnknownStore {
    pub(crate) fn hint() -> &'static str {
        "registrar machine list shows the stores of all machines; registrar store add makes one"
    }
}

pub(crate) async fn run(command: StageCommand, now: OffsetDateTime, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        StageCommand::Open { store, template, channel, hours, by, state } => {
            let state = State::open(&state).await?;
            if state.db.store_key(&store).await.map_err(|error| state.database(error))?.is_none() {
                return Err(UnknownStore(store).into());
            }
            let until = now.replace_nanosecond(0).unwrap_or(now) + Duration::hours(hours.into());
            let window = StagingWindow { until, image: ImageRef { template, channel, version: None } };
            state.db.open_staging(&store, &window, &by).await.map_err(|error| state.database(error))?;
            let template = &window.image.template;
            writeln!(out, "machines that {store} does not know are looked at for {template} until {}", moment(until))?;
        }
        StageCommand::Close { store, state } => {
            let state = State::open(&state).await?;
            let was = state.db.close_staging(&store, now).await.map_err(|error| state.database(error))?;
            writeln!(out, "{store} {}", if was { "looks at no more machines" } else { "looked at no machines" })?;
        }
    }
    Ok(())
}

pub(crate) async fn list(arguments: StagedArguments, out: &mut impl Write) -> anyhow::Result<()> {
    let StagedArguments { mac, state, json } = arguments;
    let state = State::open(&state).await?;
    let mac = mac.map(|mac| mac.to_lowercase().replace('-', ":"));
    let all = state.db.staged(mac.as_deref()).await.map_err(|error| state.database(error))?;
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else if mac.is_some() {
        all.iter().try_for_each(|staged| out.write_all(details(staged).as_bytes()))?;
    } else {
        out.write_all(table(&all).as_bytes())?;
    }
    Ok(())
}

fn table(all: &[Staged]) -> String {
    let head = ["MAC", "STORE", "SERIAL", "PRODUCT", "FOR", "AT", "SHELF", "TO CHANGE"];
    let rows = all.iter().map(|Staged { store, received, record }| {
        let wrong = record.findings.iter().filter(|finding| finding.result == Passes::No);
        let wrong: Vec<&str> = wrong.map(|finding| finding.about.as_str()).collect();
        let words = [&record.mac, store, &record.serial, &record.product, &record.template];
        let mut row: Vec<String> = words.into_iter().cloned().collect();
        let passes = if record.passes { "yes" } else { "no" };
        row.extend([moment(*received), passes.into(), if wrong.is_empty() { "-".into() } else { wrong.join(", ") }]);
        row
    });
    columns(&head, rows)
}

fn details(staged: &Staged) -> String {
    let record = &staged.record;
    let mut text = format!(
        "{} ({} {}, serial {}) in {}: {}\n",
        record.mac,
        record.manufacturer,
        record.product,
        record.serial,
        staged.store,
        if record.passes { "can go to the shelf" } else { "has to be changed" }
    );
    for finding in &record.findings {
        let result = match finding.result {
            Passes::Yes => "yes",
            Passes::Note => "note",
            Passes::No => "NO",
        };
        text.push_str(&format!("  {:<12} {result:<5} {}\n", finding.about, finding.words));
    }
    text
}

fn moment(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}
