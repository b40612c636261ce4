//! A transfer that is under way, and what is told of it.

use super::{places::Place, wire::Wire};
use crate::{
    handed_out::{Tally, Teller},
    proto::{
        mac::Mac,
        tftp::transfer::{Outcome, Transfer},
    },
    shared::Shared,
};
use std::{net::SocketAddrV4, time::Instant};

pub(super) struct Running {
    pub(super) client: SocketAddrV4,
    pub(super) mac: Option<Mac>,
    pub(super) name: String,
    /// Bytes of the file.
    pub(super) length: u64,
    pub(super) wire: Wire,
    pub(super) transfer: Transfer,
    pub(super) place: Place,
    /// Its share of what is under way.
    pub(super) under_way: u64,
    /// It is among those that wait.
    pub(super) waits: bool,
    /// The earliest entry among the timers.
    pub(super) armed: Instant,
    pub(super) tally: Tally,
}

impl Running {
    /// Tells how far it is. Every byte may be acknowledged before the empty last block is, and then it is not over yet.
    pub(super) fn tell(&mut self, now: Instant, shared: &Shared, teller: &Teller) {
        let complete = matches!(self.transfer.outcome(), Some(Outcome::Complete { .. }));
        let acknowledged = self.transfer.acknowledged_bytes().min(self.length.saturating_sub(1));
        let place = if complete { self.length } else { acknowledged };
        self.tally.reached(now, place, self.transfer.outcome().is_some(), shared, teller);
    }

    pub(super) fn log_end(&self) {
        let who = self.mac.map_or_else(|| self.client.to_string(), |mac| mac.to_string());
        let (name, bytes) = (self.name.escape_default(), self.transfer.acknowledged_bytes());
        match self.transfer.outcome() {
            Some(Outcome::Complete { .. }) => {
                tracing::info!(
                    mac = who,
                    path = "tftp",
                    code = "complete",
                    bytes,
                    "{who}: {name} was sent whole by TFTP"
                );
            }
            Some(Outcome::Probed) => {
                tracing::debug!(mac = who, path = "tftp", code = "probed", "{who}: asked for the size of {name}")
            }
            Some(Outcome::Refused { code, text }) => {
                tracing::warn!(
                    mac = who,
                    path = "tftp",
                    code = "refused",
                    bytes,
                    "{who}: refused {name} after {bytes} bytes (error {code}: {text})"
                );
            }
            Some(Outcome::TooSlow) => {
                let line =
                    format!("{who}: took {bytes} bytes of {name} and next to nothing in the last minute: given up");
                tracing::warn!(mac = who, path = "tftp", code = "too-slow", bytes, "{line}");
            }
            Some(Outcome::Lost) | None => {
                tracing::warn!(
                    mac = who,
                    path = "tftp",
                    code = "lost",
                    bytes,
                    "{who}: fell silent after {bytes} bytes of {name}"
                );
            }
        }
    }
}
