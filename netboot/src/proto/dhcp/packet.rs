//! A tolerant reader for DHCP requests.
//!
//! Firmware sends malformed options, and a strict reader that stops at the first bad one would lose the good
//! ones before it. So: a cut-off last option is ignored, unknown options are skipped, pieces of one option are
//! joined (RFC 3396), and every accessor checks its own option's length.

use crate::proto::mac::Mac;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Ethernet in the `htype` field.
const ETHERNET: u8 = 1;
/// Where the options begin: the BOOTP header and the magic cookie (RFC 2131, section 3).
const OPTIONS_AT: usize = 240;
const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Codes of the options that a boot server looks at.
pub mod code {
    /// Vendor-specific information.
    pub const VENDOR: u8 = 43;
    /// The address that a client wishes.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// How long it wishes to have it.
    pub const LEASE_TIME: u8 = 51;
    /// DHCP message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier.
    pub const SERVER_ID: u8 = 54;
    /// Maximum DHCP message size.
    pub const MAX_SIZE: u8 = 57;
    /// Vendor class identifier.
    pub const CLASS: u8 = 60;
    /// Client identifier.
    pub const CLIENT_ID: u8 = 61;
    /// The boot file.
    pub const BOOT_FILE: u8 = 67;
    /// User class (RFC 3004).
    pub const USER_CLASS: u8 = 77;
    /// Relay agent information.
    pub const RELAY: u8 = 82;
    /// Client system architecture (RFC 4578).
    pub const ARCHITECTURE: u8 = 93;
    /// Client network device interface.
    pub const NETWORK_INTERFACE: u8 = 94;
    /// Client machine identifier, the SMBIOS GUID.
    pub const GUID: u8 = 97;
    /// iPXE's encapsulated options.
    pub const IPXE: u8 = 175;

    pub(super) const WANTED: [u8; 15] = [
        VENDOR,
        REQUESTED_ADDRESS,
        LEASE_TIME,
        BOOT_FILE,
        MESSAGE_TYPE,
        SERVER_ID,
        MAX_SIZE,
        CLASS,
        CLIENT_ID,
        USER_CLASS,
        RELAY,
        ARCHITECTURE,
        NETWORK_INTERFACE,
        GUID,
        IPXE,
    ];
}

/// DHCP message types (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// A client looks for servers.
    Discover,
    /// A server offers.
    Offer,
    /// A client asks one server.
    Request,
    /// A client says that its address is in use.
    Decline,
    /// A server grants.
    Ack,
    /// A server refuses.
    Nak,
    /// A client gives its address back.
    Release,
    /// A client asks for options only.
    Inform,
    /// Anything else.
    Other(u8),
}

/// Why bytes are not a DHCP packet at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDhcp {
    /// Shorter than the BOOTP header with its magic cookie.
    #[error("{0} bytes are too short for DHCP")]
    TooShort(usize),
    /// The magic cookie is missing: plain BOOTP, or something else.
    #[error("the DHCP magic cookie is missing")]
    NoCookie,
    /// A hardware address longer than its field.
    #[error("the hardware address claims {0} bytes, its field has 16")]
    AddressTooLong(u8),
}

/// Option 97 is there, and is not a type 0 followed by 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the machine identifier (option 97) is malformed")]
pub struct BadGuid;

/// The parts of a DHCP packet that a boot server needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// 1 from clients, 2 from servers.
    pub op: u8,
    /// Hardware type; 1 is Ethernet.
    pub htype: u8,
    /// Bytes of `chaddr` that count.
    pub hlen: u8,
    /// Transaction id.
    pub xid: u32,
    /// The flags field; the top bit asks for broadcast.
    pub flags: u16,
    /// The client's address, once it has one.
    pub ciaddr: Ipv4Addr,
    /// The address that a server gives the client.
    pub yiaddr: Ipv4Addr,
    /// The server of the next boot step.
    pub siaddr: Ipv4Addr,
    /// The relay that passed this on.
    pub giaddr: Ipv4Addr,
    /// How many bytes the packet had: no answer is allowed to be much larger.
    pub size: usize,
    /// The hardware address field.
    pub chaddr: [u8; 16],
    names_a_file: bool,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Packet {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`NotDhcp`] when the fixed part is not there. Bad options are never an error.
    pub fn read(bytes: &[u8]) -> Result<Self, NotDhcp> {
        let fixed = bytes.get(..OPTIONS_AT).ok_or(NotDhcp::TooShort(bytes.len()))?;
        if fixed[236..] != MAGIC_COOKIE {
            return Err(NotDhcp::NoCookie);
        }
        if fixed[2] > 16 {
            return Err(NotDhcp::AddressTooLong(fixed[2]));
        }
        let mut chaddr = [0; 16];
        chaddr.copy_from_slice(&fixed[28..44]);
        Ok(Self {
            op: fixed[0],
            htype: fixed[1],
            hlen: fixed[2],
            xid: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            flags: u16::from_be_bytes([fixed[10], fixed[11]]),
            ciaddr: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            yiaddr: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
            siaddr: Ipv4Addr::new(fixed[20], fixed[21], fixed[22], fixed[23]),
            names_a_file: fixed[108] != 0,
            giaddr: Ipv4Addr::new(fixed[24], fixed[25], fixed[26], fixed[27]),
            chaddr,
            size: bytes.len(),
            options: read_options(&bytes[OPTIONS_AT..]),
        })
    }

    /// One option's bytes, joined from all its pieces.
    #[must_use]
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// What kind of message, if it says so.
    #[must_use]
    pub fn message_type(&self) -> Option<MessageType> {
        match self.option(code::MESSAGE_TYPE)? {
            [1] => Some(MessageType::Discover),
            [2] => Some(MessageType::Offer),
            [3] => Some(MessageType::Request),
            [4] => Some(MessageType::Decline),
            [5] => Some(MessageType::Ack),
            [6] => Some(MessageType::Nak),
            [7] => Some(MessageType::Release),
            [8] => Some(MessageType::Inform),
            [other] => Some(MessageType::Other(*other)),
            _ => None,
        }
    }

    /// The NIC's MAC address, when `chaddr` holds one. In the 4011 request EDK2 may put the 16-byte system GUID
    /// there instead (hlen 16), and Infiniband puts nothing of use.
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        let [a, b, c, d, e, f, ..] = self.chaddr;
        let mac = Mac([a, b, c, d, e, f]);
        (self.htype == ETHERNET && self.hlen == 6 && !mac.is_placeholder()).then_some(mac)
    }

    /// The vendor class as text, without trailing NULs.
    #[must_use]
    pub fn class(&self) -> &str {
        let bytes = self.option(code::CLASS).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default().trim_end_matches('\0')
    }

    /// The system GUID: option 97 with type 0 and 16 bytes, or a 16-byte `chaddr`. `Err` when option 97 is there
    /// and malformed; then the packet is not to be believed.
    ///
    /// # Errors
    /// [`BadGuid`].
    pub fn guid(&self) -> Result<Option<[u8; 16]>, BadGuid> {
        if let Some(bytes) = self.option(code::GUID) {
            let [0, guid @ ..] = bytes else { return Err(BadGuid) };
            return guid.try_into().map(Some).map_err(|_| BadGuid);
        }
        Ok((self.hlen == 16).then_some(self.chaddr))
    }

    /// The architectures of option 93, the client's order; else the one in the text `PXEClient:Arch:00007:…`,
    /// since some firmware leaves option 93 out.
    #[must_use]
    pub fn architectures(&self) -> Vec<u16> {
        let listed = self.option(code::ARCHITECTURE).unwrap_or_default();
        if listed.len() >= 2 {
            return listed.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        }
        let mut parts = self.class().split(':');
        let named = parts.by_ref().any(|part| part == "Arch").then(|| parts.next()).flatten();
        named.and_then(|digits| digits.parse().ok()).into_iter().collect()
    }

    /// The largest DHCP message the client takes, IP and UDP headers included. RFC 2131 promises 576.
    #[must_use]
    pub fn max_size(&self) -> usize {
        match self.option(code::MAX_SIZE) {
            Some([high, low]) => usize::from(u16::from_be_bytes([*high, *low])).max(576),
            _ => 576,
        }
    }

    /// The server that a client has chosen, or that speaks (option 54).
    #[must_use]
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.word(code::SERVER_ID).map(Ipv4Addr::from)
    }

    /// The address that a client wishes (option 50).
    #[must_use]
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.word(code::REQUESTED_ADDRESS).map(Ipv4Addr::from)
    }

    /// The lease time that a client wishes (option 51), in seconds.
    #[must_use]
    pub fn requested_lease(&self) -> Option<u32> {
        self.word(code::LEASE_TIME)
    }

    /// The boot item that a PXE client chose: type and layer, two bytes each (option 43, sub-option 71).
    #[must_use]
    pub fn boot_item(&self) -> Option<[u8; 4]> {
        let mut rest = self.option(code::VENDOR)?;
        loop {
            match rest {
                [71, 4, a, b, c, d, ..] => return Some([*a, *b, *c, *d]),
                [0, after @ ..] => rest = after,
                [255, ..] | [] | [_] => return None,
                [_, length, after @ ..] => rest = after.get(usize::from(*length)..)?,
            }
        }
    }

    /// netboot's base URL, in its answer to the agent.
    #[must_use]
    pub fn netboot_url(&self) -> Option<String> {
        let ours = self.class() == contracts::discovery::VENDOR_CLASS;
        contracts::discovery::decode(self.option(code::VENDOR).filter(|_| ours)?).ok()
    }

    /// Whether an answer names a boot file, in its header or as an option.
    #[must_use]
    pub fn names_a_boot_file(&self) -> bool {
        self.names_a_file || self.option(code::BOOT_FILE).is_some_and(|file| file.iter().any(|byte| *byte != 0))
    }

    fn word(&self, code: u8) -> Option<u32> {
        self.option(code)?.try_into().ok().map(u32::from_be_bytes)
    }
}

fn read_options(mut rest: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut options: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    loop {
        match rest {
            [] | [255, ..] => return options,
            [0, after @ ..] => rest = after,
            [code, length, after @ ..] => {
                let Some((value, after)) = after.split_at_checked(usize::from(*length)) else { return options };
                if code::WANTED.contains(code) {
                    options.entry(*code).or_default().extend_from_slice(value);
                }
                rest = after;
            }
            [_] => return options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dhcp::samples::Sample;
    use proptest::prelude::*;

    #[test]
    fn good_options_survive_a_bad_last_one() {
        let mut bytes = Sample::edk2_pxe().bytes();
        bytes.truncate(bytes.len() - 1);
        bytes.extend_from_slice(&[61, 200, 1, 2]);
        let packet = Packet::read(&bytes).unwrap();
        assert_eq!(packet.message_type(), Some(MessageType::Discover));
        assert_eq!(packet.class(), "PXEClient:Arch:00007:UNDI:003016");
        assert_eq!(packet.option(code::CLIENT_ID), None);
    }

    #[test]
    fn pieces_of_one_option_are_joined() {
        let bytes = Sample::edk2_pxe().option(60, b"PXECl").piece(60, b"ient").bytes();
        assert_eq!(Packet::read(&bytes).unwrap().class(), "PXEClient");
    }

    #[test]
    fn the_architecture_is_read_from_the_class_when_option_93_is_missing() {
        let packet = Packet::read(&Sample::edk2_pxe().without(93).bytes()).unwrap();
        assert_eq!(packet.architectures(), [7]);
        let packet = Packet::read(&Sample::edk2_pxe().option(93, &[0, 7, 0, 16, 9]).bytes()).unwrap();
        assert_eq!(packet.architectures(), [7, 16]);
    }

    #[test]
    fn a_malformed_guid_is_an_error_and_a_missing_one_is_not() {
        let guid = |sample: Sample| Packet::read(&sample.bytes()).unwrap().guid();
        assert_eq!(guid(Sample::edk2_pxe().without(97)), Ok(None));
        assert_eq!(guid(Sample::edk2_pxe().option(97, &[0, 1, 2])), Err(BadGuid));
        assert_eq!(guid(Sample::edk2_pxe().option(97, &[9; 17])), Err(BadGuid));
        assert!(guid(Sample::edk2_pxe()).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(head in proptest::collection::vec(any::<u8>(), 236),
                                  tail in proptest::collection::vec(any::<u8>(), 0..400), cookie: bool) {
            let mut bytes = head;
            if cookie { bytes.extend_from_slice(&MAGIC_COOKIE); }
            bytes.extend_from_slice(&tail);
            if let Ok(packet) = Packet::read(&bytes) {
                let _ = (packet.message_type(), packet.mac(), packet.class(), packet.guid());
                let _ = (packet.architectures(), packet.max_size(), packet.server_id());
                let _ = (packet.boot_item(), packet.requested_address(), packet.requested_lease(), packet.names_a_boot_file());
            }
        }
    }
}
