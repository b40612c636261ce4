//! One file to one client: a state machine. The caller owns the socket and the clock.
//!
//! Use: [`Transfer::start`], then send everything that [`Transfer::poll_transmit`] gives, pass in packets by
//! [`Transfer::handle`] and the clock by [`Transfer::handle_timeout`] at [`Transfer::poll_timeout`], until
//! [`Transfer::outcome`] is there.
//!
//! What firmware does that a server must bear: EDK2 asks for the size, and answers the OACK with an ERROR before it
//! asks again for the file; block numbers wrap to 0 behind 65535; the last ACK may never come, because the client
//! has left for the kernel; duplicate ACKs must not each be answered (RFC 1123, section 4.2.3.1).

use super::packet::{FromClient, ReadRequest, data, option_ack};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Without the option, RFC 1350's block size.
const DEFAULT_BLOCK: u16 = 512;
/// More than this gains nothing on a LAN, and overruns small receivers.
const LARGEST_WINDOW: u16 = 16;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Repeats without any progress before giving up: about 50 s.
const REPEATS: u32 = 7;
/// The same once the whole file is out, when most likely only the last ACK got lost.
const LAST_REPEATS: u32 = 4;

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
}

/// The machine.
#[derive(Debug)]
pub struct Transfer {
    file: Bytes,
    block_size: u16,
    window: u16,
    first_wait: Duration,
    /// The OACK until its ACK 0 comes.
    option_ack: Option<Vec<u8>>,
    option_ack_due: bool,
    /// Blocks acknowledged, counted from the start of the file without wrapping.
    acked: u64,
    /// Blocks given out since the last rewind.
    sent: u64,
    /// Blocks ever given out.
    highest: u64,
    /// The `acked` at which a repeated ACK already caused a rewind.
    rewound_at: Option<u64>,
    repeats: u32,
    wait: Duration,
    deadline: Instant,
    outcome: Option<Outcome>,
}

impl Transfer {
    /// Begins a transfer. `largest_block` is what fits into one packet of the interface.
    #[must_use]
    pub fn start(now: Instant, request: &ReadRequest, file: Bytes, largest_block: u16) -> Self {
        let block_size = request.block_size.map_or(DEFAULT_BLOCK, |asked| asked.min(largest_block.max(8)));
        let window = request.window.map_or(1, |asked| asked.min(LARGEST_WINDOW));
        let mut options = Vec::new();
        // Only what was asked for, never more than was asked for (RFC 2347); EDK2 aborts otherwise.
        options.extend(request.block_size.map(|_| ("blksize", u64::from(block_size))));
        options.extend(request.size.then_some(("tsize", file.len() as u64)));
        options.extend(request.timeout.map(|seconds| ("timeout", u64::from(seconds))));
        options.extend(request.window.map(|_| ("windowsize", u64::from(window))));
        let first_wait = request.timeout.map_or(FIRST_WAIT, |s| Duration::from_secs(s.into()));
        Self {
            file,
            block_size,
            window,
            first_wait,
            option_ack_due: !options.is_empty(),
            option_ack: (!options.is_empty()).then(|| option_ack(&options)),
            acked: 0,
            sent: 0,
            highest: 0,
            rewound_at: None,
            repeats: 0,
            wait: first_wait,
            deadline: now + first_wait,
            outcome: None,
        }
    }

    /// Bytes that the client acknowledged.
    #[must_use]
    pub fn acknowledged_bytes(&self) -> u64 {
        (self.acked * u64::from(self.block_size)).min(self.file.len() as u64)
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
            self.acked += distance;
            self.rewound_at = None;
            // An ACK inside the window means that the client misses what comes after it (RFC 7440, section 4).
            self.sent = self.acked;
            self.progress(now);
            if self.acked == self.blocks() {
                self.outcome = Some(Outcome::Complete { acknowledged: true });
            }
        } else if self.window > 1 && self.sent > self.acked && self.rewound_at != Some(self.acked) {
            // The first block of the window got lost. Once per position: a client may repeat itself.
            self.rewound_at = Some(self.acked);
            self.sent = self.acked;
        }
    }

    fn progress(&mut self, now: Instant) {
        self.repeats = 0;
        self.wait = self.first_wait;
        self.deadline = now + self.wait;
    }

    /// The next packet to send, if any.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if self.outcome.is_some() {
            return None;
        }
        if let Some(options) = &self.option_ack {
            return std::mem::take(&mut self.option_ack_due).then(|| options.clone());
        }
        if self.sent >= self.blocks() || self.sent - self.acked >= u64::from(self.window) {
            return None;
        }
        let size = usize::from(self.block_size);
        let from = usize::try_from(self.sent).unwrap_or(usize::MAX).saturating_mul(size);
        let payload = &self.file[from.min(self.file.len())..from.saturating_add(size).min(self.file.len())];
        self.sent += 1;
        self.highest = self.highest.max(self.sent);
        Some(data(low16(self.sent), payload))
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
        self.repeats += 1;
        if self.repeats > if all_out { LAST_REPEATS } else { REPEATS } {
            self.outcome = Some(if all_out { Outcome::Complete { acknowledged: false } } else { Outcome::Lost });
            return;
        }
        self.sent = self.acked;
        self.rewound_at = None;
        self.option_ack_due = self.option_ack.is_some();
        self.wait = (self.wait * 2).min(LONGEST_WAIT.max(self.first_wait));
        self.deadline = now + self.wait;
    }

    /// Blocks in all. The last one is shorter than the others, empty if need be.
    fn blocks(&self) -> u64 {
        self.file.len() as u64 / u64::from(self.block_size) + 1
    }
}

fn low16(count: u64) -> u16 {
    (count & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ReadRequest {
        ReadRequest { name: "a.efi".into(), mode: "octet".into(), ..ReadRequest::default() }
    }

    fn ack(block: u16) -> FromClient {
        FromClient::Ack(block)
    }

    #[test]
    fn without_options_data_1_comes_first_at_512_bytes() {
        let mut transfer = Transfer::start(Instant::now(), &request(), Bytes::from(vec![1; 600]), 1468);
        let first = transfer.poll_transmit().unwrap();
        assert_eq!((&first[..4], first.len()), (&[0, 3, 0, 1][..], 516));
        assert_eq!(transfer.poll_transmit(), None);
    }

    #[test]
    fn the_oack_has_only_what_was_asked_for_and_never_more() {
        let asked = ReadRequest { block_size: Some(9000), size: true, window: Some(64), ..request() };
        let mut transfer = Transfer::start(Instant::now(), &asked, Bytes::from_static(b"abc"), 1468);
        assert_eq!(transfer.poll_transmit().unwrap(), b"\0\x06blksize\x001468\0tsize\x003\0windowsize\x0016\0");
        let small = ReadRequest { block_size: Some(512), ..request() };
        let mut transfer = Transfer::start(Instant::now(), &small, Bytes::new(), 1468);
        assert_eq!(transfer.poll_transmit().unwrap(), b"\0\x06blksize\x00512\0");
    }

    #[test]
    fn an_error_after_the_oack_is_a_normal_probe() {
        let asked = ReadRequest { size: true, ..request() };
        let mut transfer = Transfer::start(Instant::now(), &asked, Bytes::from_static(b"abc"), 1468);
        transfer.poll_transmit().unwrap();
        transfer.handle(Instant::now(), &FromClient::Error { code: 8, text: "stop".into() });
        assert_eq!(transfer.outcome(), Some(&Outcome::Probed));
    }

    #[test]
    fn a_multiple_of_the_block_size_ends_with_an_empty_block() {
        let now = Instant::now();
        let mut transfer = Transfer::start(now, &request(), Bytes::from(vec![1; 512]), 1468);
        assert_eq!(transfer.poll_transmit().unwrap().len(), 516);
        transfer.handle(now, &ack(1));
        assert_eq!(transfer.poll_transmit().unwrap(), [0, 3, 0, 2]);
        transfer.handle(now, &ack(2));
        assert_eq!(transfer.outcome(), Some(&Outcome::Complete { acknowledged: true }));
    }

    #[test]
    fn repeated_acks_are_not_answered_one_by_one() {
        let now = Instant::now();
        let mut transfer = Transfer::start(now, &request(), Bytes::from(vec![1; 2000]), 1468);
        transfer.poll_transmit().unwrap();
        transfer.handle(now, &ack(1));
        transfer.poll_transmit().unwrap();
        for _ in 0..5 {
            transfer.handle(now, &ack(1));
            assert_eq!(transfer.poll_transmit(), None);
        }
    }

    #[test]
    fn a_lost_last_ack_is_success_and_silence_before_that_is_not() {
        let run = |length: usize, acks: u16| {
            let mut now = Instant::now();
            let mut transfer = Transfer::start(now, &request(), Bytes::from(vec![1; length]), 1468);
            for block in 1..=acks {
                while transfer.poll_transmit().is_some() {}
                transfer.handle(now, &ack(block));
            }
            let began = now;
            while transfer.outcome().is_none() {
                while transfer.poll_transmit().is_some() {}
                now = transfer.poll_timeout().unwrap();
                transfer.handle_timeout(now);
            }
            assert!(now - began < Duration::from_secs(60));
            transfer.outcome().cloned().unwrap()
        };
        assert_eq!(run(1000, 1), Outcome::Complete { acknowledged: false });
        assert_eq!(run(2000, 1), Outcome::Lost);
    }

    #[test]
    fn block_numbers_wrap_to_zero() {
        let now = Instant::now();
        let asked = ReadRequest { block_size: Some(8), window: Some(4), ..request() };
        let mut transfer = Transfer::start(now, &asked, Bytes::from(vec![7; 8 * 70_000]), 1468);
        transfer.poll_transmit().unwrap();
        transfer.handle(now, &ack(0));
        let mut expected: u16 = 0;
        while transfer.outcome().is_none() {
            while let Some(packet) = transfer.poll_transmit() {
                expected = expected.wrapping_add(1);
                assert_eq!(packet[2..4], expected.to_be_bytes());
            }
            transfer.handle(now, &ack(expected));
        }
        assert_eq!(transfer.acknowledged_bytes(), 8 * 70_000);
    }
}
