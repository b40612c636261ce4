//! What to answer, if anything. Silence is the rule: everything on the LAN hears port 67, and a wrong offer can
//! keep a till or a printer from starting.
//!
//! The dialect for UEFI PXE is the one that old and new EDK2, iPXE and U-Boot all take: an offer *without* option
//! 43 (EDK2 before April 2017 drops proxy offers with PXE sub-options in it), with this server's address and
//! the file name already in the header. EDK2 takes such an offer for a BINL server's and asks again on port 4011,
//! where an ACK with the file name ends the talk; iPXE and U-Boot use the header at once. HTTP Boot has no 4011
//! step: the offer carries the class `HTTPClient` and a URL with a literal address, since the store's DHCP
//! server may name no DNS server.
//!
//! The dialect for BIOS is an offer with the file name and option 43, sub-option 6, value 8 ("take the file in this
//! packet": PXE 2.1, section 3.4), which every PXE ROM takes without asking port 4011. A plain ROM gets iPXE by TFTP;
//! whatever is iPXE already, ours or one in a ROM, gets the URL of a script, or it would load iPXE for ever.
//!
//! REQUESTs on port 67 belong to the store's DHCP server and are never answered.

pub use super::family::{Arch, Family};
use super::{
    family::unserved,
    lease::server::Quiet,
    packet::{MessageType, Packet},
    reply::{Answer, Message, WriteError},
};
use crate::proto::mac::Mac;
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// Option 43 for BIOS: sub-option 6 (discovery control) with bit 3 set, and the end.
const TAKE_THE_FILE: [u8; 4] = [6, 1, 8, 255];

/// Which of the two ports heard the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 67: everybody's broadcasts.
    Dhcp,
    /// 4011: PXE clients that were told of this server, and agents that guess where it is.
    Proxy,
}

/// Where and how a packet came in.
#[derive(Debug, Clone)]
pub struct Arrival<'a> {
    /// The port that heard it.
    pub port: Port,
    /// This server's address on the client's link.
    pub server: Ipv4Addr,
    /// This server's base URL, with a literal address.
    pub base_url: &'a str,
    /// The packet's source.
    pub source: SocketAddrV4,
    /// The MAC address that the neighbour table has for the source.
    pub neighbour: Option<Mac>,
}

/// Who gets what: the decisions that come from outside the protocol.
pub trait Policy {
    /// What this machine's firmware is to be told.
    fn ruling(&self, mac: Mac, starts: Starts) -> Ruling;
    /// The NIC that lately sent this GUID, if it is the only one.
    fn by_guid(&self, guid: &[u8; 16]) -> Option<Mac>;
}

/// What kind of file a machine's firmware can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starts {
    /// A UKI for this processor.
    Uki(Arch),
    /// The same, by iPXE, which passes a command line of its own: it is better told by a script.
    UkiByIpxe(Arch),
    /// iPXE as a network boot program for BIOS.
    NetworkLoader,
    /// A script for iPXE.
    Script,
}

/// What a machine's firmware is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Start this file: its name for TFTP, its path below the base URL for HTTP is `/boot/NAME`.
    Boot(String),
    /// Nothing, and why.
    Silent(String),
}

/// What an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first answer to PXE firmware.
    PxeOffer,
    /// The answer on port 4011.
    PxeAck,
    /// The answer to HTTP Boot firmware.
    HttpOffer,
    /// The answer to iPXE on BIOS.
    ScriptOffer,
    /// The answer to the agent.
    AgentOffer,
    /// The answer to the agent on port 4011.
    AgentAck,
    /// An address, offered in mode `dhcp`, with or without a boot file.
    LeaseOffer,
    /// An address, granted in mode `dhcp`.
    LeaseAck,
    /// An address, refused in mode `dhcp`.
    LeaseNak,
    /// Options without an address, in mode `dhcp`.
    InformAck,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PxeOffer => "PXE offer",
            Self::PxeAck => "PXE acknowledgement",
            Self::HttpOffer => "HTTP Boot offer",
            Self::ScriptOffer => "offer to iPXE",
            Self::AgentOffer => "offer to the agent",
            Self::AgentAck => "acknowledgement to the agent",
            Self::LeaseOffer => "offer of an address",
            Self::LeaseAck => "grant of an address",
            Self::LeaseNak => "refusal of an address",
            Self::InformAck => "information",
        })
    }
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To this address, by the kernel's means.
    Ip(SocketAddrV4),
    /// To a card that does not have this address yet, and so cannot answer ARP for it (RFC 2131, section 4.1).
    Link(Mac, SocketAddrV4),
}

impl Destination {
    pub(super) const EVERYBODY: Self = Self::Ip(SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT));

    /// To a relay, which has to hear it on the server port.
    pub(super) const fn relay(giaddr: Ipv4Addr) -> Self {
        Self::Ip(SocketAddrV4::new(giaddr, SERVER_PORT))
    }

    /// To a client at its own address.
    pub(super) const fn client(address: Ipv4Addr) -> Self {
        Self::Ip(SocketAddrV4::new(address, CLIENT_PORT))
    }

    /// To a client that is about to get this address.
    pub(super) const fn link(mac: Mac, address: Ipv4Addr) -> Self {
        Self::Link(mac, SocketAddrV4::new(address, CLIENT_PORT))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(to) => write!(f, "{to}"),
            Self::Link(mac, to) => write!(f, "{to} at {mac}"),
        }
    }
}

/// The decision about one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Send this.
    Reply {
        /// The packet.
        bytes: Vec<u8>,
        /// Where to.
        destination: Destination,
        /// What it is.
        kind: Kind,
        /// What it offers, for the log.
        what: String,
        /// The boot file in it, if any.
        boots: Option<String>,
    },
    /// Say nothing.
    Silence(Silence),
}

/// Why a packet gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Another server's answer.
    #[error("it is no request")]
    NotARequest,
    /// Not a boot client.
    #[error("it is no boot client (vendor class \"{0}\")")]
    NotABootClient(String),
    /// A message that the store's DHCP server has to answer.
    #[error("a {0:?} on this port is not for a boot server")]
    NotForUs(MessageType),
    /// Option 53 is missing.
    #[error("it has no message type (option 53)")]
    NoMessageType,
    /// Firmware of a kind for which there is no boot file.
    #[error("{}", unserved(*.0))]
    Unserved(u16),
    /// A malformed machine identifier.
    #[error("its machine identifier (option 97) is malformed")]
    BadGuid,
    /// Nobody knows which machine this is.
    #[error("it names no Ethernet address, and neither the neighbour table nor its GUID tells which machine it is")]
    Unidentified,
    /// The policy says so.
    #[error("{0}")]
    Policy(String),
    /// The answer cannot be written, or would be dropped anyway.
    #[error(transparent)]
    Unwritable(WriteError),
    /// A boot ROM with its own ways.
    #[error("it is the boot ROM of a Raspberry Pi, which is not served")]
    RaspberryPi,
    /// The boot item that it chose asks for signed discovery (PXE 2.1, table 2-4: the layer's top bit).
    #[error("it asks for a boot item with security, which is not served")]
    SecureItem,
    /// More packets than a boot client sends.
    #[error("more packets came than boot clients send: those above the limit are dropped")]
    TooMany,
    /// The pause at the first start.
    #[error("the LAN is listened to for a moment first; it will ask again")]
    Listening,
    /// The DHCP server of mode `dhcp` says nothing.
    #[error(transparent)]
    Lease(Quiet),
}

/// Who sent a packet, and what comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The machine, where it is known.
    pub mac: Option<Mac>,
    /// What kind of client.
    pub family: Family,
    /// The decision.
    pub decision: Decision,
}

/// Decides about one packet.
#[must_use]
pub fn answer(packet: &Packet, arrival: &Arrival<'_>, policy: &dyn Policy) -> Outcome {
    let family = Family::of(packet);
    let mac = identify(packet, arrival, policy);
    let decision = decide(packet, arrival, policy, family, mac).unwrap_or_else(Decision::Silence);
    Outcome { mac, family, decision }
}

fn decide(
    packet: &Packet,
    arrival: &Arrival<'_>,
    policy: &dyn Policy,
    family: Family,
    mac: Option<Mac>,
) -> Result<Decision, Silence> {
    if packet.op != 1 {
        return Err(Silence::NotARequest);
    }
    let message = packet.message_type().ok_or(Silence::NoMessageType)?;
    let kind = match (arrival.port, message, family) {
        (_, _, Family::Other | Family::Unserved(_) | Family::RaspberryPi) => return Err(refusal(packet, family)),
        (Port::Dhcp, MessageType::Discover, Family::UefiPxe(_) | Family::UefiIpxe(_) | Family::BiosPxe) => {
            Kind::PxeOffer
        }
        (Port::Dhcp, MessageType::Discover, Family::BiosIpxe) => Kind::ScriptOffer,
        (Port::Dhcp, MessageType::Discover, Family::UefiHttp(_)) => Kind::HttpOffer,
        (Port::Dhcp, MessageType::Discover, Family::Agent) => Kind::AgentOffer,
        (
            Port::Proxy,
            MessageType::Request | MessageType::Inform,
            Family::UefiPxe(_) | Family::UefiIpxe(_) | Family::BiosPxe | Family::BiosIpxe,
        ) => Kind::PxeAck,
        (Port::Proxy, MessageType::Inform, Family::Agent) => Kind::AgentAck,
        _ => return Err(Silence::NotForUs(message)),
    };
    let part = boot_part(packet, family, arrival, policy, mac)?;
    let mut vendor = part.vendor;
    if let Some(item) = packet.boot_item().filter(|_| kind == Kind::PxeAck) {
        if item[2] & 0x80 != 0 {
            return Err(Silence::SecureItem);
        }
        // The item that it chose goes back as it came (PXE 2.1, section 2.2.3).
        let options = vendor.get_or_insert_with(|| vec![255]);
        options.splice(0..0, [&[71, 4], &item[..]].concat());
    }
    let answer = Answer {
        message: if arrival.port == Port::Proxy { Message::Ack } else { Message::Offer },
        server: arrival.server,
        class: Some(part.class),
        file: part.file.clone(),
        vendor,
        lease: None,
        no_proxy: false,
        // Without an address in it nobody can send it to the client alone, a relay neither: dnsmasq as relay drops it silently.
        broadcast: arrival.port == Port::Dhcp,
    };
    let bytes = answer.write(packet).map_err(Silence::Unwritable)?;
    let what = part.file.clone().unwrap_or_else(|| arrival.base_url.to_owned());
    Ok(Decision::Reply { bytes, destination: destination(packet, arrival), kind, what, boots: part.file })
}

fn refusal(packet: &Packet, family: Family) -> Silence {
    match family {
        Family::Unserved(architecture) => Silence::Unserved(architecture),
        Family::RaspberryPi => Silence::RaspberryPi,
        _ => Silence::NotABootClient(packet.class().escape_default().take(64).collect()),
    }
}

/// What an answer says about booting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BootPart {
    pub(super) class: &'static str,
    pub(super) file: Option<String>,
    pub(super) vendor: Option<Vec<u8>>,
}

/// What this client is to start, in its firmware's dialect.
pub(super) fn boot_part(
    packet: &Packet,
    family: Family,
    arrival: &Arrival<'_>,
    policy: &dyn Policy,
    mac: Option<Mac>,
) -> Result<BootPart, Silence> {
    if packet.guid().is_err() {
        return Err(Silence::BadGuid);
    }
    let starts = match family {
        Family::Agent => {
            // The agent gets netboot's address whatever becomes of it: the reason for a refusal comes by HTTP.
            let url = contracts::discovery::encode(arrival.base_url).map_err(|e| Silence::Policy(e.to_string()))?;
            return Ok(BootPart { class: contracts::discovery::VENDOR_CLASS, file: None, vendor: Some(url) });
        }
        Family::BiosPxe => Starts::NetworkLoader,
        Family::BiosIpxe => Starts::Script,
        Family::UefiPxe(arch) | Family::UefiHttp(arch) => Starts::Uki(arch),
        Family::UefiIpxe(arch) => Starts::UkiByIpxe(arch),
        Family::Other | Family::Unserved(_) | Family::RaspberryPi => return Err(refusal(packet, family)),
    };
    let name = match policy.ruling(mac.ok_or(Silence::Unidentified)?, starts) {
        Ruling::Boot(name) => name,
        Ruling::Silent(reason) => return Err(Silence::Policy(reason)),
    };
    let url = || Some(format!("{}/boot/{name}", arrival.base_url));
    let take_it = Some(TAKE_THE_FILE.to_vec());
    Ok(match family {
        Family::UefiHttp(_) => BootPart { class: "HTTPClient", file: url(), vendor: None },
        // A bare name would mean the lease server's TFTP: iPXE keeps that one's address as its next server.
        Family::UefiIpxe(_) => BootPart { class: "PXEClient", file: url(), vendor: None },
        Family::BiosIpxe => BootPart { class: "PXEClient", file: url(), vendor: take_it },
        Family::BiosPxe => BootPart { class: "PXEClient", file: Some(name), vendor: take_it },
        _ => BootPart { class: "PXEClient", file: Some(name), vendor: None },
    })
}

/// `chaddr` where it holds a MAC address; the neighbour table where it holds a GUID; the GUID's latest sender last.
pub(super) fn identify(packet: &Packet, arrival: &Arrival<'_>, policy: &dyn Policy) -> Option<Mac> {
    let by_guid = || packet.guid().ok().flatten().and_then(|guid| policy.by_guid(&guid));
    packet.mac().or(arrival.neighbour).or_else(by_guid)
}

/// RFC 2131 section 4.1, as a proxy has it: to the relay on the server port; to the asker's own address and port
/// on 4011; else to everybody, since the client has no address yet.
fn destination(packet: &Packet, arrival: &Arrival<'_>) -> Destination {
    if !packet.giaddr.is_unspecified() {
        return Destination::relay(packet.giaddr);
    }
    match arrival.port {
        Port::Proxy if !arrival.source.ip().is_unspecified() => Destination::Ip(arrival.source),
        Port::Proxy if !packet.ciaddr.is_unspecified() => Destination::client(packet.ciaddr),
        _ => Destination::EVERYBODY,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
