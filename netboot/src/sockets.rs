//! Opens sockets, with errors that say which port and whom to look for.
//!
//! [`udp`] and [`tcp`] make them without a runtime: the service opens all of them while it may, drops its rights, and
//! starts its threads only then, because rights belong to threads.

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
};

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody else has the port.
    #[error("port {port} ({what}) is taken by another program; `ss -lnp 'sport = :{port}'` names it")]
    Busy {
        /// The port.
        port: u16,
        /// What for.
        what: &'static str,
    },
    /// The right is missing.
    #[error("no permission to open port {port} ({what}): run as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW")]
    Forbidden {
        /// The port.
        port: u16,
        /// What for.
        what: &'static str,
    },
    /// Something else.
    #[error("cannot open port {port} ({what})")]
    Other {
        /// The port.
        port: u16,
        /// What for.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

pub(crate) fn explain(what: &'static str, port: u16) -> impl Fn(io::Error) -> SocketError {
    move |source| match source.kind() {
        io::ErrorKind::AddrInUse => SocketError::Busy { port, what },
        io::ErrorKind::PermissionDenied => SocketError::Forbidden { port, what },
        _ => SocketError::Other { port, what, source },
    }
}

/// A UDP socket, not blocking, that hears only one interface. `shared` lets another server on this host have the port too; both
/// hear broadcasts then.
///
/// # Errors
/// [`SocketError`].
pub fn udp(
    what: &'static str,
    interface: &str,
    address: Ipv4Addr,
    port: u16,
    shared: bool,
) -> Result<UdpSocket, SocketError> {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_broadcast(true)?;
        socket.set_reuse_address(shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddrV4::new(address, port).into())?;
        Ok(socket.into())
    };
    open().map_err(explain(what, port))
}

/// A listening TCP socket, not blocking.
///
/// # Errors
/// [`SocketError`].
pub fn tcp(what: &'static str, address: Ipv4Addr, port: u16) -> Result<TcpListener, SocketError> {
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddrV4::new(address, port).into())?;
        // Machines that are switched on together connect together.
        socket.listen(1024)?;
        Ok(socket.into())
    };
    open().map_err(explain(what, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named() {
        let first = tcp("HTTP", Ipv4Addr::LOCALHOST, 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let error = tcp("HTTP", Ipv4Addr::LOCALHOST, port).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("HTTP"), "{error}");
    }
}
