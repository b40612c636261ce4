//! One line in the log for each decision about a client: whether it got an answer, and why. People read the sentence, programs the
//! fields: `path` says what was asked, `code` why it was answered like that. A line that repeats is written once a minute.

use crate::{
    proto::{dhcp::decide::Silence, mac::Mac},
    roster::Standing,
    shared::Shared,
};
use std::time::Instant;
use time::OffsetDateTime;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// DHCP, on port 67.
    Dhcp,
    /// The PXE boot server, on port 4011.
    Proxy,
    /// TFTP.
    Tftp,
    /// A boot file over HTTP.
    Boot,
    /// `POST /v1/machines`.
    Machines,
    /// `POST /v1/events`.
    Events,
    /// `POST /v1/vouchers`.
    Vouchers,
    /// `POST /v1/logs`.
    Logs,
}

impl Path {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Proxy => "4011",
            Self::Tftp => "tftp",
            Self::Boot => "http-boot",
            Self::Machines => "machines",
            Self::Events => "events",
            Self::Vouchers => "vouchers",
            Self::Logs => "logs",
        }
    }
}

/// Writes the line. `who` is a MAC address, or an IP address where the machine is not known.
pub fn say(shared: &Shared, path: Path, who: &str, answered: bool, code: &'static str, line: &str) {
    let path = path.as_str();
    let Some(more) = shared.quiet.due(Instant::now(), who, line) else { return };
    let repeats = if more == 0 { String::new() } else { format!(" ({more} more since the last such line)") };
    match who.parse::<Mac>() {
        Ok(mac) => tracing::info!(%mac, path, answered, code, "{who}: {line}{repeats}"),
        Err(_) => tracing::info!(client = who, path, answered, code, "{who}: {line}{repeats}"),
    }
}

/// Why a packet got no answer, for programs.
#[must_use]
pub fn code(silence: &Silence, policy: &'static str) -> &'static str {
    match silence {
        Silence::NotARequest => "not-a-request",
        Silence::NotABootClient(_) => "not-a-boot-client",
        Silence::NotForUs(_) => "not-for-us",
        Silence::NoMessageType => "no-message-type",
        Silence::Unserved(_) => "unserved-architecture",
        Silence::BadGuid => "bad-guid",
        Silence::Unidentified => "unidentified",
        Silence::Policy(_) => policy,
        Silence::Unwritable(_) => "unwritable",
        Silence::RaspberryPi => "raspberry-pi",
        Silence::SecureItem => "secure-item",
        Silence::TooMany => "too-many",
        Silence::Lease(_) => "lease",
        Silence::Listening => "listening",
    }
}

/// Why the policy gave no answer to a machine, for programs.
#[must_use]
pub fn policy_code(shared: &Shared, mac: Mac) -> &'static str {
    let now = OffsetDateTime::now_utc();
    let asker = shared.asker(mac, now);
    shared.store.with(|roster| match roster.asks(mac, asker) {
        Standing::NoAssignments => "no-assignments",
        Standing::NotListed => "not-admitted",
        Standing::Staging(_) => "no-boot-file",
        Standing::Listed { installed: true, .. } => "installed",
        Standing::Listed { .. } if roster.tries(mac).is_some_and(|t| t.paused_until(now).is_some()) => "too-many-tries",
        Standing::Listed { .. } => "no-boot-file",
    })
}
