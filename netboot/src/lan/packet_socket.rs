//! Packet sockets (packet(7)): they hear what comes in beside whatever program holds the port, in whichever order the
//! two were started, and take nothing from it.

use crate::proto::mac::Mac;
use nix::{
    errno::Errno,
    sys::socket::{LinkAddr, MsgFlags, bind, recv},
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::{io, os::fd::AsRawFd};

/// EtherTypes, as packet(7) wants them: in network byte order.
const IPV4: u16 = 0x0800_u16.to_be();
const ARP: u16 = 0x0806_u16.to_be();
/// Hardware types with a 14-byte Ethernet header in front: Ethernet, and the loopback (`if_arp.h`).
const WITH_ETHERNET_HEADER: [u16; 2] = [1, 772];

/// Classic BPF, as far as it is needed here (`linux/bpf_common.h`).
mod op {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_HALF: u16 = 0x28;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const LOAD_HALF_INDEXED: u16 = 0x48;
    pub(super) const LOAD_HEADER_LENGTH: u16 = 0xb1;
    pub(super) const JUMP_EQUAL: u16 = 0x15;
    pub(super) const JUMP_ANY_BIT: u16 = 0x45;
    pub(super) const RETURN: u16 = 0x06;
    /// `SKF_AD_OFF + SKF_AD_PKTTYPE`: what the kernel knows of the frame's receiver.
    pub(super) const PACKET_TYPE: u32 = 0xffff_f000 + 4;
    /// `PACKET_OTHERHOST`: also frames of a VLAN that has no interface of its own.
    pub(super) const FOR_ANOTHER_HOST: u32 = 3;
}

/// Lets whole UDP datagrams over IPv4 to one of the ports through, and nothing else.
fn udp_to(ports: &[u16]) -> Vec<SockFilter> {
    let count = u8::try_from(ports.len()).unwrap_or(u8::MAX);
    // Jumps count instructions from the next one; the refusal is the last but one.
    let refuse = |left: u8| left + count;
    let mut program = vec![
        SockFilter::new(op::LOAD_WORD, 0, 0, op::PACKET_TYPE),
        SockFilter::new(op::JUMP_EQUAL, refuse(8), 0, op::FOR_ANOTHER_HOST),
        SockFilter::new(op::LOAD_HALF, 0, 0, 12),
        SockFilter::new(op::JUMP_EQUAL, 0, refuse(6), 0x0800),
        SockFilter::new(op::LOAD_BYTE, 0, 0, 23),
        SockFilter::new(op::JUMP_EQUAL, 0, refuse(4), 17),
        SockFilter::new(op::LOAD_HALF, 0, 0, 20),
        // More fragments, or an offset.
        SockFilter::new(op::JUMP_ANY_BIT, refuse(2), 0, 0x3fff),
        SockFilter::new(op::LOAD_HEADER_LENGTH, 0, 0, 14),
        SockFilter::new(op::LOAD_HALF_INDEXED, 0, 0, 16),
    ];
    for (left, port) in (1..=count).rev().zip(ports) {
        program.push(SockFilter::new(op::JUMP_EQUAL, left, 0, u32::from(*port)));
    }
    program.push(SockFilter::new(op::RETURN, 0, 0, 0));
    program.push(SockFilter::new(op::RETURN, 0, 0, u32::MAX));
    program
}

/// An open packet socket, not blocking, and the address of the card it listens on.
#[derive(Debug)]
pub struct PacketSocket {
    /// The socket.
    pub socket: Socket,
    /// The card's address.
    pub mac: Mac,
}

/// Hears UDP to these ports on one interface, whoever else listens. Needs CAP_NET_RAW to open.
///
/// # Errors
/// The kernel's; `Unsupported` for an interface without Ethernet frames.
pub fn hear_udp(interface: &str, ports: &[u16]) -> io::Result<PacketSocket> {
    open(interface, IPV4, &udp_to(ports))
}

/// Hears ARP on one interface. Needs CAP_NET_RAW to open.
///
/// # Errors
/// As [`hear_udp`].
pub fn hear_arp(interface: &str) -> io::Result<PacketSocket> {
    open(interface, ARP, &[SockFilter::new(op::RETURN, 0, 0, u32::MAX)])
}

fn open(interface: &str, protocol: u16, filter: &[SockFilter]) -> io::Result<PacketSocket> {
    let link = link(interface)?;
    if !WITH_ETHERNET_HEADER.contains(&link.hatype()) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{interface} has no Ethernet frames")));
    }
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
    socket.attach_filter(filter)?;
    bind(socket.as_raw_fd(), &link)?;
    socket.set_nonblocking(true)?;
    // More than the usual 200 KB, where the kernel allows it: 300 machines may start in the same second.
    let _ = socket.set_recv_buffer_size(1 << 20);
    // What came in before the filter and the interface were set is none of ours.
    let mut buffer = [0; 64];
    while recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) != Err(Errno::EAGAIN) {}
    Ok(PacketSocket { socket, mac: Mac(link.addr().unwrap_or_default()) })
}

/// The kernel's own description of the interface, good for `bind`: it carries the interface's number, and protocol 0,
/// which leaves the socket's protocol as it is.
fn link(interface: &str) -> io::Result<LinkAddr> {
    let mut entries = nix::ifaddrs::getifaddrs()?.filter(|entry| entry.interface_name == interface);
    let found = entries.find_map(|entry| entry.address?.as_link_addr().copied());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {interface}")))
}

/// Sends IPv4 packets that are already made, out of one interface: the kernel routes them and asks ARP. Needs
/// CAP_NET_RAW to open (raw(7)).
///
/// # Errors
/// The kernel's.
pub fn raw_ipv4(interface: &str) -> io::Result<Socket> {
    const IPPROTO_RAW: i32 = 255;
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
