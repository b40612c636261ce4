//! The socket of one transfer: reads the file ahead and sends blocks, a whole window with one call where the kernel can.

use super::eager::Eager;
use crate::{content::Content, proto::tftp::packet::data_header, shared::Shared, sockets};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt};
use rustix::net::{RecvFlags, SendFlags};
use std::{
    io::{self, IoSlice},
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How much of the file is read at once: some ten blocks of an Ethernet packet each.
const READ_AHEAD: usize = 16 << 10;
/// Blocks that one call sends; the largest window that is agreed to.
const MOST: usize = crate::proto::tftp::transfer::LARGEST_WINDOW as usize;

/// Cleared when the kernel, or the network card's driver, cannot cut one send into many packets (UDP_SEGMENT, Linux 4.18).
static CUTS: AtomicBool = AtomicBool::new(true);

/// How long a packet is waited for when none is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    None,
    /// [`MOMENT`], asleep.
    Moment,
    /// The same, and awake at first where that pays.
    Looking,
}

/// Other work of the thread waits no longer than this for a packet of the only transfer.
const MOMENT: Duration = Duration::from_millis(2);

/// A transfer's socket.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: UdpSocket,
    client: SocketAddrV4,
    address: SockaddrIn,
    file: Content,
    /// What was read ahead, and where in the file it begins.
    ahead: Vec<u8>,
    ahead_from: u64,
    eager: Eager,
}

impl Wire {
    /// A new port per transfer (RFC 1350, section 4): it tells two transfers of one client apart.
    pub(super) fn open(shared: &Shared, client: SocketAddrV4, file: Content) -> io::Result<Self> {
        let interface = shared.config.now().interface.clone();
        let socket = sockets::udp("TFTP transfer", &interface, shared.address, 0, false).map_err(io::Error::other)?;
        prepare(&socket)?;
        Ok(Self {
            socket,
            client,
            address: client.into(),
            file,
            ahead: Vec::new(),
            ahead_from: 0,
            eager: Eager::default(),
        })
    }

    /// Sends a packet to the client. What the kernel has no room for is lost, as on any network.
    pub(super) fn send(&self, packet: &[u8]) -> io::Result<()> {
        lost_is_sent(self.send_to(packet, self.client))
    }

    /// Sends a packet to anybody.
    pub(super) fn send_to(&self, packet: &[u8], to: SocketAddrV4) -> io::Result<()> {
        rustix::net::sendto(&self.socket, packet, SendFlags::DONTWAIT, &to)?;
        Ok(())
    }

    /// Receives a packet, and whose it is.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        patience: Patience,
    ) -> io::Result<(usize, Option<SocketAddrV4>)> {
        if patience == Patience::Looking && self.eager.looks() {
            let begin = Instant::now();
            loop {
                let received = self.receive_now(buffer, RecvFlags::DONTWAIT);
                let came = !matches!(&received, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
                if came || begin.elapsed() >= Eager::LONGEST {
                    self.eager.learn(came);
                    if came {
                        return received;
                    }
                    break;
                }
                std::hint::spin_loop();
            }
        }
        self.receive_now(buffer, if patience == Patience::None { RecvFlags::DONTWAIT } else { RecvFlags::empty() })
    }

    fn receive_now(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<(usize, Option<SocketAddrV4>)> {
        let (length, _, from) = rustix::net::recvfrom(&self.socket, buffer, flags)?;
        Ok((length, from.and_then(|from| SocketAddrV4::try_from(from).ok())))
    }

    /// Sends blocks that follow each other; `first` counts from 1.
    pub(super) fn send_blocks(&mut self, first: u64, count: u16, size: u16) -> io::Result<()> {
        let (mut first, mut left) = (first, usize::from(count));
        while left > 0 {
            let now = left.min(MOST);
            self.send_some(first, now, usize::from(size))?;
            first += now as u64;
            left -= now;
        }
        Ok(())
    }

    fn send_some(&mut self, first: u64, count: usize, size: usize) -> io::Result<()> {
        let from = (first - 1) * size as u64;
        let place = self.fill(from, count * size)?;
        let bytes = &self.ahead[place..];
        let headers: [[u8; 4]; MOST] = std::array::from_fn(|n| data_header(first + n as u64));
        let mut slices = [IoSlice::new(&[]); 2 * MOST];
        for (n, header) in headers.iter().enumerate().take(count) {
            let payload = &bytes[(n * size).min(bytes.len())..((n + 1) * size).min(bytes.len())];
            slices[2 * n] = IoSlice::new(header);
            slices[2 * n + 1] = IoSlice::new(payload);
        }
        let slices = &slices[..2 * count];
        if count > 1 && CUTS.load(Ordering::Relaxed) {
            let packet = u16::try_from(size + 4).map_err(io::Error::other)?;
            match self.send_slices(slices, &[ControlMessage::UdpGsoSegments(&packet)]) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    tracing::debug!("the kernel does not cut packets ({error}): they are sent one by one");
                    CUTS.store(false, Ordering::Relaxed);
                }
                sent => return lost_is_sent(sent),
            }
        }
        slices.chunks(2).try_for_each(|packet| lost_is_sent(self.send_slices(packet, &[])))
    }

    fn send_slices(&self, slices: &[IoSlice<'_>], control: &[ControlMessage<'_>]) -> io::Result<()> {
        sendmsg(self.socket.as_raw_fd(), slices, control, MsgFlags::MSG_DONTWAIT, Some(&self.address))?;
        Ok(())
    }

    /// Makes sure that the bytes from `from` on are in the buffer, `wanted` of them or up to the file's end. Gives their place.
    fn fill(&mut self, from: u64, wanted: usize) -> io::Result<usize> {
        let end = (from + wanted as u64).min(self.file.length());
        let ahead_end = self.ahead_from + self.ahead.len() as u64;
        if from < self.ahead_from || end > ahead_end {
            let length = (self.file.length() - from.min(self.file.length())).min(wanted.max(READ_AHEAD) as u64);
            self.ahead.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
            self.file.read_at(from, &mut self.ahead)?;
            self.ahead_from = from;
        }
        usize::try_from(from - self.ahead_from).map_err(io::Error::other)
    }

    /// Throws away what ICMP has said: as long as something of it is there, epoll wakes for it.
    pub(super) fn drop_errors(&self) {
        let queue = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        while recvmsg::<()>(self.socket.as_raw_fd(), &mut [], None, queue).is_ok() {}
    }

    /// Throws away what waits in the socket.
    pub(super) fn drop_waiting(&self) {
        self.drop_errors();
        while self.receive_now(&mut [0], RecvFlags::DONTWAIT).is_ok() {}
    }
}

fn prepare(socket: &UdpSocket) -> io::Result<()> {
    // Each call says itself whether it waits.
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(MOMENT))?;
    // Blocks fit the LAN's packets. Where a tunnel's are smaller the router may cut them: firmware asks for no less.
    let _ = rustix::net::sockopt::set_ip_mtu_discover(socket, rustix::net::sockopt::Ipv4PathMtuDiscovery::DONT);
    // Without this an unconnected socket does not hear that the client's port is closed (ip(7)).
    let _ = setsockopt(socket, sockopt::Ipv4RecvErr, &true);
    Ok(())
}

fn lost_is_sent(sent: io::Result<()>) -> io::Result<()> {
    match sent {
        // ENOBUFS: the interface's queue is full. The others are what ICMP or ARP have said, about an earlier packet: who
        // receives hears it, too.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
            ) || error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_may_be_cut_on_the_way() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        prepare(&socket).unwrap();
        let dont = rustix::net::sockopt::Ipv4PathMtuDiscovery::DONT;
        assert_eq!(rustix::net::sockopt::ip_mtu_discover(&socket).unwrap(), dont);
    }

    #[test]
    fn a_full_queue_is_loss_and_a_broken_disk_is_not() {
        assert!(lost_is_sent(Err(io::ErrorKind::WouldBlock.into())).is_ok());
        assert!(lost_is_sent(Err(nix::errno::Errno::ENOBUFS.into())).is_ok());
        assert!(lost_is_sent(Err(nix::errno::Errno::EIO.into())).is_err());
    }
}
