use super::{packet::*, simulation::packets, transfer::*};
use std::time::{Duration, Instant};

fn request() -> ReadRequest {
    ReadRequest { name: "a.efi".into(), mode: "octet".into(), ..ReadRequest::default() }
}

fn ack(block: u16) -> FromClient {
    FromClient::Ack(block)
}

fn blocks(first: u64, count: u16) -> Option<Transmit> {
    Some(Transmit::Blocks { first, count })
}

/// A transfer of blocks of 100 bytes, behind its OACK.
fn windowed(now: Instant, window: u16, length: u64) -> Transfer {
    let asked = ReadRequest { block_size: Some(100), window: Some(window), ..request() };
    let mut transfer = Transfer::start(now, &asked, length, 1468);
    assert!(matches!(transfer.poll_transmit(now), Some(Transmit::Options(_))));
    transfer.handle(now, &ack(0));
    transfer
}

#[test]
fn without_options_data_1_comes_first_at_512_bytes() {
    let now = Instant::now();
    let mut transfer = Transfer::start(now, &request(), 600, 1468);
    let first = packets(&mut transfer, now, &[1; 600]);
    assert_eq!((first.len(), &first[0][..4], first[0].len()), (1, &[0, 3, 0, 1][..], 516));
}

#[test]
fn the_oack_has_only_what_was_asked_for_and_never_more() {
    let now = Instant::now();
    let oack = |asked: &ReadRequest, length| Transfer::start(now, asked, length, 1468).poll_transmit(now).unwrap();
    let asked = ReadRequest { block_size: Some(9000), size: true, window: Some(64), ..request() };
    assert_eq!(oack(&asked, 3), Transmit::Options(b"\0\x06blksize\x001468\0tsize\x003\0windowsize\x0016\0".into()));
    let small = ReadRequest { block_size: Some(512), timeout: Some(3), ..request() };
    assert_eq!(oack(&small, 0), Transmit::Options(b"\0\x06blksize\x00512\0timeout\x003\0".into()));
}

#[test]
fn an_error_after_the_oack_is_a_normal_probe() {
    let now = Instant::now();
    let mut transfer = Transfer::start(now, &ReadRequest { size: true, ..request() }, 3, 1468);
    transfer.poll_transmit(now).unwrap();
    transfer.handle(now, &FromClient::Error { code: 8, text: "stop".into() });
    assert_eq!(transfer.outcome(), Some(&Outcome::Probed));
}

#[test]
fn a_multiple_of_the_block_size_ends_with_an_empty_block() {
    let now = Instant::now();
    let mut transfer = Transfer::start(now, &request(), 512, 1468);
    assert_eq!(packets(&mut transfer, now, &[1; 512])[0].len(), 516);
    transfer.handle(now, &ack(1));
    assert_eq!(packets(&mut transfer, now, &[1; 512]), [[0, 3, 0, 2]]);
    transfer.handle(now, &ack(2));
    assert_eq!(transfer.outcome(), Some(&Outcome::Complete { acknowledged: true }));
}

#[test]
fn repeated_acks_are_not_answered_one_by_one() {
    let now = Instant::now();
    let mut transfer = Transfer::start(now, &request(), 2000, 1468);
    transfer.poll_transmit(now).unwrap();
    transfer.handle(now, &ack(1));
    transfer.poll_transmit(now).unwrap();
    for _ in 0..5 {
        transfer.handle(now, &ack(1));
        assert_eq!(transfer.poll_transmit(now), None);
    }
}

/// EDK2 answers each block that it did not expect. Once a window came twice, that must not go on for ever.
#[test]
fn what_a_client_says_of_a_window_that_came_twice_is_no_gap() {
    let now = Instant::now();
    let mut transfer = windowed(now, 4, 10_000);
    assert_eq!(transfer.poll_transmit(now), blocks(1, 4));
    // The ACK of block 4 is lost.
    let later = transfer.poll_timeout().unwrap();
    transfer.handle_timeout(later);
    assert_eq!(transfer.poll_transmit(later), blocks(1, 4));
    transfer.handle(later, &ack(4));
    assert_eq!(transfer.poll_transmit(later), blocks(5, 4));
    for _ in 0..3 {
        transfer.handle(later, &ack(4));
        assert_eq!(transfer.poll_transmit(later), None);
    }
    transfer.handle(later, &ack(8));
    assert_eq!(transfer.poll_transmit(later), blocks(9, 4));
    // Now block 9 is lost indeed.
    transfer.handle(later, &ack(8));
    assert_eq!(transfer.poll_transmit(later), blocks(9, 4));
}

/// RFC 7440, section 4: from the block after the last one that arrived in order.
#[test]
fn a_gap_in_a_window_is_filled_once_per_round_trip() {
    let ms = Duration::from_millis;
    let start = Instant::now();
    let mut transfer = windowed(start, 4, 10_000);
    assert_eq!(transfer.poll_transmit(start), blocks(1, 4));
    let now = start + ms(2);
    transfer.handle(now, &ack(4));
    assert_eq!(transfer.poll_transmit(now), blocks(5, 4));
    // Block 6 is lost: 7 and 8 each bring an ACK of 5.
    let now = now + ms(2);
    transfer.handle(now, &ack(5));
    assert_eq!(transfer.poll_transmit(now), blocks(6, 4));
    transfer.handle(now, &ack(5));
    assert_eq!(transfer.poll_transmit(now), None);
    // Lost again: after a round trip an ACK of 5 is a new complaint.
    let now = now + ms(5);
    transfer.handle(now, &ack(5));
    assert_eq!(transfer.poll_transmit(now), blocks(6, 4));
    // Another gap further on.
    transfer.handle(now, &ack(8));
    assert_eq!(transfer.poll_transmit(now), blocks(9, 4));
    // One that is older than the window does not.
    transfer.handle(now, &ack(6));
    assert_eq!(transfer.poll_transmit(now), None);
}

#[test]
fn a_lost_packet_is_repeated_after_some_round_trips_and_less_often_while_nothing_comes() {
    let ms = Duration::from_millis;
    let mut now = Instant::now();
    let mut transfer = windowed(now, 1, 10_000);
    for block in 1..5 {
        assert_eq!(transfer.poll_transmit(now), blocks(block.into(), 1));
        now += ms(1);
        transfer.handle(now, &ack(block));
    }
    let mut waits = Vec::new();
    for _ in 0..4 {
        assert_eq!(transfer.poll_transmit(now), blocks(5, 1));
        let due = transfer.poll_timeout().unwrap();
        waits.push(due - now);
        now = due;
        transfer.handle_timeout(now);
    }
    assert_eq!(waits, [ms(60), ms(120), ms(240), ms(480)]);
    // What the client asked for is kept.
    let asked = ReadRequest { timeout: Some(3), ..request() };
    let mut transfer = Transfer::start(now, &asked, 10_000, 1468);
    transfer.handle(now, &ack(0));
    assert_eq!(transfer.poll_timeout(), Some(now + ms(3000)));
}

fn run_out(mut transfer: Transfer, mut now: Instant) -> (Outcome, Duration, usize) {
    let (began, mut sent) = (now, 0);
    while transfer.outcome().is_none() {
        while transfer.poll_transmit(now).is_some() {
            sent += 1;
        }
        now = transfer.poll_timeout().unwrap();
        transfer.handle_timeout(now);
    }
    (transfer.outcome().cloned().unwrap(), now - began, sent)
}

#[test]
fn who_never_answers_gets_few_packets() {
    let now = Instant::now();
    let asked = ReadRequest { block_size: Some(1468), window: Some(16), ..request() };
    for request in [request(), asked] {
        let transfer = Transfer::start(now, &request, 1 << 20, 1468);
        let (outcome, _, sent) = run_out(transfer, now);
        assert_eq!((outcome, sent), (Outcome::Lost, 4));
    }
}

#[test]
fn a_lost_last_ack_is_success_and_silence_before_that_is_not() {
    let run = |length: u64, acks: u16| {
        let now = Instant::now();
        let mut transfer = Transfer::start(now, &request(), length, 1468);
        for block in 1..=acks {
            while transfer.poll_transmit(now).is_some() {}
            transfer.handle(now, &ack(block));
        }
        let (outcome, took, _) = run_out(transfer, now);
        assert!(took < Duration::from_secs(70), "{took:?}");
        outcome
    };
    assert_eq!(run(1000, 1), Outcome::Complete { acknowledged: false });
    assert_eq!(run(2000, 1), Outcome::Lost);
}

#[test]
fn what_is_under_way_is_what_may_still_arrive() {
    let ms = Duration::from_millis;
    let mut now = Instant::now();
    let mut transfer = windowed(now, 4, 1000);
    assert!(transfer.has_blocks() && transfer.bytes_under_way() == 0);
    // Others go first: that is no silence of the client's.
    now += ms(5000);
    transfer.hold(now);
    transfer.handle_timeout(now);
    assert_eq!(transfer.poll_transmit(now), blocks(1, 4));
    assert!(!transfer.has_blocks() && transfer.bytes_under_way() == 400);
    assert!(transfer.poll_timeout().unwrap() > now);
    transfer.handle(now, &ack(2));
    assert!(transfer.has_blocks() && transfer.bytes_under_way() == 0, "blocks 3 and 4 are lost");
    transfer.poll_transmit(now);
    now = transfer.poll_timeout().unwrap();
    transfer.handle_timeout(now);
    assert_eq!(transfer.poll_transmit(now), blocks(3, 4));
    assert_eq!(transfer.bytes_under_way(), 0, "repeated into silence");
    transfer.handle(now, &ack(6));
    transfer.poll_transmit(now);
    assert_eq!(transfer.bytes_under_way(), 400);
}

#[test]
fn a_client_that_has_left_has_the_file_or_not() {
    let now = Instant::now();
    let mut half = windowed(now, 2, 1000);
    half.poll_transmit(now).unwrap();
    half.handle_gone();
    assert_eq!(half.outcome(), Some(&Outcome::Lost));
    let mut whole = windowed(now, 2, 150);
    whole.poll_transmit(now).unwrap();
    whole.handle_gone();
    assert_eq!(whole.outcome(), Some(&Outcome::Complete { acknowledged: false }));
}

#[test]
fn a_client_that_takes_next_to_nothing_is_given_up() {
    let mut now = Instant::now();
    let began = now;
    let mut transfer = windowed(now, 1, 1 << 30);
    let mut block = 0;
    while transfer.outcome().is_none() {
        while transfer.poll_transmit(now).is_some() {}
        now += Duration::from_secs(1);
        block += 1;
        transfer.handle(now, &ack(block));
    }
    assert_eq!(transfer.outcome(), Some(&Outcome::TooSlow));
    assert!(now - began < Duration::from_secs(65));
}

#[test]
fn block_numbers_wrap_to_zero() {
    let now = Instant::now();
    let asked = ReadRequest { block_size: Some(8), window: Some(4), ..request() };
    let file = [7; 8 * 70_000];
    let mut transfer = Transfer::start(now, &asked, file.len() as u64, 1468);
    transfer.poll_transmit(now).unwrap();
    transfer.handle(now, &ack(0));
    let mut expected: u16 = 0;
    while transfer.outcome().is_none() {
        for packet in packets(&mut transfer, now, &file) {
            expected = expected.wrapping_add(1);
            assert_eq!(packet[2..4], expected.to_be_bytes());
        }
        transfer.handle(now, &ack(expected));
    }
    assert_eq!(transfer.acknowledged_bytes(), 8 * 70_000);
}
