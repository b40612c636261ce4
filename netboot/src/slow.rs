//! `slowDown`: machines whose firmware hangs in large downloads get files over HTTP at a lower rate.

use crate::proto::mac::Mac;
use serde::Deserialize;

/// Entries that the list may have.
pub(crate) const MOST: usize = 32;
/// Slower than this, a boot image takes longer than firmware waits.
const LEAST: u64 = 125_000;

/// One entry as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSlow {
    mac: String,
    limit: String,
}

/// Machines whose addresses begin like this, and how many bytes a second they get over one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slow {
    prefix: Vec<u8>,
    rate: u64,
}

/// Reads the list.
///
/// # Errors
/// What is wrong, and what would be right.
pub(crate) fn validate(raw: &[RawSlow]) -> Result<Vec<Slow>, String> {
    if raw.len() > MOST {
        return Err(format!("more than {MOST} entries make no sense"));
    }
    raw.iter().map(RawSlow::validate).collect()
}

impl RawSlow {
    fn validate(&self) -> Result<Slow, String> {
        let byte = |part: &str| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2 && !part.starts_with('+'));
        let prefix: Option<Vec<u8>> = self.mac.split([':', '-']).map(byte).collect();
        let prefix = prefix.filter(|prefix| (3..=6).contains(&prefix.len()));
        let prefix =
            prefix.ok_or_else(|| format!("`{}` is no beginning of a MAC address, such as `52:54:00`", self.mac))?;
        let rate = crate::cache::config::rate(&self.limit).flatten().filter(|rate| *rate >= LEAST);
        let rate = rate.ok_or_else(|| format!("`{}` is no rate of 1Mbit/s or more, such as `50Mbit/s`", self.limit))?;
        Ok(Slow { prefix, rate })
    }
}

/// How many bytes a second a machine gets; `None` where nothing is said of it. The longest beginning counts.
#[must_use]
pub fn rate(list: &[Slow], mac: Mac) -> Option<u64> {
    let its = list.iter().filter(|slow| mac.0.starts_with(&slow.prefix));
    its.max_by_key(|slow| slow.prefix.len()).map(|slow| slow.rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(mac: &str, limit: &str) -> RawSlow {
        RawSlow { mac: mac.into(), limit: limit.into() }
    }

    #[test]
    fn the_longest_beginning_counts() {
        let list = validate(&[raw("52:54:00", "8Mbit/s"), raw("52-54-00-aa-bb-01", "80Mbit/s")]).unwrap();
        let of = |text: &str| rate(&list, text.parse().unwrap());
        assert_eq!(of("52:54:00:12:34:56"), Some(1_000_000));
        assert_eq!(of("52:54:00:aa:bb:01"), Some(10_000_000));
        assert_eq!(of("02:54:00:aa:bb:01"), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (mac, limit) in
            [("52:54", "8Mbit/s"), ("52:54:00", "none"), ("52:54:00", "1kbit/s"), ("5254:00:1", "8Mbit/s")]
        {
            assert!(validate(&[raw(mac, limit)]).is_err(), "{mac} {limit}");
        }
        assert!(validate(&vec![raw("52:54:00", "8Mbit/s"); MOST + 1]).is_err());
    }
}
