//! Any bytes as the head of a request for a file: no panic, no name outside, and an answer whose length is right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::proto::http::{
    Validators,
    reply::{content_type, file},
    request::{Read, read},
};
use std::time::{Duration, SystemTime};

fuzz_target!(|bytes: &[u8]| {
    let Read::File(request) = read(bytes) else { return };
    assert!(!request.names.is_empty() && request.head_bytes <= bytes.len());
    for name in &request.names {
        assert!(!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']));
    }
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for length in [0, 1, 1000] {
        let validators = Validators { length, etag: "\"abc\"".into(), modified };
        let kind = content_type(&request.names.join("/"));
        let reply = file(&request, &validators, kind, SystemTime::UNIX_EPOCH);
        let lengths: Vec<_> = reply.head.lines().filter_map(|l| l.strip_prefix("Content-Length: ")).collect();
        assert!(reply.from + reply.length <= length);
        assert_eq!(lengths.len(), usize::from(reply.status != 304));
        if !request.head_only && reply.status != 304 {
            assert_eq!(lengths[0], reply.length.to_string());
        }
        // Nothing that a client wrote is in the head.
        assert!(reply.head.ends_with("\r\n\r\n") && reply.head.lines().all(|line| line.len() < 100));
    }
});
