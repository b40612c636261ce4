//! Which NIC a system GUID belongs to, learned from DISCOVERs, for requests that carry only the GUID.

use crate::proto::mac::Mac;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// A machine sends its 4011 request within a minute of its DISCOVER.
const REMEMBER: Duration = Duration::from_secs(600);
pub(crate) const MOST: usize = 1024;

/// Recently seen pairs of GUID and NIC.
#[derive(Debug, Default)]
pub struct Guids {
    seen: HashMap<[u8; 16], Vec<(Mac, Instant)>>,
}

impl Guids {
    /// Notes that this NIC sent this GUID. The all-zero GUID says nothing: firmware sends it when SMBIOS fails.
    pub fn note(&mut self, now: Instant, guid: [u8; 16], mac: Mac) {
        if guid == [0; 16] {
            return;
        }
        if self.seen.len() >= MOST {
            self.seen.retain(|_, macs| macs.iter().any(|(_, at)| now.duration_since(*at) < REMEMBER));
        }
        if self.seen.len() < MOST || self.seen.contains_key(&guid) {
            let macs = self.seen.entry(guid).or_default();
            macs.retain(|(other, at)| *other != mac && now.duration_since(*at) < REMEMBER);
            macs.push((mac, now));
        }
    }

    /// The one NIC that sent this GUID lately. `None` when there are several: cheap boards share one GUID.
    #[must_use]
    pub fn find(&self, now: Instant, guid: &[u8; 16]) -> Option<Mac> {
        let mut fresh = self.seen.get(guid)?.iter().filter(|(_, at)| now.duration_since(*at) < REMEMBER);
        let first = fresh.next()?.0;
        fresh.next().is_none().then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_or_empty_guid_finds_nobody() {
        let (now, mut guids) = (Instant::now(), Guids::default());
        let [a, b] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
        guids.note(now, [0; 16], a);
        guids.note(now, [1; 16], a);
        assert_eq!(guids.find(now, &[0; 16]), None);
        assert_eq!(guids.find(now, &[1; 16]), Some(a));
        guids.note(now, [1; 16], b);
        assert_eq!(guids.find(now, &[1; 16]), None);
        assert_eq!(guids.find(now + REMEMBER, &[1; 16]), None);
    }
}
