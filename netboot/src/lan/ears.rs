//! Where DHCP is heard and answered from.
//!
//! A proxy has no need to hold port 67, and must not: a DHCP server on the same host that starts later would find its
//! port taken, and one that shares the port would lose the renewals that clients send to it alone. So the
//! proxy listens through a packet socket, and writes its answers, source port 67 and all, through a raw socket.
//! A UDP socket is the way where packet sockets cannot be had: without CAP_NET_RAW, or on an interface without Ethernet.

use super::packet_socket;
use crate::{
    proto::{dhcp::decide::Destination, frames, mac::Mac},
    sockets::{self, SocketError},
};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg, sendto};
use std::{
    io::{self, IoSlice},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::Range,
    os::fd::{AsFd as _, AsRawFd},
};
use tokio::{io::Interest, net::UdpSocket};

/// Where clients hear servers.
pub const CLIENT_PORT: u16 = 68;

/// Opened, outside any runtime.
#[derive(Debug)]
pub enum Opened {
    /// A socket that holds the port.
    Udp(std::net::UdpSocket, u16),
    /// A packet socket that hears, a raw socket that answers, and the port that both stand for.
    Packet(std::net::UdpSocket, std::net::UdpSocket, u16),
}

/// Opens what a proxy hears with: a packet socket, else a UDP socket. Also says which, and why.
///
/// # Errors
/// [`SocketError`] when neither can be had.
pub fn proxy(interface: &str, port: u16) -> Result<(Opened, String), SocketError> {
    let packet = || -> io::Result<Opened> {
        let ears = packet_socket::hear_udp(interface, &[port, CLIENT_PORT])?;
        Ok(Opened::Packet(ears.socket.into(), packet_socket::raw_ipv4(interface)?.into(), port))
    };
    let held = is_held(&std::fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default(), port);
    match packet() {
        Ok(opened) => {
            let whose = if held { "another program on this host holds" } else { "a DHCP server on this host may take" };
            Ok((opened, format!("through a packet socket, beside port {port}, which {whose}")))
        }
        Err(error) => {
            let opened = sockets::udp("DHCP", interface, Ipv4Addr::UNSPECIFIED, port, false)?;
            let why = format!("by holding port {port}, so that no DHCP server can start on this host: {error}");
            Ok((Opened::Udp(opened, port), why))
        }
    }
}

/// Opened for mode `dhcp`: the port itself, and what else a DHCP server needs.
#[derive(Debug)]
pub struct OpenedServer {
    clients: std::net::UdpSocket,
    frames: std::net::UdpSocket,
    arp: std::net::UdpSocket,
    mac: Mac,
    port: u16,
}

/// Opens what a DHCP server hears and answers with.
///
/// # Errors
/// [`SocketError`]: another program has the port, or there is no CAP_NET_RAW.
pub fn server(interface: &str, port: u16) -> Result<OpenedServer, SocketError> {
    let clients = sockets::udp("DHCP", interface, Ipv4Addr::UNSPECIFIED, port, false)?;
    // Room for what a whole store asks at once while this program does not get the processor. Less than that is no error.
    let _ = socket2::SockRef::from(&clients).set_recv_buffer_size(1 << 20);
    let raw = || -> io::Result<_> {
        Ok((packet_socket::hear_udp(interface, &[CLIENT_PORT])?, packet_socket::hear_arp(interface)?))
    };
    let (frames, arp) = raw().map_err(sockets::explain("DHCP clients without an address", port))?;
    let mac = frames.mac;
    Ok(OpenedServer { clients, frames: frames.socket.into(), arp: arp.socket.into(), mac, port })
}

/// What a DHCP server hears and answers with.
#[derive(Debug)]
pub struct Server {
    /// Port 67.
    pub clients: UdpSocket,
    /// Hears what other servers send to clients. What is sent to clients that have no address yet goes out here.
    pub frames: UdpSocket,
    /// Hears ARP.
    pub arp: UdpSocket,
    /// The interface's card.
    pub mac: Mac,
    /// The server port.
    pub port: u16,
}

impl Server {
    /// Takes the sockets into the runtime that this is called in.
    ///
    /// # Errors
    /// The runtime's.
    pub fn new(opened: OpenedServer) -> io::Result<Self> {
        let OpenedServer { clients, frames, arp, mac, port } = opened;
        let [clients, frames, arp] = [clients, frames, arp].map(UdpSocket::from_std);
        Ok(Self { clients: clients?, frames: frames?, arp: arp?, mac, port })
    }

    /// Something else that answers through the same sockets.
    ///
    /// # Errors
    /// The kernel's, when there are too many sockets.
    pub fn mouth(&self) -> io::Result<Mouth> {
        let clients = self.clients.as_fd().try_clone_to_owned()?.into();
        let frames = self.frames.as_fd().try_clone_to_owned()?.into();
        Ok(Mouth { clients, frames, mac: self.mac, port: self.port })
    }
}

/// Sends a DHCP server's answers, without a runtime and without waiting.
#[derive(Debug)]
pub struct Mouth {
    clients: std::net::UdpSocket,
    frames: std::net::UdpSocket,
    mac: Mac,
    port: u16,
}

impl Mouth {
    /// One that reaches this host.
    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        let [clients, frames] = [0, 0].map(|port| std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
        Self { clients, frames, mac: Mac([2, 0, 0, 0, 0, 1]), port: 67 }
    }

    /// Sends an answer from this address.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` when its queue is full.
    pub fn say(&self, bytes: &[u8], from: Ipv4Addr, to: Destination) -> io::Result<()> {
        match to {
            Destination::Ip(to) => give_from(&self.clients, bytes, from, to).map(drop),
            Destination::Link(card, to) => {
                let frame = frames::frame(self.mac, card, SocketAddrV4::new(from, self.port), to, bytes);
                let frame = frame.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
                self.frame(&frame)
            }
        }
    }

    /// Puts a frame on the wire.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` when its queue is full.
    pub fn frame(&self, frame: &[u8]) -> io::Result<()> {
        nix::sys::socket::send(self.frames.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

/// Whether any socket of this network namespace has a UDP port, from /proc/net/udp (proc(5)).
fn is_held(table: &str, port: u16) -> bool {
    let of = |line: &str| u16::from_str_radix(line.split_whitespace().nth(1)?.split_once(':')?.1, 16).ok();
    table.lines().any(|line| of(line) == Some(port))
}

/// Hears and answers one port.
#[derive(Debug)]
pub enum Ear {
    /// By holding it.
    Udp(UdpSocket, u16),
    /// Beside whoever holds it.
    Packet {
        /// Hears.
        ears: UdpSocket,
        /// Answers.
        mouth: UdpSocket,
        /// The port.
        port: u16,
    },
}

/// One datagram that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it.
    pub source: SocketAddrV4,
    /// The port that it was for.
    pub port: u16,
    /// The card that put it on this wire, where that is known.
    pub sender: Option<Mac>,
    /// Where in the buffer its content is.
    pub content: Range<usize>,
}

impl Ear {
    /// Takes the sockets into the runtime that this is called in.
    ///
    /// # Errors
    /// The runtime's.
    pub fn new(opened: Opened) -> io::Result<Self> {
        Ok(match opened {
            Opened::Udp(socket, port) => Self::Udp(UdpSocket::from_std(socket)?, port),
            Opened::Packet(ears, mouth, port) => {
                // Tokio's UDP socket drives any socket: `recv` and `sendmsg` are the same calls.
                Self::Packet { ears: UdpSocket::from_std(ears)?, mouth: UdpSocket::from_std(mouth)?, port }
            }
        })
    }

    /// The next datagram. What does not fit into the buffer is cut off.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn hear(&self, buffer: &mut [u8]) -> io::Result<Heard> {
        match self {
            Self::Udp(socket, port) => loop {
                if let (length, SocketAddr::V4(source)) = socket.recv_from(buffer).await? {
                    return Ok(Heard { source, port: *port, sender: None, content: 0..length });
                }
            },
            Self::Packet { ears, .. } => loop {
                let length = ears.recv(buffer).await?;
                let Some(datagram) = frames::read(&buffer[..length]) else { continue };
                let (source, port, size) = (datagram.source, datagram.destination.port(), datagram.payload.len());
                let begin = datagram.payload.as_ptr() as usize - buffer.as_ptr() as usize;
                let sender = Some(datagram.sender);
                return Ok(Heard { source, port, sender, content: begin..begin + size });
            },
        }
    }

    /// Sends from this address and the port that this ear stands for.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn say(&self, bytes: &[u8], from: Ipv4Addr, to: Destination) -> io::Result<()> {
        let to = match to {
            Destination::Ip(to) => to,
            // Without a way to address a card, everybody has to hear it.
            Destination::Link(_, to) => SocketAddrV4::new(Ipv4Addr::BROADCAST, to.port()),
        };
        match self {
            Self::Udp(socket, _) => send_from(socket, bytes, from, to).await,
            Self::Packet { mouth, port, .. } => {
                let packet = frames::packet(SocketAddrV4::new(from, *port), to, bytes);
                let packet = packet.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
                let to = SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0));
                let give = || Ok(sendto(mouth.as_raw_fd(), &packet, &to, MsgFlags::empty())?);
                mouth.async_io(Interest::WRITABLE, give).await.map(drop)
            }
        }
    }
}

/// Sends from the configured address, which need not be the interface's first.
async fn send_from(socket: &UdpSocket, bytes: &[u8], from: Ipv4Addr, to: SocketAddrV4) -> io::Result<()> {
    socket.async_io(Interest::WRITABLE, || give_from(socket, bytes, from, to)).await.map(drop)
}

fn give_from(socket: &impl AsRawFd, bytes: &[u8], from: Ipv4Addr, to: SocketAddrV4) -> io::Result<usize> {
    let info = nix::libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: nix::libc::in_addr { s_addr: u32::from(from).to_be() },
        ipi_addr: nix::libc::in_addr { s_addr: 0 },
    };
    let to = SockaddrIn::from(to);
    let (part, control) = ([IoSlice::new(bytes)], [ControlMessage::Ipv4PacketInfo(&info)]);
    sendmsg(socket.as_raw_fd(), &part, &control, MsgFlags::MSG_DONTWAIT, Some(&to)).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     210: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0\n";
        assert!(is_held(table, 67));
        assert!(!is_held(table, 68));
        assert!(!is_held("", 67));
    }
}
