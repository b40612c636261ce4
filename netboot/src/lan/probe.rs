//! Asks the LAN who serves it, as a test client. Blocking: it is for the command line and for the moment before the
//! service starts.

use super::packet_socket;
use crate::proto::{
    dhcp::{
        ask::{Guise, discover},
        packet::Packet,
        survey::{self, Spoken},
    },
    frames,
    mac::Mac,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv},
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// A question that got lost is asked again after this.
const AGAIN: Duration = Duration::from_millis(1500);

/// An answer to a question of ours, or to somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it says.
    pub spoken: Spoken,
    /// The guise that it answers; `None` when somebody else had asked.
    pub guise: Option<Guise>,
    /// The base URL, where it is netboot's answer to the agent.
    pub netboot: Option<String>,
    /// The card that it came from.
    pub card: Mac,
}

/// Listens on an interface for this long, asking in these guises meanwhile; none of them makes it a passive survey. `heard` gets
/// every answer of a server, and says whether to go on; `chosen` gets the servers that clients name.
///
/// # Errors
/// The kernel's: without CAP_NET_RAW there is no packet socket.
pub fn listen(
    interface: &str,
    guises: &[Guise],
    limit: Duration,
    mut heard: impl FnMut(Answer) -> bool,
    mut chosen: impl FnMut(Ipv4Addr),
) -> io::Result<()> {
    let socket = packet_socket::hear_udp(interface, &[SERVER_PORT, CLIENT_PORT])?;
    let first: u32 = rand::random();
    let xid = |index: usize| first.wrapping_add(u32::try_from(index).unwrap_or(0));
    let (end, mut ask_at) = (Instant::now() + limit, Instant::now());
    let mut buffer = vec![0; 2048];
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        if now >= ask_at && !guises.is_empty() {
            for (index, guise) in guises.iter().enumerate() {
                let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
                let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
                let question = discover(*guise, socket.mac, xid(index));
                let frame = frames::frame(socket.mac, Mac([0xff; 6]), from, to, &question);
                socket.socket.send(&frame.unwrap_or_default())?;
            }
            ask_at = now + AGAIN;
        }
        let wait = if guises.is_empty() { end } else { end.min(ask_at) }.saturating_duration_since(now);
        let mut ready = [PollFd::new(socket.socket.as_fd(), PollFlags::POLLIN)];
        let wait = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut ready, wait) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let length = match recv(socket.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(datagram) = frames::read(&buffer[..length]) else { continue };
        let Ok(packet) = Packet::read(datagram.payload) else { continue };
        if let Some(spoken) = survey::read(&packet, *datagram.source.ip()) {
            let ours = packet.mac() == Some(socket.mac);
            let guise = guises.iter().enumerate().find(|(index, _)| ours && packet.xid == xid(*index));
            let answer = Answer {
                spoken,
                guise: guise.map(|(_, guise)| *guise),
                netboot: packet.netboot_url(),
                card: datagram.sender,
            };
            if !heard(answer) {
                return Ok(());
            }
        } else if let Some(server) = survey::chosen_server(&packet) {
            chosen(server);
        }
    }
}

/// The DHCP servers that answer an ordinary device on this interface, except `own`: as soon as one is known, or none
/// after `limit`.
///
/// # Errors
/// The kernel's.
pub fn other_dhcp_server(interface: &str, own: Ipv4Addr, limit: Duration) -> io::Result<Option<Answer>> {
    let mut found = None;
    listen(
        interface,
        &[Guise::Device],
        limit,
        |answer| {
            if answer.spoken.lends.is_some() && answer.spoken.server != own {
                found = Some(answer);
            }
            found.is_none()
        },
        |_| {},
    )?;
    Ok(found)
}
