//! The HTTP dialect of boot firmware, as decisions: sloppy paths, conditions, ranges.
//!
//! EDK2 does not follow redirects, so `//` and percent escapes are understood here and never answered with a
//! better URL. It resumes with `Range` and `If-Match`, so entity tags are strong.

pub mod reply;
pub mod request;

use percent_encoding::percent_decode_str;
use std::time::SystemTime;

/// Turns a URL's path into the names of folders and file below some root. `None` when it would leave the root,
/// names nothing, or holds what no file name of ours has.
#[must_use]
pub fn relative_path(url_path: &str) -> Option<Vec<String>> {
    let decoded = percent_decode_str(url_path).decode_utf8().ok()?;
    let mut names = Vec::new();
    for name in decoded.split('/') {
        match name {
            "" | "." => {}
            ".." => return None,
            name if name.chars().any(|c| c.is_control() || c == '\\') => return None,
            name => names.push(name.to_owned()),
        }
    }
    (!names.is_empty()).then_some(names)
}

/// The request headers that matter for a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conditions<'a> {
    /// `Range`.
    pub range: Option<&'a str>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
    /// `If-Match`.
    pub if_match: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a str>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<&'a str>,
}

/// What the file is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// Bytes.
    pub length: u64,
    /// Strong entity tag, quotes included.
    pub etag: String,
    /// When it last changed.
    pub modified: SystemTime,
}

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// 200 with everything.
    Whole,
    /// 206 with these bytes, `first..=last`.
    Part {
        /// First byte.
        first: u64,
        /// Last byte, included.
        last: u64,
    },
    /// 304: the asker has it.
    NotModified,
    /// 412: it is not what the asker has a part of.
    PreconditionFailed,
    /// 416: no such bytes.
    NotSatisfiable,
}

/// Decides by RFC 9110, sections 13.2.2 and 14.2.
#[must_use]
pub fn plan(conditions: &Conditions<'_>, file: &Validators) -> Plan {
    if conditions.if_match.is_some_and(|tags| !matches_strongly(tags, &file.etag)) {
        return Plan::PreconditionFailed;
    }
    let newer_than = |date: &str| httpdate::parse_http_date(date).is_ok_and(|d| whole_seconds(file.modified) > d);
    if conditions.if_match.is_none() && conditions.if_unmodified_since.is_some_and(newer_than) {
        return Plan::PreconditionFailed;
    }
    if conditions.if_none_match.is_some_and(|tags| matches_strongly(&tags.replace("W/", ""), &file.etag)) {
        return Plan::NotModified;
    }
    let as_old_as = |date: &str| httpdate::parse_http_date(date).is_ok_and(|d| whole_seconds(file.modified) <= d);
    if conditions.if_none_match.is_none() && conditions.if_modified_since.is_some_and(as_old_as) {
        return Plan::NotModified;
    }
    // A part of an older version is worthless: then the whole file goes out.
    let same = |validator: &str| {
        validator == file.etag
            || httpdate::parse_http_date(validator).is_ok_and(|date| date == whole_seconds(file.modified))
    };
    match conditions.range {
        Some(range) if conditions.if_range.is_none_or(same) => read_range(range, file.length),
        _ => Plan::Whole,
    }
}

/// One range in bytes. Several ranges, other units and nonsense are ignored, as the RFC allows.
fn read_range(text: &str, length: u64) -> Plan {
    let Some(spec) = text.trim().strip_prefix("bytes=") else { return Plan::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Plan::Whole };
    let number = |s: &str| s.trim().parse::<u64>().ok().filter(|_| s.trim().bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.min(length.saturating_sub(1))),
        (Some(first), None) if last.trim().is_empty() => (first, length.saturating_sub(1)),
        (None, Some(suffix)) if first.trim().is_empty() => {
            if suffix == 0 {
                return Plan::NotSatisfiable;
            }
            (length.saturating_sub(suffix), length.saturating_sub(1))
        }
        _ => return Plan::Whole,
    };
    if first >= length { Plan::NotSatisfiable } else { Plan::Part { first, last } }
}

fn matches_strongly(tags: &str, etag: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag == etag)
}

/// HTTP dates have no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn file() -> Validators {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_500);
        Validators { length: 1000, etag: "\"abc\"".into(), modified }
    }

    fn range(text: &str) -> Plan {
        plan(&Conditions { range: Some(text), ..Conditions::default() }, &file())
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        assert_eq!(range("bytes=0-99"), Plan::Part { first: 0, last: 99 });
        assert_eq!(range("bytes=990-"), Plan::Part { first: 990, last: 999 });
        assert_eq!(range("bytes=990-5000"), Plan::Part { first: 990, last: 999 });
        assert_eq!(range("bytes=-10"), Plan::Part { first: 990, last: 999 });
        assert_eq!(range("bytes=-5000"), Plan::Part { first: 0, last: 999 });
        for unsatisfiable in ["bytes=1000-", "bytes=2000-3000", "bytes=-0"] {
            assert_eq!(range(unsatisfiable), Plan::NotSatisfiable, "{unsatisfiable}");
        }
        for ignored in ["bytes=0-1,5-6", "bytes=9-2", "lines=1-2", "bytes=+1-2", "bytes=-", "bytes=", "0-5"] {
            assert_eq!(range(ignored), Plan::Whole, "{ignored}");
        }
    }

    #[test]
    fn a_resume_of_another_version_is_refused_or_starts_over() {
        let base = Conditions { range: Some("bytes=5-9"), ..Conditions::default() };
        let with = |conditions: Conditions<'_>| plan(&conditions, &file());
        assert_eq!(with(Conditions { if_match: Some("\"old\""), ..base }), Plan::PreconditionFailed);
        assert_eq!(with(Conditions { if_match: Some("\"x\", \"abc\""), ..base }), Plan::Part { first: 5, last: 9 });
        assert_eq!(with(Conditions { if_range: Some("\"old\""), ..base }), Plan::Whole);
        assert_eq!(with(Conditions { if_range: Some("\"abc\""), ..base }), Plan::Part { first: 5, last: 9 });
        assert_eq!(with(Conditions { if_none_match: Some("\"abc\""), ..base }), Plan::NotModified);
        let (same, older) = ("Sun, 09 Sep 2001 01:46:40 GMT", "Sun, 09 Sep 2001 01:46:39 GMT");
        let since = |date| with(Conditions { if_unmodified_since: Some(date), ..base });
        assert_eq!(since(same), Plan::Part { first: 5, last: 9 });
        assert_eq!(since(older), Plan::PreconditionFailed);
        let newer = |date| with(Conditions { if_modified_since: Some(date), ..base });
        assert_eq!((newer(same), newer(older)), (Plan::NotModified, Plan::Part { first: 5, last: 9 }));
    }

    #[test]
    fn sloppy_paths_are_understood_and_climbing_ones_refused() {
        let path = |text| relative_path(text).map(|names| names.join("/"));
        assert_eq!(path("//metadata///1.root.json").as_deref(), Some("metadata/1.root.json"));
        assert_eq!(path("/targets/a%2Eb%20c").as_deref(), Some("targets/a.b c"));
        assert_eq!(path("/./a").as_deref(), Some("a"));
        for bad in ["/../etc/passwd", "/a/%2e%2e/b", "/a%2f..%2fb", "/", "", "/a%00b", "/a\\b", "/%ff"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_stays_below_the_root(text in "(/|%2e|\\.|%2F|%5c|[a-z%]){0,30}") {
            for name in relative_path(&text).unwrap_or_default() {
                prop_assert!(!name.contains('/') && name != ".." && name != "." && !name.is_empty());
            }
        }

        #[test]
        fn a_part_is_always_inside_the_file(text in ".{0,30}", a: u64, b: u64, length in 0_u64..5000) {
            for text in [text, format!("bytes={a}-{b}"), format!("bytes=-{a}"), format!("bytes={}-", a % 6000)] {
                let conditions = Conditions { range: Some(&text), ..Conditions::default() };
                if let Plan::Part { first, last } = plan(&conditions, &Validators { length, ..file() }) {
                    prop_assert!(first <= last && last < length);
                }
            }
        }
    }
}
