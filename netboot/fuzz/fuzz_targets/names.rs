//! Any bytes as the answer of a DNS server, and any text as an endpoint: no panic, a bounded number of addresses, and an
//! endpoint that is taken means the same when it is written out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::names::{
    endpoint::Endpoint,
    message::{Answer, Kind, read},
    nameservers,
};

fuzz_target!(|bytes: &[u8]| {
    let id = bytes.get(..2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
    for kind in [Kind::A, Kind::Aaaa] {
        if let Some(Answer::Addresses(addresses, _)) = read(bytes, id, "www.example", kind) {
            assert!(addresses.len() <= 16);
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(nameservers(text).len() <= 4);
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
        }
    }
});
