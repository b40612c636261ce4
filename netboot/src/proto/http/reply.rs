//! The head of an answer with a file. Exactly one Content-Length, HEAD included: firmware sizes its buffer by it, and takes
//! no chunks.

use super::{Conditions, Plan, Validators, plan, request::FileRequest};
use std::{fmt::Write as _, time::SystemTime};

/// An answer: its head, and which bytes of the file follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The head with its empty line.
    pub head: String,
    /// First byte of the file.
    pub from: u64,
    /// How many follow; 0 for HEAD.
    pub length: u64,
}

/// What a file's ending says about its type. Firmware goes by it (UEFI 2.10, section 24.7.1).
#[must_use]
pub fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "efi" => "application/efi",
        "iso" => "application/vnd.efi-iso",
        "img" => "application/vnd.efi-img",
        "ipxe" => "text/plain",
        "json" => "application/json",
        "pem" => "application/x-pem-file",
        _ => "application/octet-stream",
    }
}

/// Answers a request for this file.
#[must_use]
pub fn file(request: &FileRequest<'_>, file: &Validators, kind: &str, now: SystemTime) -> Reply {
    let conditions = if request.head_only {
        // RFC 9110, section 14.2: Range means nothing outside GET.
        Conditions { range: None, ..request.conditions }
    } else {
        request.conditions
    };
    let size = file.length;
    let mut head = String::with_capacity(400);
    let (status, from, length) = match plan(&conditions, file) {
        Plan::Whole => (200, 0, size),
        Plan::Part { first, last } => (206, first, last - first + 1),
        Plan::NotModified => (304, 0, 0),
        Plan::PreconditionFailed => (412, 0, 0),
        Plan::NotSatisfiable => (416, 0, 0),
    };
    begin(&mut head, status, request.keep_open, now);
    let modified = httpdate::fmt_http_date(file.modified);
    let _ = write!(head, "ETag: {}\r\nLast-Modified: {modified}\r\nAccept-Ranges: bytes\r\n", file.etag);
    let _ = match status {
        206 => write!(head, "Content-Range: bytes {from}-{}/{size}\r\n", from + length - 1),
        416 => write!(head, "Content-Range: bytes */{size}\r\n"),
        _ => Ok(()),
    };
    let _ = match status {
        304 => Ok(()),
        200 | 206 => write!(head, "Content-Type: {kind}\r\nContent-Length: {length}\r\n"),
        _ => write!(head, "Content-Length: 0\r\n"),
    };
    head.push_str("\r\n");
    let sends = matches!(status, 200 | 206) && !request.head_only;
    Reply { status, head, from, length: if sends { length } else { 0 } }
}

/// Answers that there is no such file. The body, a JSON document, stands behind the head.
#[must_use]
pub fn error(request: &FileRequest<'_>, status: u16, body: &str, now: SystemTime) -> Reply {
    let mut head = String::with_capacity(300);
    begin(&mut head, status, request.keep_open, now);
    let _ = write!(head, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    if !request.head_only {
        head.push_str(body);
    }
    Reply { status, head, from: 0, length: 0 }
}

fn begin(head: &mut String, status: u16, keep_open: bool, now: SystemTime) {
    let reason = match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        404 => "Not Found",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let _ = write!(head, "HTTP/1.1 {status} {reason}\r\nDate: {}\r\n", httpdate::fmt_http_date(now));
    if !keep_open {
        head.push_str("Connection: close\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::request::{Read, read};
    use proptest::prelude::*;
    use std::time::Duration;

    fn validators(length: u64) -> Validators {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        Validators { length, etag: "\"abc\"".into(), modified }
    }

    fn answer(text: &str, length: u64) -> Reply {
        let Read::File(request) = read(text.as_bytes()) else { panic!("{text:?}") };
        file(&request, &validators(length), "application/efi", SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn types_are_those_of_uefi() {
        let types = ["a.efi", "A.ISO", "a.img", "a.json", "a.bita", "efi"].map(content_type);
        let any = "application/octet-stream";
        assert_eq!(
            types,
            ["application/efi", "application/vnd.efi-iso", "application/vnd.efi-img", "application/json", any, any]
        );
    }

    #[test]
    fn heads_are_exact() {
        let whole = answer("GET /boot/a.efi HTTP/1.1\r\n\r\n", 1000);
        assert_eq!(
            whole.head,
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nETag: \"abc\"\r\n\
             Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\nAccept-Ranges: bytes\r\nContent-Type: application/efi\r\n\
             Content-Length: 1000\r\n\r\n"
        );
        assert_eq!((whole.from, whole.length), (0, 1000));
        let part = answer("GET /boot/a HTTP/1.1\r\nRange: bytes=990-\r\nConnection: close\r\n\r\n", 1000);
        assert!(part.head.contains("206 Partial") && part.head.contains("Content-Range: bytes 990-999/1000\r\n"));
        assert!(part.head.contains("Connection: close\r\n"));
        assert_eq!((part.from, part.length), (990, 10));
        let head = answer("HEAD /boot/a HTTP/1.1\r\nRange: bytes=990-\r\n\r\n", 1000);
        assert!(head.head.contains("200 OK") && head.head.contains("Content-Length: 1000\r\n"));
        assert_eq!(head.length, 0);
        let not = answer("GET /boot/a HTTP/1.1\r\nIf-None-Match: \"abc\"\r\n\r\n", 1000);
        assert!(not.head.contains("304 ") && !not.head.contains("Content-Length"));
        let beyond = answer("GET /boot/a HTTP/1.1\r\nRange: bytes=2000-\r\n\r\n", 1000);
        assert!(beyond.head.contains("Content-Range: bytes */1000\r\nContent-Length: 0\r\n"));
    }

    proptest! {
        /// What firmware relies on, for any headers: at most one length, and it is what follows; nothing outside the file.
        #[test]
        fn the_length_is_right(
            get: bool, length in 0_u64..3000, range in "(bytes=[0-9]{0,4}-[0-9]{0,4}|.{0,12})",
            tag in prop::option::of("(\"abc\"|\"x\"|\\*)"), header in 0_usize..3,
        ) {
            let method = if get { "GET" } else { "HEAD" };
            let mut text = format!("{method} /boot/a HTTP/1.1\r\nRange: {range}\r\n");
            if let Some(tag) = tag {
                text += &format!("{}: {tag}\r\n", ["If-Match", "If-None-Match", "If-Range"][header]);
            }
            text += "\r\n";
            if let Read::File(request) = read(text.as_bytes()) {
                let reply = file(&request, &validators(length), "x/y", SystemTime::UNIX_EPOCH);
                let lengths: Vec<_> = reply.head.lines().filter_map(|l| l.strip_prefix("Content-Length: ")).collect();
                prop_assert!(reply.from + reply.length <= length);
                prop_assert_eq!(lengths.len(), usize::from(reply.status != 304));
                if get && reply.status != 304 {
                    prop_assert_eq!(lengths[0], reply.length.to_string());
                }
                prop_assert!(reply.head.ends_with("\r\n\r\n") && !reply.head.contains("\n\n"));
            }
        }
    }
}
