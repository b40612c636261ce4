//! One TFTP client without socket or clock, in the dialect of a firmware.

use clap::ValueEnum;
use std::time::{Duration, Instant};

/// Whose dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// EDK2: asks for the size first and gives up that transfer, then fetches with windows of four blocks.
    Edk2,
    /// iPXE: one request, block by block.
    Ipxe,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this to the port that requests go to, from a new port.
    Request(Vec<u8>),
    /// Answer this to the transfer's port.
    Answer(Vec<u8>),
    /// Nothing.
    Wait,
    /// The file is whole; the answer is the last one.
    Done(Vec<u8>),
    /// It cannot be had.
    Failed(String),
}

/// The state.
#[derive(Debug)]
pub struct Client {
    dialect: Dialect,
    name: String,
    stage: Stage,
    block_size: usize,
    window: u32,
    in_window: u32,
    /// Blocks that arrived in order.
    blocks: u64,
    length: Option<u64>,
    received: u64,
    /// What was sent last, for a repeat.
    last: Vec<u8>,
    to_transfer: bool,
    wait: Duration,
    due: Instant,
    tries: u32,
    /// Packets that were repeated because nothing came.
    pub repeats: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Size,
    Options,
    Data,
}

impl Client {
    /// A client that is about to fetch a file.
    #[must_use]
    pub fn new(dialect: Dialect, name: &str, now: Instant) -> Self {
        let mut client = Self {
            dialect,
            name: name.to_owned(),
            stage: if dialect == Dialect::Edk2 { Stage::Size } else { Stage::Options },
            block_size: 512,
            window: 1,
            in_window: 0,
            blocks: 0,
            length: None,
            received: 0,
            last: Vec::new(),
            to_transfer: false,
            wait: Duration::ZERO,
            due: now,
            tries: 0,
            repeats: 0,
        };
        client.wait = client.first_wait();
        client
    }

    /// The request that begins the current stage.
    pub fn request(&mut self, now: Instant) -> Vec<u8> {
        let options = match (self.dialect, self.stage) {
            (Dialect::Edk2, Stage::Size) => "tsize\x000\0blksize\x001468\0",
            (Dialect::Edk2, _) => "blksize\x001468\0windowsize\x004\0",
            (Dialect::Ipxe, _) => "blksize\x001432\0tsize\x000\0",
        };
        let packet = format!("\0\x01{}\0octet\0{options}", self.name).into_bytes();
        self.sent(&packet, false, now);
        packet
    }

    /// Bytes that arrived in order.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// When [`Client::handle_timeout`] is due.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// EDK2 waits four seconds and tries seven times; iPXE begins with a quarter of a second and doubles.
    fn first_wait(&self) -> Duration {
        Duration::from_millis(if self.dialect == Dialect::Edk2 { 4000 } else { 250 })
    }

    fn sent(&mut self, packet: &[u8], to_transfer: bool, now: Instant) {
        self.last.clear();
        self.last.extend_from_slice(packet);
        self.to_transfer = to_transfer;
        self.wait = self.first_wait();
        self.tries = 0;
        self.due = now + self.wait;
    }

    fn acknowledge(&mut self, now: Instant) -> Vec<u8> {
        let [.., high, low] = self.blocks.to_be_bytes();
        let packet = vec![0, 4, high, low];
        self.sent(&packet, true, now);
        packet
    }

    /// Takes a packet of the transfer's port.
    pub fn handle(&mut self, packet: &[u8], now: Instant) -> Next {
        match packet {
            [0, 5, _, code, text @ ..] => {
                let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
                Next::Failed(format!("error {code}: {text}"))
            }
            [0, 6, options @ ..] => self.options(options, now),
            [0, 3, high, low, payload @ ..] => self.data(u16::from_be_bytes([*high, *low]), payload, now),
            _ => Next::Wait,
        }
    }

    fn options(&mut self, bytes: &[u8], now: Instant) -> Next {
        if self.stage == Stage::Data {
            // It comes again when the ACK of it was lost.
            return if self.blocks == 0 { Next::Answer(self.acknowledge(now)) } else { Next::Wait };
        }
        let words: Vec<&str> = bytes.split(|b| *b == 0).filter_map(|w| std::str::from_utf8(w).ok()).collect();
        for pair in words.chunks_exact(2) {
            let Ok(value) = pair[1].parse::<u64>() else { continue };
            match pair[0].to_ascii_lowercase().as_str() {
                "blksize" => self.block_size = usize::try_from(value).unwrap_or(512),
                "windowsize" => self.window = u32::try_from(value).unwrap_or(1),
                "tsize" => self.length = Some(value),
                _ => {}
            }
        }
        if self.stage == Stage::Size {
            self.stage = Stage::Options;
            // "User aborted the transfer", and the file itself next.
            return Next::Request(b"\0\x05\0\x08User aborted the transfer\0".to_vec());
        }
        self.stage = Stage::Data;
        Next::Answer(self.acknowledge(now))
    }

    fn data(&mut self, block: u16, payload: &[u8], now: Instant) -> Next {
        if self.stage != Stage::Data {
            // A server without options.
            self.stage = Stage::Data;
        }
        let [.., high, low] = (self.blocks + 1).to_be_bytes();
        if block != u16::from_be_bytes([high, low]) {
            self.in_window = 0;
            // Both say again what they have, for every block that they do not expect (EDK2: Mtftp4RrqHandleData).
            return Next::Answer(self.acknowledge(now));
        }
        self.blocks += 1;
        self.in_window += 1;
        self.received += payload.len() as u64;
        if payload.len() < self.block_size {
            if self.length.is_some_and(|length| length != self.received) {
                return Next::Failed(format!("{} bytes instead of {:?}", self.received, self.length));
            }
            return Next::Done(self.acknowledge(now));
        }
        if self.in_window >= self.window {
            self.in_window = 0;
            return Next::Answer(self.acknowledge(now));
        }
        self.due = now + self.wait;
        Next::Wait
    }

    /// Nothing came in time. Gives what to send again, and whether the transfer's port gets it.
    ///
    /// # Errors
    /// When it has been tried often enough.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(Vec<u8>, bool), String> {
        self.tries += 1;
        self.repeats += 1;
        if self.tries > 7 {
            return Err(format!("nothing came after {} bytes", self.received));
        }
        if self.dialect == Dialect::Ipxe {
            self.wait = (self.wait * 2).min(Duration::from_secs(10));
        }
        self.due = now + self.wait;
        Ok((self.last.clone(), self.to_transfer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edk2_asks_for_the_size_then_takes_windows() {
        let now = Instant::now();
        let mut client = Client::new(Dialect::Edk2, "a.efi", now);
        assert_eq!(client.request(now), b"\0\x01a.efi\0octet\0tsize\x000\0blksize\x001468\0");
        assert!(matches!(client.handle(b"\0\x06tsize\x003000\0blksize\x001468\0", now), Next::Request(_)));
        assert_eq!(client.request(now), b"\0\x01a.efi\0octet\0blksize\x001468\0windowsize\x004\0");
        let oack = client.handle(b"\0\x06blksize\x001468\0windowsize\x004\0", now);
        assert_eq!(oack, Next::Answer(vec![0, 4, 0, 0]));
        let block = |n: u8, length: usize| [&[0, 3, 0, n][..], &vec![7; length]].concat();
        assert_eq!(client.handle(&block(1, 1468), now), Next::Wait);
        // Block 2 is lost: a complaint for each that follows.
        assert_eq!(client.handle(&block(3, 64), now), Next::Answer(vec![0, 4, 0, 1]));
        assert_eq!(client.handle(&block(3, 64), now), Next::Answer(vec![0, 4, 0, 1]));
        assert_eq!(client.handle(&block(2, 1468), now), Next::Wait);
        assert_eq!(client.handle(&block(3, 64), now), Next::Done(vec![0, 4, 0, 3]));
        assert_eq!(client.received(), 3000);
    }

    #[test]
    fn a_server_without_windows_is_answered_block_by_block() {
        let now = Instant::now();
        let mut client = Client::new(Dialect::Ipxe, "a", now);
        client.request(now);
        assert_eq!(client.handle(b"\0\x06blksize\x008\0tsize\x009\0", now), Next::Answer(vec![0, 4, 0, 0]));
        assert_eq!(client.handle(b"\0\x03\0\x0112345678", now), Next::Answer(vec![0, 4, 0, 1]));
        assert_eq!(client.handle(b"\0\x03\0\x0112345678", now), Next::Answer(vec![0, 4, 0, 1]), "it came twice");
        assert_eq!(client.handle_timeout(client.due()), Ok((vec![0, 4, 0, 1], true)));
        assert!(matches!(client.handle(b"\0\x03\0\x0299", now), Next::Failed(_)));
        assert!(matches!(client.handle(b"\0\x05\0\x01no such file\0", now), Next::Failed(_)));
    }
}
