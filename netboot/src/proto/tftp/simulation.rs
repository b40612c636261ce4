//! A server and a simulated client on a bad network, in virtual time.

use super::{packet::*, transfer::*};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Everything that a transfer of this file sends now, as packets.
pub(super) fn packets(transfer: &mut Transfer, now: Instant, file: &[u8]) -> Vec<Vec<u8>> {
    let size = usize::from(transfer.block_size());
    let block = |number: u64| {
        let from = usize::try_from(number - 1).unwrap() * size;
        [&data_header(number)[..], &file[from..file.len().min(from + size)]].concat()
    };
    let all = std::iter::from_fn(|| transfer.poll_transmit(now));
    all.flat_map(|transmit| match transmit {
        Transmit::Options(packet) => vec![packet],
        Transmit::Blocks { first, count } => (first..first + u64::from(count)).map(block).collect(),
    })
    .collect()
}

/// What the network does to one packet.
#[derive(Debug, Clone, Copy)]
struct Fate {
    lost: bool,
    twice: bool,
    delay_ms: u64,
}

/// A client as RFC 1350 and 7440 describe it: takes blocks in order, acknowledges each window or gap.
struct Client {
    received: Vec<u8>,
    blocks: u64,
    block_size: usize,
    window: u64,
    in_window: u64,
    complete: bool,
}

impl Client {
    fn handle(&mut self, packet: &[u8]) -> Option<u16> {
        match packet[1] {
            6 => (self.blocks == 0).then_some(0),
            3 => {
                let block = u16::from_be_bytes([packet[2], packet[3]]);
                let next = self.blocks + 1;
                if block != (next & 0xffff) as u16 {
                    self.in_window = 0;
                    return Some((self.blocks & 0xffff) as u16);
                }
                self.received.extend_from_slice(&packet[4..]);
                self.blocks = next;
                self.in_window += 1;
                self.complete = packet.len() - 4 < self.block_size;
                if self.complete || self.in_window >= self.window {
                    self.in_window = 0;
                    return Some(block);
                }
                None
            }
            _ => None,
        }
    }
}

/// Packets under way: arrival time and order of sending give the key.
#[derive(Default)]
struct Wire {
    packets: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    count: u64,
}

impl Wire {
    fn send(&mut self, now: Instant, fates: &[Fate], to_client: bool, bytes: Vec<u8>) {
        let fate = fates[usize::try_from(self.count).unwrap() % fates.len()];
        self.count += 1;
        if fate.lost {
            return;
        }
        for copy in 0..=u64::from(fate.twice) {
            let at = now + Duration::from_millis(fate.delay_ms + 3 * copy);
            self.packets.insert((at, self.count * 2 + copy), (to_client, bytes.clone()));
        }
    }
}

/// Runs a whole transfer; gives what the client got, whether it has all, and how the server saw it end.
fn run(file: &[u8], request: &ReadRequest, fates: &[Fate]) -> (Vec<u8>, bool, Outcome) {
    let mut now = Instant::now();
    let end = now + Duration::from_secs(3600);
    let mut server = Transfer::start(now, request, file.len() as u64, 1468);
    let block_size = request.block_size.map_or(512, |b| usize::from(b.min(1468)));
    let window = u64::from(request.window.unwrap_or(1).min(16));
    let mut client = Client { received: Vec::new(), blocks: 0, block_size, window, in_window: 0, complete: false };
    let mut wire = Wire::default();
    while server.outcome().is_none() && now < end {
        for packet in packets(&mut server, now, file) {
            wire.send(now, fates, true, packet);
        }
        let due = server.poll_timeout().unwrap();
        match wire.packets.first_key_value().map(|(key, _)| *key) {
            Some(key) if key.0 <= due => {
                let (to_client, bytes) = wire.packets.remove(&key).unwrap();
                now = now.max(key.0);
                if !to_client {
                    server.handle(now, &FromClient::read(&bytes).unwrap());
                } else if !client.complete {
                    if let Some(block) = client.handle(&bytes) {
                        wire.send(now, fates, false, [&[0, 4], &block.to_be_bytes()[..]].concat());
                    }
                } else if bytes[1] == 3 {
                    // RFC 1350: the client lingers, and acknowledges repeats of the last block.
                    let block = (client.blocks & 0xffff) as u16;
                    wire.send(now, fates, false, [&[0, 4], &block.to_be_bytes()[..]].concat());
                }
            }
            _ => {
                now = due;
                server.handle_timeout(now);
            }
        }
    }
    (client.received, client.complete, server.outcome().cloned().expect("a transfer ends"))
}

fn fates(loss: u32) -> impl Strategy<Value = Vec<Fate>> {
    let fate = (0..100_u32, 0..100_u32, 0_u64..40).prop_map(move |(lost, twice, delay_ms)| Fate {
        lost: lost < loss,
        twice: twice < 15,
        delay_ms,
    });
    proptest::collection::vec(fate, 97..211)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Duplicates and reordering alone never stop a transfer, and never damage it.
    #[test]
    fn every_file_arrives_whole_on_a_disordered_network(
        length in 0_usize..30_000, block in prop::option::of(8_u16..2000), window in prop::option::of(1_u16..40),
        size: bool, fates in fates(0),
    ) {
        let file: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let request = ReadRequest { block_size: block, window, size, ..ReadRequest::default() };
        let (received, complete, outcome) = run(&file, &request, &fates);
        prop_assert!(complete, "{:?}", outcome);
        prop_assert_eq!(received, file);
        let ended_well = matches!(outcome, Outcome::Complete { .. });
        prop_assert!(ended_well);
    }

    /// With loss a transfer ends in bounded time; what arrived is a prefix; "complete" and "lost" mean what they say.
    #[test]
    fn loss_never_damages_and_never_hangs(
        length in 0_usize..20_000, block in prop::option::of(64_u16..1468), window in prop::option::of(1_u16..8),
        fates in fates(10),
    ) {
        let file: Vec<u8> = (0..length).map(|i| (i % 249) as u8).collect();
        let request = ReadRequest { block_size: block, window, ..ReadRequest::default() };
        let (received, complete, outcome) = run(&file, &request, &fates);
        prop_assert!(file.starts_with(&received));
        match outcome {
            Outcome::Complete { acknowledged: true } => prop_assert!(complete && received == file),
            Outcome::Complete { acknowledged: false } => {}
            // Who has everything in one packet, and whose ACKs all got lost, was never heard.
            Outcome::Lost => prop_assert!(!complete || file.len() < usize::from(block.unwrap_or(512))),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
