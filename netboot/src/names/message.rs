//! DNS messages (RFC 1035, section 4), as far as a stub resolver needs them: one question, and the addresses in the
//! answer. Pure; any bytes are survived.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the longest name as it is written with dots (RFC 1035, section 2.3.4: 255 on the wire).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Records that are looked at. A chain of aliases and a handful of addresses is less.
const MOST_RECORDS: usize = 64;
/// Addresses that are kept.
pub(crate) const MOST_ADDRESSES: usize = 16;
/// Aliases that are followed.
const MOST_ALIASES: usize = 8;
/// Pointers that one name may hold.
const MOST_POINTERS: usize = 16;
const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4.
    A,
    /// IPv6 (RFC 3596).
    Aaaa,
}

impl Kind {
    const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Addresses, and for how many seconds they hold. None: the name has none of this kind.
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name (NXDOMAIN).
    NoName,
    /// The answer did not fit: ask again over TCP.
    Truncated,
    /// The server could not or would not (its RCODE).
    Failed(u8),
}

/// Whether a name can be asked for: labels of letters, digits, `-` and `_`, with dots between.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(letter);
    let bare = name.strip_suffix('.').unwrap_or(name);
    bare.len() <= LONGEST_NAME && bare.split('.').all(label)
}

/// A question, recursion desired. The name is one that [`is_name`] takes.
#[must_use]
pub fn query(id: u16, name: &str, kind: Kind) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18 + name.len());
    bytes.extend(id.to_be_bytes());
    // RD; one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        // Checked above: a label is short.
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(kind.number().to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes
}

/// Reads the answer to [`query`] with the same arguments. None when it is no answer to that question: a stray or forged
/// packet, to be left unheard.
#[must_use]
pub fn read(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Option<Answer> {
    let mut reader = Reader { bytes, at: 0 };
    let (got, flags) = (reader.number()?, reader.number()?);
    let (questions, answers) = (reader.number()?, usize::from(reader.number()?));
    reader.at = 12;
    // QR set, a plain query, one question: ours.
    if got != id || flags & 0xf800 != 0x8000 || questions != 1 {
        return None;
    }
    let asked = reader.name()?;
    if !asked.eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name)) {
        return None;
    }
    if (reader.number()?, reader.number()?) != (kind.number(), CLASS_IN) {
        return None;
    }
    match (flags & 0x0200 != 0, (flags & 0xf) as u8) {
        (true, _) => return Some(Answer::Truncated),
        (false, 0) => {}
        (false, 3) => return Some(Answer::NoName),
        (false, code) => return Some(Answer::Failed(code)),
    }
    let mut records = Vec::new();
    for _ in 0..answers.min(MOST_RECORDS) {
        records.push(reader.record()?);
    }
    Some(follow(&records, asked, kind))
}

/// From the name that was asked for, through its aliases, to addresses. Other names in the answer do not count.
fn follow(records: &[Record<'_>], asked: String, kind: Kind) -> Answer {
    let (mut name, mut seconds) = (asked, u32::MAX);
    for _ in 0..MOST_ALIASES {
        let own = |record: &&Record<'_>| record.name.eq_ignore_ascii_case(&name);
        let found: Vec<_> = records.iter().filter(own).filter(|record| record.kind == kind.number()).collect();
        let addresses: Vec<_> = found.iter().filter_map(|record| address(record.data)).take(MOST_ADDRESSES).collect();
        if !addresses.is_empty() {
            seconds = found.iter().map(|record| record.seconds).fold(seconds, u32::min);
            return Answer::Addresses(addresses, seconds);
        }
        let Some(alias) = records.iter().filter(own).find(|record| record.kind == TYPE_CNAME) else { break };
        let Some(next) = alias.alias.clone() else { break };
        seconds = seconds.min(alias.seconds);
        name = next;
    }
    Answer::Addresses(Vec::new(), 0)
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(data) {
        return Some(Ipv4Addr::from(four).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into())
}

struct Record<'a> {
    name: String,
    kind: u16,
    seconds: u32,
    data: &'a [u8],
    /// Where the name of a CNAME leads.
    alias: Option<String>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A name, through pointers (RFC 1035, section 4.1.4). They only lead backwards here, so none goes in circles.
    fn name(&mut self) -> Option<String> {
        let (mut name, mut at, mut after, mut pointers) = (String::new(), self.at, None, 0);
        loop {
            let length = *self.bytes.get(at)?;
            match length {
                0 => break,
                1..=63 => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(length))?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.extend(label.iter().map(|b| char::from(*b)));
                    if label.iter().any(|b| *b == b'.' || !b.is_ascii_graphic()) || name.len() > LONGEST_NAME {
                        return None;
                    }
                    at += 1 + usize::from(length);
                }
                0xc0.. => {
                    let to = usize::from(length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    after = after.or(Some(at + 2));
                    pointers += 1;
                    if to >= at || pointers > MOST_POINTERS {
                        return None;
                    }
                    at = to;
                }
                _ => return None,
            }
        }
        self.at = after.unwrap_or(at + 1);
        Some(name)
    }

    fn record(&mut self) -> Option<Record<'a>> {
        let name = self.name()?;
        let (kind, class) = (self.number()?, self.number()?);
        let seconds = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        let length = usize::from(self.number()?);
        let begin = self.at;
        let data = self.take(length)?;
        let alias = match kind {
            TYPE_CNAME => Reader { bytes: self.bytes, at: begin }.name(),
            _ => None,
        };
        // Another class than the Internet's never fits a question.
        let kind = if class == CLASS_IN { kind } else { 0 };
        Some(Record { name, kind, seconds, data, alias })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer as servers write it: `www.example` is an alias of `a.example`, with two addresses.
    fn sample() -> Vec<u8> {
        let mut bytes = query(7, "www.example", Kind::A);
        bytes[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 3]);
        // www.example CNAME a.example, TTL 300; the name is a pointer to the question, `example` another.
        bytes.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 44, 0, 4, 1, b'a', 0xc0, 16]);
        let alias = u8::try_from(bytes.len() - 4).unwrap();
        for last in [1, 2] {
            bytes.extend([0xc0, alias, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, last]);
        }
        bytes
    }

    #[test]
    fn aliases_lead_to_addresses_and_the_shortest_life_counts() {
        let addresses = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        assert_eq!(read(&sample(), 7, "WWW.example", Kind::A), Some(Answer::Addresses(addresses, 60)));
    }

    #[test]
    fn what_answers_another_question_is_not_heard() {
        let sample = sample();
        assert_eq!(read(&sample, 8, "www.example", Kind::A), None, "another id");
        assert_eq!(read(&sample, 7, "other.example", Kind::A), None, "another name");
        assert_eq!(read(&sample, 7, "www.example", Kind::Aaaa), None, "another kind");
        assert_eq!(read(&query(7, "www.example", Kind::A), 7, "www.example", Kind::A), None, "no answer at all");
        let mut failed = sample;
        for (code, expected) in [(3, Answer::NoName), (2, Answer::Failed(2))] {
            failed[3] = 0x80 | code;
            assert_eq!(read(&failed, 7, "www.example", Kind::A), Some(expected));
        }
        failed[2] |= 2;
        assert_eq!(read(&failed, 7, "www.example", Kind::A), Some(Answer::Truncated));
    }

    #[test]
    fn names_that_can_be_asked_for() {
        for good in ["a", "registrar.region.example", "_x.y-z.", "1.example"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "a..b", "a b", "ä", &"a".repeat(64), &vec!["a".repeat(63); 5].join(".")] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 7, "www.example", Kind::A);
        }

        #[test]
        fn any_change_of_an_answer_is_survived(at in 0usize..91, to: u8, cut in 0usize..91) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(cut.max(at));
            if let Some(Answer::Addresses(addresses, _)) = read(&bytes, 7, "www.example", Kind::A) {
                prop_assert!(addresses.len() <= 2);
            }
        }
    }
}
