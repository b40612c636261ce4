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

use super::{
    packet::{MessageType, Packet, code},
    reply::{Answer, WriteError},
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
    /// A UKI.
    Uki,
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

/// What kind of client sent a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Shelfboot's own agent.
    Agent,
    /// x86-64 UEFI firmware that loads by TFTP.
    UefiPxe,
    /// UEFI firmware that loads by HTTP.
    UefiHttp,
    /// The PXE ROM of a BIOS machine.
    BiosPxe,
    /// iPXE on a BIOS machine, in a ROM or loaded by one.
    BiosIpxe,
    /// Boot firmware of a kind that is not served.
    Unserved(u16),
    /// No boot client: a till, a printer, a phone.
    Other,
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
        })
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
        destination: SocketAddrV4,
        /// What it is.
        kind: Kind,
        /// What it offers, for the log.
        what: String,
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
    /// It would be dropped anyway.
    #[error(transparent)]
    Unwritable(WriteError),
}

fn unserved(architecture: u16) -> String {
    match architecture {
        0x14 => "it is BIOS firmware that boots over HTTP, which is not served: switch it to PXE".into(),
        0x06 => "it is 32-bit UEFI firmware, and there is only a 64-bit boot image".into(),
        0x0a | 0x12 => "it is a 32-bit ARM machine, which is not served".into(),
        0x0b | 0x13 => "it is a 64-bit ARM machine, which is not served yet".into(),
        other => format!("there is no boot image for its architecture ({other:#04x})"),
    }
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
    let family = family(packet);
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
    match family {
        Family::Other => return Err(Silence::NotABootClient(packet.class().escape_default().take(64).collect())),
        Family::Unserved(architecture) => return Err(Silence::Unserved(architecture)),
        Family::Agent | Family::UefiPxe | Family::UefiHttp | Family::BiosPxe | Family::BiosIpxe => {}
    }
    let kind = match (arrival.port, message, family) {
        (Port::Dhcp, MessageType::Discover, Family::UefiPxe | Family::BiosPxe) => Kind::PxeOffer,
        (Port::Dhcp, MessageType::Discover, Family::BiosIpxe) => Kind::ScriptOffer,
        (Port::Dhcp, MessageType::Discover, Family::UefiHttp) => Kind::HttpOffer,
        (Port::Dhcp, MessageType::Discover, Family::Agent) => Kind::AgentOffer,
        (
            Port::Proxy,
            MessageType::Request | MessageType::Inform,
            Family::UefiPxe | Family::BiosPxe | Family::BiosIpxe,
        ) => Kind::PxeAck,
        (Port::Proxy, MessageType::Inform, Family::Agent) => Kind::AgentAck,
        _ => return Err(Silence::NotForUs(message)),
    };
    if packet.guid().is_err() {
        return Err(Silence::BadGuid);
    }
    let mut answer = compose(kind, family, arrival, policy, mac)?;
    answer.broadcast &= packet.giaddr.is_unspecified();
    let bytes = answer.write(packet).map_err(Silence::Unwritable)?;
    let what = answer.file.unwrap_or_else(|| arrival.base_url.to_owned());
    Ok(Decision::Reply { bytes, destination: destination(packet, arrival), kind, what })
}

fn compose(
    kind: Kind,
    family: Family,
    arrival: &Arrival<'_>,
    policy: &dyn Policy,
    mac: Option<Mac>,
) -> Result<Answer, Silence> {
    let blank = Answer {
        ack: matches!(kind, Kind::PxeAck | Kind::AgentAck),
        server: arrival.server,
        class: "PXEClient",
        file: None,
        vendor: None,
        broadcast: arrival.port == Port::Dhcp,
    };
    if matches!(kind, Kind::AgentOffer | Kind::AgentAck) {
        // The agent gets netboot's address whatever becomes of it: the reason for a refusal comes by HTTP.
        let url = contracts::discovery::encode(arrival.base_url).map_err(|e| Silence::Policy(e.to_string()))?;
        return Ok(Answer { class: contracts::discovery::VENDOR_CLASS, vendor: Some(url), ..blank });
    }
    let starts = match family {
        Family::BiosPxe => Starts::NetworkLoader,
        Family::BiosIpxe => Starts::Script,
        _ => Starts::Uki,
    };
    let name = match policy.ruling(mac.ok_or(Silence::Unidentified)?, starts) {
        Ruling::Boot(name) => name,
        Ruling::Silent(reason) => return Err(Silence::Policy(reason)),
    };
    let url = || Some(format!("{}/boot/{name}", arrival.base_url));
    Ok(match family {
        Family::UefiHttp => Answer { class: "HTTPClient", file: url(), ..blank },
        Family::BiosIpxe => Answer { file: url(), vendor: Some(TAKE_THE_FILE.to_vec()), ..blank },
        Family::BiosPxe => Answer { file: Some(name), vendor: Some(TAKE_THE_FILE.to_vec()), ..blank },
        _ => Answer { file: Some(name), ..blank },
    })
}

/// The class tells the family, the architecture whether there is a boot file for it. Code 9 (EBC) is sent by
/// x86-64 firmware too, because RFC 4578 had 7 and 9 the other way round.
fn family(packet: &Packet) -> Family {
    let class = packet.class();
    if class == contracts::discovery::VENDOR_CLASS {
        return Family::Agent;
    }
    let (http, pxe) = (class.starts_with("HTTPClient"), class.starts_with("PXEClient"));
    if !http && !pxe {
        return Family::Other;
    }
    let listed = packet.architectures();
    let served = |a: &u16| if http { matches!(a, 0x0f | 0x10) } else { matches!(a, 7 | 9) };
    // PXE's own default is BIOS (RFC 4578, section 2.1: firmware without option 93 is older than UEFI).
    let bios = pxe && listed.first().is_none_or(|a| *a == 0);
    match (listed.iter().any(served), http) {
        (true, true) => Family::UefiHttp,
        (true, false) => Family::UefiPxe,
        (false, _) if bios && is_ipxe(packet) => Family::BiosIpxe,
        (false, _) if bios => Family::BiosPxe,
        (false, _) => Family::Unserved(listed.first().copied().unwrap_or(0)),
    }
}

/// iPXE sends its features in option 175. Builds without it still send the user class, as bare text where RFC 3004
/// wants a length before it.
fn is_ipxe(packet: &Packet) -> bool {
    let class = packet.option(code::USER_CLASS).unwrap_or_default();
    packet.option(code::IPXE).is_some() || matches!(class, b"iPXE" | b"\x04iPXE")
}

/// `chaddr` where it holds a MAC address; the neighbour table where it holds a GUID; the GUID's latest sender last.
fn identify(packet: &Packet, arrival: &Arrival<'_>, policy: &dyn Policy) -> Option<Mac> {
    let by_guid = || packet.guid().ok().flatten().and_then(|guid| policy.by_guid(&guid));
    packet.mac().or(arrival.neighbour).or_else(by_guid)
}

/// RFC 2131 section 4.1, as a proxy has it: to the relay on the server port; to the asker's own address and port
/// on 4011; else to everybody, since the client has no address yet.
fn destination(packet: &Packet, arrival: &Arrival<'_>) -> SocketAddrV4 {
    if !packet.giaddr.is_unspecified() {
        return SocketAddrV4::new(packet.giaddr, SERVER_PORT);
    }
    match arrival.port {
        Port::Proxy if !arrival.source.ip().is_unspecified() => arrival.source,
        Port::Proxy if !packet.ciaddr.is_unspecified() => SocketAddrV4::new(packet.ciaddr, CLIENT_PORT),
        _ => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
