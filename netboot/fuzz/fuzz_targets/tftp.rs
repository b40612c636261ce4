//! Any packets to a TFTP transfer: no panic, and nothing sent that is not in the file or beyond the window.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::proto::tftp::{
    packet::{FromClient, ReadRequest},
    transfer::{LARGEST_WINDOW, Transfer, Transmit},
};
use std::time::{Duration, Instant};

fuzz_target!(|bytes: &[u8]| {
    let mut pieces = bytes.split(|b| *b == 0xfe);
    let request = match pieces.next().map(FromClient::read) {
        Some(Ok(FromClient::Read(request))) => request,
        _ => ReadRequest::default(),
    };
    let mut now = Instant::now();
    let mut transfer = Transfer::start(now, &request, 100_000, 1468);
    let blocks = 100_000 / u64::from(transfer.block_size()) + 1;
    for piece in pieces {
        for transmit in std::iter::from_fn(|| transfer.poll_transmit(now)) {
            if let Transmit::Blocks { first, count } = transmit {
                assert!(first >= 1 && count <= LARGEST_WINDOW && first + u64::from(count) - 1 <= blocks);
            }
        }
        match FromClient::read(piece) {
            Ok(packet) => transfer.handle(now, &packet),
            Err(_) => {
                now += Duration::from_millis(1 + 50 * piece.len() as u64);
                transfer.handle_timeout(now);
            }
        }
    }
});
