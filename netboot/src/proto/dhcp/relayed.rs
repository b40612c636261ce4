//! Which machine behind a relay has which address, from the DHCP packets that the relay passed on. The LAN's neighbour table
//! knows nothing of machines behind a router, so this is what a store's word about them rests on.
//!
//! It is weaker than the neighbour table: a client writes its hardware address into the packet itself, as on any LAN, and the relay
//! is taken at its word. Hence the conditions: the configuration names the relay, in the packet (giaddr) and as its sender; netboot
//! has answered this machine through it; and within [`REMEMBER`] nobody else has claimed the address, nor this machine another way.

use super::packet::{MessageType, Packet, code};
use crate::proto::{dhcp::family::Family, mac::Mac};
use std::{
    collections::BTreeMap,
    fmt,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// How long a claim counts. A machine that wants to be vouched for asks anew, so this has to last for minutes only.
pub const REMEMBER: Duration = Duration::from_secs(15 * 60);
/// Machines, and addresses, that are remembered; the ones that were heard last stay.
pub const MOST: usize = 1024;
/// Bytes of option 82 that are kept: more than relays write, and a bound.
const LONGEST_INFORMATION: usize = 64;

/// How a machine's packets come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The relay: giaddr.
    pub relay: Ipv4Addr,
    /// What it adds about where the machine is, option 82 (RFC 3046), at most 64 bytes. Empty where it adds nothing.
    pub information: Vec<u8>,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relay {}", self.relay)?;
        if !self.information.is_empty() {
            write!(f, " (option 82 {})", hex::encode(&self.information))?;
        }
        Ok(())
    }
}

/// A machine behind a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Its hardware address, as its packets have it.
    pub mac: Mac,
    /// The way.
    pub way: Way,
}

/// Why nothing can be said about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Nobody has claimed it lately through a relay that is listed.
    #[error("no machine behind a listed relay has said lately that it has this address")]
    Nobody,
    /// Several machines have, or one by several ways.
    #[error(
        "this address was claimed by two machines, or the machine was heard by two ways, within the last 15 minutes"
    )]
    Contested,
    /// The machine was not answered on the way that it claims it by.
    #[error("the machine with this address was not answered through that relay")]
    Unanswered,
}

impl Unknown {
    /// For programs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Nobody => "not-a-neighbour",
            Self::Contested => "relay-contested",
            Self::Unanswered => "relay-unanswered",
        }
    }
}

/// Something that was heard, and until when nothing may contradict it.
#[derive(Debug, Clone)]
struct Said<T> {
    what: T,
    at: Instant,
    /// When something else was said last.
    contested: Option<Instant>,
}

/// Remembers at most [`MOST`] things by their key.
#[derive(Debug)]
struct Book<K, T>(BTreeMap<K, Said<T>>);

impl<K: Ord + Copy, T: PartialEq> Book<K, T> {
    fn note(&mut self, now: Instant, key: K, what: T) {
        if let Some(said) = self.0.get_mut(&key) {
            if said.what != what && lately(now, said.at) {
                said.contested = Some(now);
            }
            (said.what, said.at) = (what, now);
            return;
        }
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, said)| said.at).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(key, Said { what, at: now, contested: None });
    }

    fn find(&self, now: Instant, key: K, missing: Unknown) -> Result<&T, Unknown> {
        let said = self.0.get(&key).filter(|said| lately(now, said.at)).ok_or(missing)?;
        if said.contested.is_some_and(|at| lately(now, at)) { Err(Unknown::Contested) } else { Ok(&said.what) }
    }
}

fn lately(now: Instant, at: Instant) -> bool {
    now.saturating_duration_since(at) < REMEMBER
}

/// What was heard through relays.
#[derive(Debug)]
pub struct Relayed {
    /// Ways by which machines ask.
    ways: Book<Mac, Way>,
    /// Machines that were answered, and by which way.
    answered: Book<Mac, Way>,
    /// Who has said to have an address.
    claims: Book<Ipv4Addr, Behind>,
}

impl Default for Relayed {
    fn default() -> Self {
        Self { ways: Book(BTreeMap::new()), answered: Book(BTreeMap::new()), claims: Book(BTreeMap::new()) }
    }
}

impl Relayed {
    /// Notes a client's packet that came from `sender`, and whether netboot answered it. `relays` are those of the configuration:
    /// other packets say nothing.
    pub fn heard(&mut self, now: Instant, relays: &[Ipv4Addr], sender: Ipv4Addr, packet: &Packet, answered: bool) {
        let listed = |address: Ipv4Addr| relays.contains(&address);
        if packet.op != 1 || packet.giaddr.is_unspecified() || !listed(packet.giaddr) || !listed(sender) {
            return;
        }
        let Some(mac) = packet.mac() else { return };
        let information = packet.option(code::RELAY).unwrap_or_default();
        let information = information[..information.len().min(LONGEST_INFORMATION)].to_vec();
        let way = Way { relay: packet.giaddr, information };
        self.ways.note(now, mac, way.clone());
        if answered {
            self.answered.note(now, mac, way.clone());
        }
        if let Some(address) = claimed(packet) {
            self.claims.note(now, address, Behind { mac, way });
        }
    }

    /// Who has this address.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn who(&self, now: Instant, address: Ipv4Addr) -> Result<Behind, Unknown> {
        let behind = self.claims.find(now, address, Unknown::Nobody)?;
        self.ways.find(now, behind.mac, Unknown::Nobody)?;
        let answered = self.answered.find(now, behind.mac, Unknown::Unanswered)?;
        if *answered == behind.way { Ok(behind.clone()) } else { Err(Unknown::Unanswered) }
    }
}

/// The address that a client says it has: in a REQUEST what it has chosen or had (RFC 2131, section 4.3.2), in an INFORM its own. What
/// other clients wish for in a DISCOVER says nothing, but the agent names there what its card has.
fn claimed(packet: &Packet) -> Option<Ipv4Addr> {
    let requested = || packet.requested_address();
    let own = Some(packet.ciaddr).filter(|address| !address.is_unspecified());
    let address = match packet.message_type()? {
        MessageType::Request => own.or_else(requested),
        MessageType::Inform => own,
        MessageType::Discover if Family::of(packet) == Family::Agent => requested(),
        _ => None,
    };
    address.filter(|address| !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dhcp::samples::{MAC, Sample};
    use proptest::prelude::*;

    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
    /// The relay's address on netboot's own LAN.
    const SENDER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
    const RELAYS: [Ipv4Addr; 2] = [RELAY, SENDER];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 50);
    const PORT: [u8; 4] = [1, 2, 0, 7];

    fn packet(sample: &Sample) -> Packet {
        Packet::read(&sample.bytes()).unwrap()
    }

    fn relayed(sample: Sample) -> Sample {
        sample.giaddr(RELAY).option(code::RELAY, &PORT)
    }

    fn agent() -> Sample {
        relayed(Sample::discover(contracts::discovery::VENDOR_CLASS.as_bytes()))
    }

    /// What a DHCP client says when it takes an address.
    fn request(address: Ipv4Addr) -> Sample {
        relayed(Sample::discover(b"").option(53, &[3]).option(50, &address.octets()))
    }

    fn say(all: &mut Relayed, now: Instant, sample: &Sample, answered: bool) {
        all.heard(now, &RELAYS, SENDER, &packet(sample), answered);
    }

    #[test]
    fn a_machine_that_was_answered_through_a_listed_relay_is_known_by_its_address() {
        let (mut all, now) = (Relayed::default(), Instant::now());
        say(&mut all, now, &agent(), true);
        assert_eq!(all.who(now, ADDRESS), Err(Unknown::Nobody));
        say(&mut all, now, &request(ADDRESS), false);
        let way = Way { relay: RELAY, information: PORT.to_vec() };
        assert_eq!(way.to_string(), "relay 10.78.0.1 (option 82 01020007)");
        assert_eq!(all.who(now, ADDRESS), Ok(Behind { mac: Mac(MAC), way }));
        assert_eq!(all.who(now + REMEMBER, ADDRESS), Err(Unknown::Nobody), "it has to ask anew");
        // In the installed system somebody else's client took the address, and netboot may have started since.
        let mut later = Relayed::default();
        say(&mut later, now, &agent().option(50, &ADDRESS.octets()), true);
        assert_eq!(later.who(now, ADDRESS).unwrap().mac, Mac(MAC));
    }

    #[test]
    fn what_is_not_answered_or_comes_by_nobody_that_is_listed_says_nothing() {
        let now = Instant::now();
        let mut silent = Relayed::default();
        say(&mut silent, now, &request(ADDRESS), false);
        assert_eq!(silent.who(now, ADDRESS), Err(Unknown::Unanswered));
        let said = packet(&agent().option(50, &ADDRESS.octets()));
        let direct = packet(&agent().option(50, &ADDRESS.octets()).giaddr(Ipv4Addr::UNSPECIFIED));
        let stranger = Ipv4Addr::new(10, 77, 0, 66);
        for (relays, sender, packet) in [
            (&RELAYS[..], stranger, &said),
            (&RELAYS[1..], SENDER, &said),
            (&[][..], SENDER, &said),
            (&RELAYS[..], SENDER, &direct),
        ] {
            let mut all = Relayed::default();
            all.heard(now, relays, sender, packet, true);
            assert_eq!(all.who(now, ADDRESS), Err(Unknown::Nobody), "{relays:?} {sender}");
        }
    }

    #[test]
    fn a_wish_is_no_claim() {
        let (mut all, now) = (Relayed::default(), Instant::now());
        say(&mut all, now, &relayed(Sample::edk2_pxe()).option(50, &ADDRESS.octets()), true);
        assert_eq!(all.who(now, ADDRESS), Err(Unknown::Nobody));
        for nobody in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
            say(&mut all, now, &agent().option(50, &nobody.octets()), true);
            assert_eq!(all.who(now, nobody), Err(Unknown::Nobody));
        }
    }

    #[test]
    fn two_machines_with_one_address_and_one_machine_by_two_ways_are_not_believed_for_a_while() {
        let now = Instant::now();
        let mut all = Relayed::default();
        say(&mut all, now, &agent().option(50, &ADDRESS.octets()), true);
        // Somebody else on that LAN claims the address, and later its owner asks again.
        say(&mut all, now, &request(ADDRESS).mac([2, 0, 0, 0, 0, 6]), false);
        say(&mut all, now, &agent().option(50, &ADDRESS.octets()), true);
        assert_eq!(all.who(now, ADDRESS), Err(Unknown::Contested));
        let later = now + REMEMBER;
        say(&mut all, later, &agent().option(50, &ADDRESS.octets()), true);
        assert!(all.who(later, ADDRESS).is_ok());

        // Somebody takes this machine's hardware address behind another port of the switch, and an address of its own.
        let mut all = Relayed::default();
        say(&mut all, now, &agent(), true);
        let own = Ipv4Addr::new(10, 78, 0, 66);
        say(&mut all, now, &agent().option(code::RELAY, &[1, 2, 0, 8]).option(50, &own.octets()), true);
        assert_eq!(all.who(now, own), Err(Unknown::Contested));
    }

    proptest! {
        #[test]
        fn any_packets_are_survived_and_room_is_bounded(
            packets in proptest::collection::vec((any::<[u8; 4]>(), any::<[u8; 2]>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..80),
        ) {
            let (mut all, mut now) = (Relayed::default(), Instant::now());
            for (address, mac, answered, information) in packets {
                now += Duration::from_secs(1);
                let sample = agent().mac([2, 0, 0, 0, mac[0], mac[1]]).option(50, &address).option(code::RELAY, &information);
                say(&mut all, now, &sample, answered);
                if let Ok(behind) = all.who(now, address.into()) {
                    prop_assert!(answered && behind.way.information.len() <= LONGEST_INFORMATION);
                }
            }
        }
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_is_no_more_room() {
        let (mut all, mut now) = (Relayed::default(), Instant::now());
        for number in 0..=MOST as u32 {
            now += Duration::from_millis(1);
            let ([_, _, high, low], address) = (number.to_be_bytes(), Ipv4Addr::from(0x0a00_0000 + number));
            say(&mut all, now, &agent().mac([2, 0, 0, 0, high, low]).option(50, &address.octets()), true);
        }
        assert!(all.claims.0.len() <= MOST && all.ways.0.len() <= MOST && all.answered.0.len() <= MOST);
        assert_eq!(all.who(now, Ipv4Addr::new(10, 0, 0, 0)), Err(Unknown::Nobody));
        assert!(all.who(now, Ipv4Addr::new(10, 0, 4, 0)).is_ok());
    }
}
