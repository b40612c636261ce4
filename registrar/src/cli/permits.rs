//! `registrar permit wipe|list|withdraw`: lets a machine install over somebody's data, once.

use super::machines::columns;
use clap::Subcommand;
use contracts::fleet::{Order, WipePermit, normal_number};
use registrar::db::PermitView;
use registrar::fleet;
use registrar::state::State;
use std::io::Write;
use std::path::PathBuf;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub(crate) enum PermitCommand {
    /// Let a machine install over what is on one disk, once
    ///
    /// The machine refuses a disk with somebody's data, and shows a number. Have it read out by somebody who stands before the
    /// machine, together with the disk's serial number, and ask whether the data may go. What was on the disk is lost.
    Wipe {
        /// The store in which the machine stands
        #[arg(long, value_name = "NAME")]
        store: String,
        /// MAC address of the machine, as its screen and label show it
        #[arg(long)]
        mac: String,
        /// Serial number or WWN of the disk, as the refusal shows it
        #[arg(long, value_name = "SERIAL")]
        disk: String,
        /// The number that the machine shows, for example K7QM-2F9X
        #[arg(long)]
        number: String,
        /// Who gives it, for the record
        #[arg(long, value_name = "NAME")]
        by: String,
        /// For how long it counts
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=168))]
        hours: u32,
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Show every permit that was given
    List {
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Take a permit back that was not used yet
    Withdraw {
        /// Its id
        id: Uuid,
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
}

/// What was typed cannot be meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadPermit {
    /// Not a number at all.
    #[error("`{0}` is not a number that a machine shows: it has two groups of four letters and digits, like K7QM-2F9X")]
    Number(String),
    /// Not a MAC address.
    #[error("`{0}` is not a MAC address like 52:54:00:12:34:56")]
    Mac(String),
    /// Nothing.
    #[error("the disk has no name")]
    Disk,
    /// Nobody here.
    #[error("there is no store {0}")]
    Store(String),
    /// Used up, too old, or never given.
    #[error("there is no permit {0} that still counts")]
    Unknown(Uuid),
}

impl BadPermit {
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Number(_) | Self::Mac(_) | Self::Disk => "have it read out again from the machine's screen",
            Self::Store(_) => "registrar machine list shows the stores of all machines",
            Self::Unknown(_) => "registrar permit list shows all of them",
        }
    }

    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Mac(_) | Self::Disk)
    }
}

pub(crate) async fn run(command: PermitCommand, now: OffsetDateTime, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        PermitCommand::Wipe { store, mac, disk, number, by, hours, state, json } => {
            let mac = normal_mac(&mac).ok_or(BadPermit::Mac(mac))?;
            let number = normal_number(&number).ok_or(BadPermit::Number(number))?;
            if disk.trim().is_empty() {
                return Err(BadPermit::Disk.into());
            }
            let state = State::open(&state).await?;
            if state.db.store_key(&store).await.map_err(|error| state.database(error))?.is_none() {
                return Err(BadPermit::Store(store).into());
            }
            // RFC 3339 in the permit has whole seconds, and so has the database.
            let issued = now.replace_nanosecond(0).unwrap_or(now);
            let permit = WipePermit {
                version: contracts::VERSION,
                id: Uuid::new_v4(),
                store,
                mac,
                disk: disk.trim().to_owned(),
                number,
                by,
                issued,
                expires: issued + Duration::hours(hours.into()),
            };
            let envelope = fleet::sign(&Order::Wipe(permit.clone()), &state.fleet(now)?)?;
            let text = serde_json::to_string(&envelope)?;
            state.db.put_permit(&permit, &text).await.map_err(|error| state.database(error))?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&permit)?)?;
            } else {
                let WipePermit { id, disk, mac, store, .. } = &permit;
                writeln!(out, "permit {id}: {mac} of {store} may install over the disk {disk}, once,")?;
                writeln!(out, "until {}. It does so by itself within three minutes.", moment(permit.expires))?;
            }
        }
        PermitCommand::List { state, json } => {
            let state = State::open(&state).await?;
            let permits = state.db.permits().await.map_err(|error| state.database(error))?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&permits)?)?;
            } else {
                out.write_all(table(&permits, now).as_bytes())?;
            }
        }
        PermitCommand::Withdraw { id, state } => {
            let state = State::open(&state).await?;
            if !state.db.withdraw_permit(id, now).await.map_err(|error| state.database(error))? {
                return Err(BadPermit::Unknown(id).into());
            }
            writeln!(
                out,
                "permit {id} is withdrawn; a store that cannot be reached now may still have it until it expires"
            )?;
        }
    }
    Ok(())
}

fn table(permits: &[PermitView], now: OffsetDateTime) -> String {
    let head = ["PERMIT", "STORE", "MAC", "DISK", "NUMBER", "BY", "GIVEN", "STATE"];
    let rows = permits.iter().map(|permit| {
        let state = match permit.withdrawn {
            Some(_) => "withdrawn".to_owned(),
            None if permit.expires <= now => "expired".to_owned(),
            None => format!("until {}", moment(permit.expires)),
        };
        let words = [&permit.store, &permit.mac, &permit.disk, &permit.number, &permit.by];
        let mut row = vec![permit.id.to_string()];
        row.extend(words.into_iter().cloned());
        row.extend([moment(permit.issued), state]);
        row
    });
    columns(&head, rows)
}

fn moment(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

/// Six bytes in lower case with colons, however they were typed.
fn normal_mac(typed: &str) -> Option<String> {
    let digits: String = typed.chars().filter(|c| !matches!(c, ':' | '-' | '.' | ' ')).collect();
    let whole = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then(|| digits.to_lowercase().as_bytes().chunks(2).map(String::from_utf8_lossy).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_may_be_typed_in_many_ways() {
        for typed in ["52:54:00:AB:34:56", "52-54-00-ab-34-56", "5254.00ab.3456", "525400ab3456"] {
            assert_eq!(normal_mac(typed).as_deref(), Some("52:54:00:ab:34:56"));
        }
        assert_eq!(normal_mac("52:54:00:12:34"), None);
        assert_eq!(normal_mac("52:54:00:12:34:5g"), None);
    }
}
