//! The head of a request, as far as it decides whether a file is wanted, and which.
//!
//! Everything else (calls of the API, pages, requests with a body, nonsense) is for the web framework: this reader only
//! says "not a file".

use super::{Conditions, relative_path};

/// A head longer than this is none of firmware's.
pub const LONGEST_HEAD: usize = 16 << 10;
const MOST_HEADERS: usize = 64;

/// What the bytes that came so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<'a> {
    /// Not yet the whole head.
    More,
    /// GET or HEAD below `/boot/` or `/repo/`.
    File(FileRequest<'a>),
    /// Something else.
    Other,
}

/// Which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// Boot files.
    Boot,
    /// The image repository.
    Repository,
}

/// A file is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest<'a> {
    /// HEAD: only the head of the answer.
    pub head_only: bool,
    /// Which files.
    pub area: Area,
    /// The names of folders and file below the area, at least one. None of them leaves it.
    pub names: Vec<String>,
    /// The headers that matter.
    pub conditions: Conditions<'a>,
    /// Another request may follow on this connection.
    pub keep_open: bool,
    /// Bytes of the head.
    pub head_bytes: usize,
}

/// Reads the head of a request.
#[must_use]
pub fn read(bytes: &[u8]) -> Read<'_> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => return Read::More,
        Ok(httparse::Status::Partial) | Err(_) => return Read::Other,
    };
    let (Some(method), Some(target)) = (request.method, request.path) else { return Read::Other };
    if !matches!(method, "GET" | "HEAD") {
        return Read::Other;
    }
    let Some(mut names) = relative_path(path_of(target)) else { return Read::Other };
    let area = match names.remove(0) {
        // Some firmware writes paths in capital letters.
        first if first.eq_ignore_ascii_case("boot") => Area::Boot,
        first if first.eq_ignore_ascii_case("repo") => Area::Repository,
        _ => return Read::Other,
    };
    let http_1_1 = request.version == Some(1);
    let values = |name: &'static str| {
        let named = request.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name));
        named.map(|h| std::str::from_utf8(h.value).unwrap_or_default())
    };
    let has_body = values("transfer-encoding").next().is_some() || values("content-length").any(|v| v.trim() != "0");
    if names.is_empty() || has_body {
        return Read::Other;
    }
    // A header that may come once and comes twice is not understood: the answer is then the careful one.
    let one = |name, careful| {
        let mut all = values(name);
        match (all.next(), all.next()) {
            (first, None) => first,
            (_, Some(_)) => careful,
        }
    };
    let conditions = Conditions {
        range: one("range", None),
        if_range: one("if-range", Some("")),
        if_match: one("if-match", Some("")),
        if_none_match: one("if-none-match", None),
        if_modified_since: one("if-modified-since", None),
        if_unmodified_since: one("if-unmodified-since", None),
    };
    let says = |word: &str| values("connection").any(|v| v.split(',').any(|w| w.trim().eq_ignore_ascii_case(word)));
    // HTTP/1.0 clients seldom mean it when they ask for more: theirs is closed.
    let keep_open = http_1_1 && !says("close");
    Read::File(FileRequest { head_only: method == "HEAD", area, names, conditions, keep_open, head_bytes })
}

/// The path of a request's target: without the query, and without scheme and host where a client writes the whole URL
/// (RFC 9112, section 3.2.2).
fn path_of(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let rest = ["http://", "HTTP://", "https://"].iter().find_map(|scheme| target.strip_prefix(scheme));
    rest.map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(text: &str) -> FileRequest<'_> {
        match read(text.as_bytes()) {
            Read::File(request) => request,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn firmware_is_understood() {
        let edk2 = file("HEAD /boot/till.efi HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: UefiHttpBoot/1.0\r\n\r\n");
        assert_eq!((edk2.head_only, edk2.area, edk2.keep_open), (true, Area::Boot, true));
        assert_eq!(edk2.names, ["till.efi"]);
        let sloppy = file("GET //BOOT//./till%2Eefi?x=1 HTTP/1.0\r\n\r\nrest");
        assert_eq!((sloppy.names, sloppy.keep_open), (vec!["till.efi".to_owned()], false));
        let whole = file("GET http://10.0.0.1:80/repo/archives/a.bita HTTP/1.1\r\nConnection: Close\r\n\r\n");
        assert_eq!(
            (whole.area, whole.names.join("/"), whole.keep_open),
            (Area::Repository, "archives/a.bita".into(), false)
        );
        let resumed = file("GET /repo/a HTTP/1.1\r\nrange: bytes=5-\r\nIF-MATCH: \"x\"\r\n\r\n");
        assert_eq!((resumed.conditions.range, resumed.conditions.if_match), (Some("bytes=5-"), Some("\"x\"")));
    }

    #[test]
    fn what_is_no_file_is_left_to_others() {
        for other in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET /v1/status HTTP/1.1\r\n\r\n",
            "GET /boot HTTP/1.1\r\n\r\n",
            "GET /boot/../v1/status HTTP/1.1\r\n\r\n",
            "GET /repo/%2e%2e/secret HTTP/1.1\r\n\r\n",
            "POST /boot/a HTTP/1.1\r\n\r\n",
            "GET /boot/a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "GET /boot/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert_eq!(read(other.as_bytes()), Read::Other, "{other:?}");
        }
        assert_eq!(read(b"GET /boot/a HTTP/1.1\r\nHost:"), Read::More);
        let long = format!("GET /boot/a HTTP/1.1\r\nX: {}", "x".repeat(LONGEST_HEAD));
        assert_eq!(read(long.as_bytes()), Read::Other);
    }

    #[test]
    fn headers_that_come_twice_get_the_careful_answer() {
        let twice = file(
            "GET /boot/a HTTP/1.1\r\nRange: bytes=0-1\r\nRange: bytes=2-3\r\nIf-Match: \"a\"\r\nIf-Match: \"b\"\r\n\r\n",
        );
        assert_eq!((twice.conditions.range, twice.conditions.if_match), (None, Some("")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_name_leaves_its_area(path in "(/|%2e|\\.|%2F|%5c|boot|repo|[a-z%]){0,20}") {
            let text = format!("GET /{path} HTTP/1.1\r\n\r\n");
            if let Read::File(request) = read(text.as_bytes()) {
                prop_assert!(!request.names.is_empty());
                for name in request.names {
                    prop_assert!(!name.contains('/') && name != ".." && name != "." && !name.is_empty());
                }
            }
        }
    }
}
