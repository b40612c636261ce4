//! Writes answers that every firmware in the field accepts.
//!
//! - Header fields and options carry the same facts: EDK2 reads option 67 first, U-Boot and shim only the header.
//! - Option 67 ends with a NUL inside its length: EDK2 writes one behind it otherwise, over the next option.
//! - Options 53 and 54 are always there: EDK2 throws away an offer without a server id before its boot code
//!   sees it, and takes one without 53 for BOOTP.
//! - No overload, no PAD between options, at least 300 bytes in all: weak parsers and old relays need it.
//! - `yiaddr` stays 0: the address comes from the store's own DHCP server.
//! - The client's machine identifier (97) goes back as it came, relay information (82) too, and last.

use super::packet::{Packet, code};
use dhcproto::{
    Encodable, Encoder,
    v4::{self, DhcpOption, HType, MessageType, Opcode, OptionCode, UnknownOption},
};
use std::net::Ipv4Addr;

/// BOOTP's size; older relays and ROMs drop less.
const LEAST: usize = 300;
/// IPv4 and UDP headers, which option 57 counts in.
const HEADERS: usize = 28;
/// EDK2's HTTP Boot driver drops offers above this, and so may others.
pub(crate) const MOST: usize = 1472;

/// No answer has more than this many times the bytes of its question: who forges a sender's address gains nothing worth
/// the trouble. The shortest answer has 300 bytes, the shortest question 244.
pub(crate) const MOST_TIMES: usize = 3;

/// What kind of message an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
}

/// What an answer says about the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lent {
    /// The address; 0.0.0.0 in the answer to an INFORM.
    pub address: Ipv4Addr,
    /// How long, in seconds; `None` in the answer to an INFORM.
    pub seconds: Option<u32>,
    /// The subnet mask.
    pub mask: Ipv4Addr,
    /// The broadcast address.
    pub broadcast: Ipv4Addr,
    /// The default router.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// The domain.
    pub domain: Option<String>,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What kind of message.
    pub message: Message,
    /// This server, reachable on the client's link.
    pub server: Ipv4Addr,
    /// The vendor class that the client expects back.
    pub class: Option<&'static str>,
    /// The boot file's name or URL.
    pub file: Option<String>,
    /// Content of option 43.
    pub vendor: Option<Vec<u8>>,
    /// The address, where this server lends it.
    pub lease: Option<Lent>,
    /// Tells iPXE that no proxy will answer (option 175, sub-option 176).
    pub no_proxy: bool,
    /// Whether the answer is broadcast on the client's link whatever the client asked for: where it holds no address.
    pub broadcast: bool,
}

/// Why an answer cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The client would drop it.
    #[error("the answer has {bytes} bytes, this client takes {most}")]
    TooLarge {
        /// Size of the answer.
        bytes: usize,
        /// What the client takes.
        most: usize,
    },
    /// The question was too short for such an answer.
    #[error("the answer has {bytes} bytes, too many for a question of {asked}: its sender may be forged")]
    Amplifies {
        /// Size of the answer.
        bytes: usize,
        /// Size of the question.
        asked: usize,
    },
    /// The encoder refused.
    #[error("the answer cannot be encoded: {0}")]
    Encode(String),
}

impl Answer {
    /// Writes the answer to a request.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] when the client would drop it.
    pub fn write(&self, to: &Packet) -> Result<Vec<u8>, WriteError> {
        let address = to.chaddr.get(..usize::from(to.hlen)).unwrap_or_default();
        let unset = Ipv4Addr::UNSPECIFIED;
        let yours = self.lease.as_ref().map_or(unset, |lease| lease.address);
        // Table 3 of RFC 2131: a NAK names no address at all. A lease without a boot file names no next server.
        let ciaddr = if self.message == Message::Nak { unset } else { to.ciaddr };
        let boots = self.lease.is_none() || self.file.is_some();
        let next = if boots && self.message != Message::Nak { self.server } else { unset };
        let mut message = v4::Message::new_with_id(to.xid, ciaddr, yours, next, to.giaddr, address);
        let flags = if self.broadcast { to.flags | 0x8000 } else { to.flags };
        message.set_opcode(Opcode::BootReply).set_htype(HType::from(to.htype)).set_flags(flags.into());
        self.write_options(&mut message, to);
        let mut bytes = Vec::with_capacity(512);
        message.encode(&mut Encoder::new(&mut bytes)).map_err(|e| WriteError::Encode(e.to_string()))?;
        append_relay(&mut bytes, to);
        bytes.resize(bytes.len().max(LEAST), 0);
        let most = (to.max_size() - HEADERS).min(MOST);
        if bytes.len() > most {
            return Err(WriteError::TooLarge { bytes: bytes.len(), most });
        }
        if bytes.len() > to.size * MOST_TIMES {
            return Err(WriteError::Amplifies { bytes: bytes.len(), asked: to.size });
        }
        Ok(bytes)
    }

    fn write_options(&self, message: &mut v4::Message, to: &Packet) {
        let kind = match self.message {
            Message::Offer => MessageType::Offer,
            Message::Ack => MessageType::Ack,
            Message::Nak => MessageType::Nak,
        };
        let mut options = vec![DhcpOption::MessageType(kind), DhcpOption::ServerIdentifier(self.server)];
        options.extend(self.class.map(|class| DhcpOption::ClassIdentifier(class.as_bytes().to_vec())));
        options.extend(self.lease.iter().flat_map(lent));
        if self.no_proxy {
            let quick = UnknownOption::new(OptionCode::from(code::IPXE), vec![176, 1, 1]);
            options.push(DhcpOption::Unknown(quick));
        }
        if let Some(file) = &self.file {
            let server = self.server.to_string();
            message.set_sname(server.as_bytes());
            // The header's field ends with a NUL too, so 127 characters fit; a longer URL goes into option 67 alone.
            if file.len() < 128 {
                message.set_fname(file.as_bytes());
            }
            options.push(DhcpOption::TFTPServerName(server.into_bytes()));
            options.push(DhcpOption::BootfileName([file.as_bytes(), b"\0"].concat()));
        }
        options.extend(self.vendor.clone().map(DhcpOption::VendorExtensions));
        options.extend(to.option(code::GUID).map(|v| DhcpOption::ClientMachineIdentifier(v.to_vec())));
        let id = to.option(code::CLIENT_ID).map(<[u8]>::to_vec);
        options.extend(id.map(|id| DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code::CLIENT_ID), id))));
        for option in options {
            message.opts_mut().insert(option);
        }
    }
}

/// Relay information goes back as it came, after everything else (RFC 3046, section 2.2). dhcproto writes an option that
/// it is given as bytes twice here, so this is done behind it.
fn append_relay(bytes: &mut Vec<u8>, to: &Packet) {
    let Some(relay) = to.option(code::RELAY) else { return };
    let end = bytes.pop();
    debug_assert_eq!(end, Some(255), "the encoder ends with the end option");
    for piece in relay.chunks(255) {
        bytes.extend([code::RELAY, u8::try_from(piece.len()).unwrap_or(255)]);
        bytes.extend_from_slice(piece);
    }
    bytes.push(255);
}

fn lent(lease: &Lent) -> Vec<DhcpOption> {
    let mut options = vec![DhcpOption::SubnetMask(lease.mask), DhcpOption::BroadcastAddr(lease.broadcast)];
    if let Some(seconds) = lease.seconds {
        options.push(DhcpOption::AddressLeaseTime(seconds));
        // RFC 2131, section 4.4.5: half of it, and seven eighths.
        options.push(DhcpOption::Renewal(seconds / 2));
        options.push(DhcpOption::Rebinding(seconds / 8 * 7));
    }
    options.extend(lease.router.map(|router| DhcpOption::Router(vec![router])));
    if !lease.dns.is_empty() {
        options.push(DhcpOption::DomainNameServer(lease.dns.clone()));
    }
    if !lease.ntp.is_empty() {
        options.push(DhcpOption::NtpServers(lease.ntp.clone()));
    }
    options.extend(lease.domain.clone().map(DhcpOption::DomainName));
    options
}
