//! Kea's load program for DHCP servers, and what it prints.

use super::{
    inside::Bench,
    network::{ADDRESS, CLIENTS, FIRST},
};
use anyhow::{Context as _, Result, ensure};
use std::{collections::BTreeMap, process::Stdio, time::Duration};

/// Clients, each with a MAC address of its own. Fewer than there are addresses, so that everybody finds one.
pub const CLIENTS_IN_ALL: u32 = 3000;

/// After this an answer is lost; a client would have to ask again.
pub const LOST: Duration = Duration::from_secs(1);

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchanges {
    /// DISCOVERs that were sent.
    pub begun: u64,
    /// ACKs that came.
    pub finished: u64,
    /// Questions without an answer.
    pub unanswered: u64,
    /// Between a question and its answer, all questions together, sorted.
    pub waits: Vec<Duration>,
}

impl Exchanges {
    /// So many of a hundred questions were answered within this time. What was not answered took [`LOST`].
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let asked = self.waits.len() + usize::try_from(self.unanswered).ok()?;
        let at = (asked * percent).div_ceil(100).checked_sub(1)?;
        Some(self.waits.get(at).copied().unwrap_or(LOST))
    }

    /// The share of the exchanges that came to their end.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn share(&self) -> f64 {
        self.finished as f64 / self.begun.max(1) as f64
    }
}

/// Begins exchanges (DISCOVER, OFFER, REQUEST, ACK) at this rate for so many seconds, as a relay passes them on.
///
/// # Errors
/// When the program fails or prints something else than it did.
pub fn run(bench: &Bench<'_>, per_second: u32, seconds: u32) -> Result<Exchanges> {
    let mut command = bench.root.command_in(CLIENTS, "perfdhcp");
    command.args(["-4", "-l", &FIRST.to_string(), "-R", &CLIENTS_IN_ALL.to_string(), "-x", "t"]);
    // What is late by a second is lost ([`LOST`]); what was asked last may still be answered.
    command.args(["-r", &per_second.to_string(), "-p", &seconds.to_string(), "-d", "1", "-W", "1000000"]);
    let output = command.arg(ADDRESS.to_string()).stdin(Stdio::null()).output().context("starting perfdhcp")?;
    // 3: "one or more exchanges are not successfully completed".
    ensure!(
        matches!(output.status.code(), Some(0 | 3)),
        "perfdhcp ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    read(&String::from_utf8_lossy(&output.stdout)).context("perfdhcp prints something else than it did")
}

/// Reads what it prints. Numbers are below a line that names the pair of messages.
fn read(text: &str) -> Result<Exchanges> {
    let mut counts = BTreeMap::new();
    let (mut part, mut waits) = ("", Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix("***").and_then(|rest| rest.strip_suffix("***")) {
            part = title;
        } else if let Some(times) = line.strip_prefix("sent / received: ") {
            let (sent, received) = times.split_once(" / ").context("a line of times is cut")?;
            waits.push(moment(received)?.saturating_sub(moment(sent)?));
        } else if let Some((what, count)) = line.split_once(" packets: ") {
            counts.insert((part, what), count.parse::<u64>().with_context(|| format!("a number in `{line}`"))?);
        }
    }
    let count = |pair: &str, what: &str| {
        let title = format!("Statistics for: {pair}");
        counts.get(&(title.as_str(), what)).copied().with_context(|| format!("no number of {what} for {pair}"))
    };
    waits.sort();
    let (begun, finished) = (count("DISCOVER-OFFER", "sent")?, count("REQUEST-ACK", "received")?);
    let unanswered = (begun + count("REQUEST-ACK", "sent")?).saturating_sub(waits.len() as u64);
    Ok(Exchanges { begun, finished, unanswered, waits })
}

/// Seconds since the beginning, with leading noughts.
fn moment(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse().with_context(|| format!("`{text}` is no time"))?;
    Duration::try_from_secs_f64(seconds).with_context(|| format!("`{text}` is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kea 2.6.3 prints it.
    const TEXT: &str = "Running: perfdhcp -4 -R 3000 -r 5 -p 1 -x t 10.60.0.1\nScenario: basic.\n\
        ***Rate statistics***\nRate: 1.99947 4-way exchanges/second, expected rate: 5\n\n\
        ***Malformed Packets***\nMalformed packets: 0\n\
        ***Statistics for: DISCOVER-OFFER***\nsent packets: 4\nreceived packets: 3\ndrops: 1\ndrops ratio: 25 %\n\
        min delay: 0.547 ms\ncollected packets: 0\n\n\
        ***Statistics for: REQUEST-ACK***\nsent packets: 3\nreceived packets: 2\ndrops: 1\ncollected packets: 0\n\n\
        ***Timestamps for packets: DISCOVER-OFFER***\nsent / received: 000000.000129 / 000000.001326\n\
        sent / received: 000000.457367 / 000000.609585\nsent / received: 000000.600215 / 000000.609644\n\n\
        ***Timestamps for packets: REQUEST-ACK***\nsent / received: 000000.001423 / 000000.005338\n\
        sent / received: 000000.609715 / 000000.609903\n\n";

    #[test]
    fn what_perfdhcp_prints_is_read() {
        let read = read(TEXT).unwrap();
        assert_eq!((read.begun, read.finished, read.unanswered, read.waits.len()), (4, 2, 2, 5));
        assert_eq!(read.share(), 0.5);
        let micros = |percent| read.percentile(percent).map(|wait| wait.as_micros());
        assert_eq!((micros(1), micros(50), micros(70)), (Some(188), Some(9429), Some(152_218)));
        assert_eq!(read.percentile(99), Some(LOST), "what was not answered is late");
    }

    #[test]
    fn other_text_is_an_error_and_nothing_is_no_time() {
        assert!(super::read("").is_err());
        assert!(super::read("sent / received: 1").is_err());
        let none = Exchanges { begun: 0, finished: 0, unanswered: 0, waits: Vec::new() };
        assert_eq!((none.percentile(99), none.share()), (None, 0.0));
    }
}
