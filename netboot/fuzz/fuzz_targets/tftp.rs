//! Any packets to a TFTP transfer: no panic, and no packet larger than was agreed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::proto::tftp::{
    packet::{FromClient, ReadRequest},
    transfer::Transfer,
};
use std::time::{Duration, Instant};

fuzz_target!(|bytes: &[u8]| {
    let mut pieces = bytes.split(|b| *b == 0xfe);
    let request = match pieces.next().map(FromClient::read) {
        Some(Ok(FromClient::Read(request))) => request,
        _ => ReadRequest::default(),
    };
    let mut now = Instant::now();
    let mut transfer = Transfer::start(now, &request, vec![7; 100_000].into(), 1468);
    for piece in pieces {
        for packet in std::iter::from_fn(|| transfer.poll_transmit()) {
            assert!(packet.len() <= 4 + 1468);
        }
        match FromClient::read(piece) {
            Ok(packet) => transfer.handle(now, &packet),
            Err(_) => {
                now += Duration::from_secs(5);
                transfer.handle_timeout(now);
            }
        }
    }
});
