//! One file to one client: a state machine. The caller owns the socket, the clock and the file.
//!
//! Use: [`Transfer::start`], then send everything that [`Transfer::poll_transmit`] gives, pass in packets by
//! [`Transfer::handle`] and the clock by [`Transfer::handle_timeout`] at [`Transfer::poll_timeout`], until
//! [`Transfer::outcome`] is there.
//!
//! What firmware does that a server must bear: EDK2 asks for the size, and answers the OACK with an ERROR before it
//! asks again for the file; block numbers wrap to 0 behind 65535; the last ACK may never come, because the client
//! has left for the kernel; duplicate ACKs must not each be answered (RFC 1123, section 4.2.3.1).

use super::{
    packet::{FromClient, ReadRequest, option_ack},
    round_trip::RoundTrip,
};
use crate::proto::pace::Pace;
use std::time::{Duration, Instant};

/// Without the option, RFC 1350's block size.
const DEFAULT_BLOCK: u16 = 512;
/// More than this gains nothing on a LAN, and overruns small receivers.
pub const LARGEST_WINDOW: u16 = 16;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Silence before giving up. Firmware on a port that a switch blocks for a while still comes back within it.
const PATIENCE: Duration = Duration::from_secs(50);
/// The same once the whole file is out, when most likely only the last ACK got lost.
const LAST_PATIENCE: Duration = Duration::from_secs(12);
/// Repeats of the very first packet: who has not answered yet may not have asked either, and somebody else gets these
/// packets.
const FIRST_REPEATS: u32 = 3;
/// A client takes at least [`LEAST_BYTES`] in each of these; slower ones hold a place that others need.
const PACE: Duration = Duration::from_secs(60);
const LEAST_BYTES: u64 = 32 << 10;

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The client has the whole file. False when its last ACK never came.
    Complete {
        /// The last block was acknowledged.
        acknowledged: bool,
    },
    /// The client only wanted to know the size: ERROR right after the OACK.
    Probed,
    /// The client gave up.
    Refused {
        /// Its error code.
        code: u16,
        /// Its text.
        text: String,
    },
    /// The client fell silent.
    Lost,
    /// The client takes next to nothing.
    TooSlow,
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// This packet.
    Options(Vec<u8>),
    /// Blocks that follow each other. Only the last block of the file is shorter than the others.
    Blocks {
        /// The first one; blocks count from 1 and do not wrap. Their number in the packet is the low 16 bits.
        first: u64,
        /// How many, at least one.
        count: u16,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Transfer {
    length: u64,
    block_size: u16,
    window: u16,
    /// The client asked for this time between repeats.
    agreed_wait: Option<Duration>,
    round_trip: RoundTrip,
    /// The OACK until its ACK 0 comes.
    option_ack: Option<Vec<u8>>,
    option_ack_due: bool,
    /// The client has answered: it is there.
    proved: bool,
    /// Blocks acknowledged, counted from the start of the file without wrapping.
    acked: u64,
    /// Blocks given out since the last rewind.
    sent: u64,
    /// Blocks ever given out.
    highest: u64,
    /// Where a repeated ACK caused a rewind, and when.
    rewound: Option<(u64, Instant)>,
    /// Blocks were repeated because nothing came.
    repeated: bool,
    /// ACKs that are still to come because the client got blocks twice: they speak of no gap.
    echoes: u64,
    /// A block that was given out once, and when: its ACK tells the round trip.
    timed: Option<(u64, Instant)>,
    repeats: u32,
    wait: Duration,
    deadline: Instant,
    /// When the client was last heard to have got further.
    heard: Instant,
    pace: Pace,
    outcome: Option<Outcome>,
}

impl Transfer {
    /// Begins a transfer of a file of `length` bytes. `largest_block` is what fits into one packet of the interface.
    #[must_use]
    pub fn start(now: Instant, request: &ReadRequest, length: u64, largest_block: u16) -> Self {
        let block_size = request.block_size.map_or(DEFAULT_BLOCK, |asked| asked.min(largest_block.max(8)));
        let window = request.window.map_or(1, |asked| asked.min(LARGEST_WINDOW));
        let mut options = Vec::new();
        // Only what was asked for, never more than was asked for (RFC 2347); EDK2 aborts otherwise.
        options.extend(request.block_size.map(|_| ("blksize", u64::from(block_size))));
        options.extend(request.size.then_some(("tsize", length)));
        options.extend(request.timeout.map(|seconds| ("timeout", u64::from(seconds))));
        options.extend(request.window.map(|_| ("windowsize", u64::from(window))));
        let agreed_wait = request.timeout.map(|s| Duration::from_secs(s.into()));
        let wait = agreed_wait.unwrap_or(FIRST_WAIT);
        Self {
            length,
            block_size,
            window,
            agreed_wait,
            round_trip: RoundTrip::default(),
            option_ack_due: !options.is_empty(),
            option_ack: (!options.is_empty()).then(|| option_ack(&options)),
            proved: false,
            acked: 0,
            sent: 0,
            highest: 0,
            rewound: None,
            repeated: false,
            echoes: 0,
            timed: None,
            repeats: 0,
            wait,
            deadline: now + wait,
            heard: now,
            pace: Pace::new(now, PACE, LEAST_BYTES),
            outcome: None,
        }
    }

    /// Bytes that the client acknowledged.
    #[must_use]
    pub fn acknowledged_bytes(&self) -> u64 {
        (self.acked * u64::from(self.block_size)).min(self.length)
    }

    /// Bytes of each block but the last.
    #[must_use]
    pub fn block_size(&self) -> u16 {
        self.block_size
    }

    /// True once the client has answered: until then it may be somebody else who asked in its name.
    #[must_use]
    pub fn proved(&self) -> bool {
        self.proved
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Takes a packet from this client's port.
    pub fn handle(&mut self, now: Instant, packet: &FromClient) {
        if self.outcome.is_some() {
            return;
        }
        match packet {
            FromClient::Ack(block) => self.handle_ack(now, *block),
            FromClient::Error { .. } if self.option_ack.is_some() => self.outcome = Some(Outcome::Probed),
            FromClient::Error { code, text } => {
                self.outcome = Some(Outcome::Refused { code: *code, text: text.clone() });
            }
            // A repeated request is the caller's business: it starts the transfer anew.
            FromClient::Read(_) | FromClient::Write => {}
        }
    }

    /// The client's host says that nobody has this port any more.
    pub fn handle_gone(&mut self) {
        if self.outcome.is_none() {
            self.outcome = Some(self.silent());
        }
    }

    /// What silence means now.
    fn silent(&self) -> Outcome {
        let all_out = self.option_ack.is_none() && self.highest == self.blocks();
        if all_out && self.proved { Outcome::Complete { acknowledged: false } } else { Outcome::Lost }
    }

    fn handle_ack(&mut self, now: Instant, block: u16) {
        if self.option_ack.is_some() {
            if block == 0 {
                self.option_ack = None;
                self.option_ack_due = false;
                self.progress(now);
            }
            return;
        }
        // The block number is the low 16 bits of the count. Nothing above `highest` was ever sent, and the
        // window is far smaller than 65536, so the distance from `acked` tells which count is meant.
        let distance = u64::from(block.wrapping_sub(low16(self.acked)));
        if distance > self.highest - self.acked {
            return;
        }
        if distance > 0 {
            // Firmware answers each block that it has already (EDK2), with the number of the last one. Were those answers taken for
            // complaints, every window from here on would be sent twice.
            self.echoes = if std::mem::take(&mut self.repeated) { distance } else { 0 };
            self.acked += distance;
            if let Some((_, at)) = self.timed.take_if(|(timed, _)| *timed <= self.acked) {
                self.round_trip.sample(now.saturating_duration_since(at));
            }
            if self.acked < self.sent {
                // An ACK inside the window means that the client misses what comes after it (RFC 7440, section 4).
                self.rewind(now);
            }
            // What was sent before a rewind may arrive late, and bring an ACK from beyond.
            self.sent = self.sent.max(self.acked);
            self.progress(now);
            if self.acked == self.blocks() {
                self.outcome = Some(Outcome::Complete { acknowledged: true });
            }
        } else if self.echoes > 0 {
            self.echoes -= 1;
        } else if self.window > 1 && self.sent > self.acked && self.may_rewind(now) {
            // The first block of the window got lost.
            self.rewind(now);
        }
    }

    /// A client repeats its ACK for every block behind a gap; one answer is enough for as long as that answer is under way.
    fn may_rewind(&self, now: Instant) -> bool {
        let Some((at, when)) = self.rewound else { return true };
        at != self.acked || now.saturating_duration_since(when) > self.round_trip.usual()
    }

    fn rewind(&mut self, now: Instant) {
        self.rewound = Some((self.acked, now));
        self.sent = self.acked;
        // An ACK for what was sent twice does not tell which one it answers (Karn's rule, RFC 6298, section 3).
        self.timed = None;
    }

    fn progress(&mut self, now: Instant) {
        self.proved = true;
        self.repeats = 0;
        self.heard = now;
        self.wait = self.agreed_wait.unwrap_or_else(|| self.round_trip.wait().unwrap_or(FIRST_WAIT));
        self.deadline = now + self.wait;
        if self.pace.too_slow(now, self.acknowledged_bytes()) {
            self.outcome = Some(Outcome::TooSlow);
        }
    }

    /// True when there are blocks to be sent now.
    #[must_use]
    pub fn has_blocks(&self) -> bool {
        let end = self.blocks().min(self.acked + u64::from(self.window));
        self.outcome.is_none() && self.option_ack.is_none() && self.sent < end
    }

    /// Bytes of blocks that were sent and are neither acknowledged nor given up. What is repeated into silence does not count:
    /// a machine that was switched off keeps no room.
    #[must_use]
    pub fn bytes_under_way(&self) -> u64 {
        if self.repeats > 0 {
            return 0;
        }
        (self.sent - self.acked) * u64::from(self.block_size)
    }

    /// It is not the client that keeps the transfer waiting: the clock starts anew.
    pub fn hold(&mut self, now: Instant) {
        self.deadline = now + self.wait;
    }

    /// What to send next, if anything.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.outcome.is_some() {
            return None;
        }
        if let Some(options) = &self.option_ack {
            return std::mem::take(&mut self.option_ack_due).then(|| Transmit::Options(options.clone()));
        }
        let end = self.blocks().min(self.acked + u64::from(self.window));
        let count = u16::try_from(end.checked_sub(self.sent)?).ok().filter(|count| *count > 0)?;
        let first = self.sent + 1;
        self.sent = end;
        if first > self.highest && self.timed.is_none() {
            self.timed = Some((end, now));
        }
        self.highest = self.highest.max(end);
        self.deadline = now + self.wait;
        Some(Transmit::Blocks { first, count })
    }

    /// When [`Transfer::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.outcome.is_none().then_some(self.deadline)
    }

    /// Repeats what was not acknowledged, or ends the transfer.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.outcome.is_some() || now < self.deadline {
            return;
        }
        let all_out = self.option_ack.is_none() && self.highest == self.blocks();
        let silent = now.saturating_duration_since(self.heard);
        self.repeats += 1;
        let over = if self.proved {
            silent >= if all_out { LAST_PATIENCE } else { PATIENCE }
        } else {
            self.repeats > FIRST_REPEATS
        };
        if over {
            self.outcome = Some(self.silent());
            return;
        }
        self.repeated = self.sent > self.acked;
        self.sent = self.acked;
        self.rewound = None;
        self.timed = None;
        self.option_ack_due = self.option_ack.is_some();
        self.wait = (self.wait * 2).min(LONGEST_WAIT.max(self.agreed_wait.unwrap_or_default()));
        self.deadline = now + self.wait;
    }

    /// Blocks in all. The last one is shorter than the others, empty if need be.
    fn blocks(&self) -> u64 {
        self.length / u64::from(self.block_size) + 1
    }
}

fn low16(count: u64) -> u16 {
    (count & 0xffff) as u16
}
