//! Writes what the DHCP server grants: the address, and in the same packet what the client is to start, if it is
//! firmware of a machine that is to start something now.
//!
//! Here the class `PXEClient` is left out: an offer with an address and that class, but without option 43, sends EDK2 on to port
//! 4011 (as the offer of a BINL server), one without the class makes it take the file at once, and BIOS ROMs and
//! iPXE do that anyway. HTTP Boot wants its class.

use super::{
    server::{Grant, Question, Quiet, Server, Step, Verdict},
    table::{Client, Record},
};
use crate::proto::dhcp::{
    decide::{Arrival, Decision, Destination, Family, Kind, Outcome, Policy, Silence, boot_part, identify},
    family::is_ipxe,
    packet::{MessageType, Packet},
    reply::{Answer, Lent, Message},
};
use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// What comes of a packet in mode `dhcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Who sent it, and the decision. Nothing while a probe is under way.
    pub outcome: Option<Outcome>,
    /// What must be on the disk before the answer leaves.
    pub record: Option<Record>,
    /// The address to probe.
    pub probe: Option<Ipv4Addr>,
}

/// Serves one packet that came to port 67.
pub fn serve(server: &mut Server, now: Instant, packet: &Packet, arrival: &Arrival<'_>, policy: &dyn Policy) -> Served {
    let message = match packet.message_type() {
        _ if packet.op != 1 => Err(Silence::NotARequest),
        None => Err(Silence::NoMessageType),
        Some(message) => Ok(message),
    };
    match message {
        Ok(message) => {
            let step = server.handle(now, packet, arrival.source, message);
            finish(server, packet, step, arrival, policy)
        }
        Err(silence) => silent(packet, arrival, policy, silence),
    }
}

/// Goes on after a probe: the address is held by this card, or by nobody who answered.
pub fn probed<'a>(
    server: &mut Server,
    now: Instant,
    address: Ipv4Addr,
    holder: Option<crate::proto::mac::Mac>,
    arrival: impl FnOnce(&Question) -> Arrival<'a>,
    policy: &dyn Policy,
) -> Option<(Packet, Served)> {
    let (question, step) = server.probed(now, address, holder)?;
    let arrival = arrival(&question);
    let served = finish(server, &question.packet, step, &arrival, policy);
    Some((question.packet, served))
}

fn silent(packet: &Packet, arrival: &Arrival<'_>, policy: &dyn Policy, silence: Silence) -> Served {
    let (mac, family) = (identify(packet, arrival, policy), Family::of(packet));
    let outcome = Outcome { mac, family, decision: Decision::Silence(silence) };
    Served { outcome: Some(outcome), record: None, probe: None }
}

fn finish(server: &Server, packet: &Packet, step: Step, arrival: &Arrival<'_>, policy: &dyn Policy) -> Served {
    match step {
        Step::Probe(address) => Served { outcome: None, record: None, probe: Some(address) },
        Step::Quiet(quiet) => silent(packet, arrival, policy, Silence::Lease(quiet)),
        Step::Keep(record, quiet) => {
            Served { record: Some(record), ..silent(packet, arrival, policy, Silence::Lease(quiet)) }
        }
        Step::Grant(grant) => write(server, packet, grant, arrival, policy),
    }
}

fn write(server: &Server, packet: &Packet, grant: Grant, arrival: &Arrival<'_>, policy: &dyn Policy) -> Served {
    let (mac, family) = (identify(packet, arrival, policy), Family::of(packet));
    let nak = grant.verdict == Verdict::Nak;
    // Everybody gets an address; only machines of ours get a boot file, and the log says why not.
    let boot =
        if nak { Err(Silence::NotForUs(MessageType::Nak)) } else { boot_part(packet, family, arrival, policy, mac) };
    let (file, why) = match &boot {
        Ok(part) => (part.file.clone(), None),
        Err(silence) => (None, Some(silence).filter(|_| !nak && family != Family::Other)),
    };
    let part = boot.as_ref().ok();
    let answer = Answer {
        message: match grant.verdict {
            Verdict::Offer => Message::Offer,
            Verdict::Ack | Verdict::Inform => Message::Ack,
            Verdict::Nak => Message::Nak,
        },
        server: arrival.server,
        class: part.map(|part| part.class).filter(|class| *class != "PXEClient"),
        vendor: part.filter(|part| part.class != "PXEClient").and_then(|part| part.vendor.clone()),
        lease: (!nak).then(|| lent(server, &grant)),
        no_proxy: !nak && is_ipxe(packet),
        // A relay sends a NAK to the client's old address unless it is told otherwise (RFC 2131, section 4.3.2).
        broadcast: nak,
        file: file.clone(),
    };
    let kind = match grant.verdict {
        Verdict::Offer => Kind::LeaseOffer,
        Verdict::Ack => Kind::LeaseAck,
        Verdict::Nak => Kind::LeaseNak,
        Verdict::Inform => Kind::InformAck,
    };
    let mut what = match grant.verdict {
        Verdict::Offer | Verdict::Ack => format!("{} for {} s", grant.address, grant.lease.as_secs()),
        Verdict::Nak => "it must ask anew".to_owned(),
        Verdict::Inform => "no address".to_owned(),
    };
    if let Some(file) = &file {
        what.push_str(&format!(", start {file}"));
    }
    if let Some(why) = why {
        what.push_str(&format!(", no boot file: {why}"));
    }
    let decision = match answer.write(packet) {
        Ok(bytes) => {
            let destination = destination(packet, &grant);
            Decision::Reply { bytes, destination, kind, what, boots: file }
        }
        Err(error) => Decision::Silence(Silence::Unwritable(error)),
    };
    Served { outcome: Some(Outcome { mac, family, decision }), record: grant.record, probe: None }
}

fn lent(server: &Server, grant: &Grant) -> Lent {
    let settings = server.settings();
    let (inform, mask) = (grant.verdict == Verdict::Inform, settings.mask());
    Lent {
        address: grant.address,
        seconds: (!inform).then(|| seconds(grant.lease)),
        mask,
        broadcast: Ipv4Addr::from(u32::from(settings.server) | !u32::from(mask)),
        router: settings.router,
        dns: settings.dns.clone(),
        ntp: settings.ntp.clone(),
        domain: settings.domain.clone(),
    }
}

fn seconds(lease: Duration) -> u32 {
    u32::try_from(lease.as_secs()).unwrap_or(u32::MAX)
}

/// RFC 2131, section 4.1: to the relay; to the client's own address; to everybody where it cannot hear otherwise, or
/// must not believe its address; else to its card under its address to be.
fn destination(packet: &Packet, grant: &Grant) -> Destination {
    let link = Client::of(packet).and_then(|client| client.mac());
    if !packet.giaddr.is_unspecified() {
        Destination::relay(packet.giaddr)
    } else if grant.verdict == Verdict::Nak {
        Destination::EVERYBODY
    } else if !packet.ciaddr.is_unspecified() {
        Destination::client(packet.ciaddr)
    } else {
        match link {
            Some(mac) if packet.flags & 0x8000 == 0 && !grant.address.is_unspecified() => {
                Destination::link(mac, grant.address)
            }
            _ => Destination::EVERYBODY,
        }
    }
}

/// True for a quiet reason that only says that a probe runs: it is no decision yet.
#[must_use]
pub fn is_probing(outcome: &Outcome) -> bool {
    matches!(outcome.decision, Decision::Silence(Silence::Lease(Quiet::Probing)))
}
