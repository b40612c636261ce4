//! `registrar retire|retired`: a machine is wiped for the shelf.

use super::machines::{NotRevoked, UnknownMachine, columns, revoke};
use clap::Args;
use contracts::fleet::{Order, RetireOrder};
use registrar::db::RetirementView;
use registrar::fleet;
use registrar::state::State;
use std::io::Write;
use std::path::PathBuf;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

#[derive(Debug, Args)]
pub(crate) struct RetireArguments {
    /// The inventory entry's name
    name: String,
    /// Who orders it, for the record
    #[arg(long, value_name = "NAME")]
    by: String,
    /// For how long the machine may be switched off until then
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=90))]
    days: u32,
    /// The server's configuration file: it names the state folder and the clusters
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RetiredArguments {
    /// The state folder
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Nobody has the entry.
#[derive(Debug, thiserror::Error)]
#[error("no machine was ever admitted as {0}: there is nothing to wipe")]
pub(crate) struct NobodyThere(String);

impl NobodyThere {
    pub(crate) fn hint() -> &'static str {
        "registrar machine show NAME shows what is known; without a pinned key nobody can tell whose disk a disk is"
    }
}

pub(crate) async fn retire(
    arguments: RetireArguments,
    now: OffsetDateTime,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let RetireArguments { name, by, days, config, json } = arguments;
    let folder = registrar::config::read(&config)?.state;
    let state = State::open(&folder).await?;
    let found = state.db.machines(Some(&name)).await.map_err(|error| state.database(error))?;
    let machine = found.into_iter().next().ok_or_else(|| UnknownMachine::new(&name))?;
    let (Some(mac), Some(key)) = (machine.mac, machine.fingerprint) else { return Err(NobodyThere(name).into()) };
    let issued = now.replace_nanosecond(0).unwrap_or(now);
    let order = RetireOrder {
        version: contracts::VERSION,
        id: Uuid::new_v4(),
        name: name.clone(),
        store: machine.store,
        mac,
        key,
        by,
        issued,
        expires: issued + Duration::days(days.into()),
    };
    let envelope = serde_json::to_string(&fleet::sign(&Order::Retire(order.clone()), &state.fleet(now)?)?)?;
    // The order first: when the cluster does not answer, the same command is to be run again, and gives a new one.
    state.db.put_retirement(&order, &envelope).await.map_err(|error| state.database(error))?;
    let mut revoked = Vec::new();
    let by_hand = match revoke(&name, &config, json, &mut revoked).await {
        Ok(()) => None,
        // What the machine was given goes with its disk.
        Err(error) if error.downcast_ref().is_some_and(NotRevoked::is_by_hand) => Some(format!("{error:#}")),
        Err(error) => return Err(error.context(format!("the order {} is given, and not all of it is done", order.id))),
    };
    if json {
        let revoked: Option<serde_json::Value> = serde_json::from_slice(&revoked).ok();
        writeln!(out, "{}", serde_json::json!({ "order": order, "revoked": revoked, "by_hand": by_hand }))?;
        return Ok(());
    }
    out.write_all(&revoked)?;
    by_hand.iter().try_for_each(|words| writeln!(out, "{words}"))?;
    writeln!(
        out,
        "order {}: {name} ({} of {}) wipes its own disks when it next starts from the network",
        order.id, order.mac, order.store
    )?;
    writeln!(out, "until {}. registrar retired shows when it has.", moment(order.expires))?;
    Ok(())
}

pub(crate) async fn list(arguments: RetiredArguments, now: OffsetDateTime, out: &mut impl Write) -> anyhow::Result<()> {
    let state = State::open(&arguments.state).await?;
    let all = state.db.retirements().await.map_err(|error| state.database(error))?;
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        out.write_all(table(&all, now).as_bytes())?;
    }
    Ok(())
}

fn table(all: &[RetirementView], now: OffsetDateTime) -> String {
    let head = ["MACHINE", "STORE", "MAC", "BY", "ORDERED", "STATE"];
    let rows = all.iter().map(|one| {
        let state = match (one.done, one.withdrawn) {
            (Some(done), _) => format!("ready for the shelf since {}", moment(done)),
            (None, Some(_)) => "withdrawn".into(),
            (None, None) if one.expires <= now => "expired: order it again".into(),
            (None, None) => format!("not done yet, counts until {}", moment(one.expires)),
        };
        let words = [&one.machine, &one.store, &one.mac, &one.by];
        let mut row: Vec<String> = words.into_iter().cloned().collect();
        row.extend([moment(one.issued), state]);
        row
    });
    columns(&head, rows)
}

fn moment(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}
