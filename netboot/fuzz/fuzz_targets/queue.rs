//! Any bytes as the file of the event queue: no panic, every value lies where it is said to, and what is there after the file was
//! put in order is found again in the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::{
    board::Board,
    journal::format::{Change, record, scan},
    outbox::read_back,
    proto::mac::Mac,
};

fuzz_target!(|bytes: &[u8]| {
    // As it is, and as the payload of a record with the right checksum: chance would never get there.
    let split = bytes.len() / 2;
    let key = String::from_utf8_lossy(&bytes[..split.min(60)]).into_owned();
    let whole = record(&[Change::Put(1, key, bytes[split..].to_vec()), Change::Delete(2, "x".into())]).unwrap();
    for file in [bytes.to_vec(), [bytes, &whole].concat(), [&whole, bytes, &whole].concat()] {
        let found = scan(&file);
        assert!(found.end + found.torn == file.len());
        let mut last = 0;
        for range in &found.damaged {
            assert!(last <= range.start && range.start < range.end && range.end <= found.end);
            last = range.end;
        }
        let mut kept = Vec::new();
        for change in &found.found {
            let Some(range) = &change.value else { continue };
            let value = &file[range.clone()];
            let _ = read_back(&change.key, value);
            let _ = Board::default().restore(Mac([2; 6]), value);
            kept.push(Change::Put(change.table, change.key.clone(), value.to_vec()));
        }
        if let Ok(again) = record(&kept) {
            let again = scan(&again);
            assert_eq!((again.torn, again.damaged.len(), again.found.len()), (0, 0, kept.len()));
        }
    }
});
