//! Finding netboot, and getting an address: one DHCPDISCOVER serves both. The store's DHCP server offers the
//! address; netboot's ProxyDHCP answer (no address, our vendor class) carries its base URL in option 43.
//!
//! Where netboot serves port 4011 alone, nobody answers the DISCOVER for it. Then it is asked there, at the addresses
//! where it is most likely: the DHCP server's and the router's.
//!
//! The broadcast flag is always set: this host cannot hear unicast before it has an address (RFC 2131, 4.1).

use anyhow::{Context, Result, bail};
use contracts::discovery::{self, VENDOR_CLASS};
use dhcproto::{
    Encodable, Encoder,
    v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode},
};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};
use tokio::{net::UdpSocket, time::Instant};

/// How long offers are collected after the first useful one.
const LINGER: Duration = Duration::from_millis(300);
/// Where boot servers listen (PXE 2.1, section 2.2.1).
const BOOT_SERVER_PORT: u16 = 4011;

/// An address, as the store's DHCP server lent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of the network prefix.
    pub prefix: u8,
    /// The default router.
    pub router: Option<Ipv4Addr>,
    server: Ipv4Addr,
}

/// What one DHCPDISCOVER brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// An offer of an address.
    pub offer: Option<Lease>,
    /// netboot's base URL.
    pub netboot: Option<String>,
}

impl Heard {
    /// Takes what one answer says. Answers that make no sense are passed over: anybody may broadcast.
    pub fn take(&mut self, bytes: &[u8], xid: u32, mac: [u8; 6]) {
        let Some(message) = reply(bytes, xid, mac) else { return };
        if message.kind() != Some(MessageType::Offer) {
            return;
        }
        // Where netboot is the DHCP server too, one offer says both.
        if let Some(url) = message.netboot_url() {
            self.netboot.get_or_insert(url);
        }
        if let Some(lease) = message.lease() {
            self.offer.get_or_insert(lease);
        }
    }
}

impl Lease {
    /// Where netboot may be when it did not answer the DISCOVER.
    #[must_use]
    pub fn likely_boot_servers(&self) -> Vec<Ipv4Addr> {
        let mut servers = vec![self.server];
        servers.extend(self.router.filter(|router| *router != self.server));
        servers
    }
}

/// Asks these addresses on the boot server port, all at once, for at most `limit`. This host needs an address on the interface.
///
/// # Errors
/// When the socket cannot be used. Silence is not an error.
pub async fn ask_boot_servers(
    interface: &str,
    mac: [u8; 6],
    servers: &[Ipv4Addr],
    limit: Duration,
) -> Result<Option<String>> {
    let socket = UdpSocket::from_std(bound(interface, 0).context("opening a socket for the boot server port")?)?;
    let xid = rand::random();
    let mut inform = message(xid, mac, MessageType::Inform);
    inform.opts_mut().insert(DhcpOption::ClassIdentifier(VENDOR_CLASS.into()));
    let bytes = encode(&inform)?;
    let mut asked = false;
    for server in servers {
        // One that is not there must not keep the others from being asked.
        asked |= socket.send_to(&bytes, SocketAddrV4::new(*server, BOOT_SERVER_PORT)).await.is_ok();
    }
    let end = Instant::now() + limit;
    let mut buffer = [0; 2048];
    while asked && let Ok(received) = tokio::time::timeout_at(end, socket.recv(&mut buffer)).await {
        // Nobody has the port: the kernel says so by an error, and others may still answer.
        let Ok(length) = received else { continue };
        let url = reply(&buffer[..length], xid, mac)
            .filter(|answer| answer.kind() == Some(MessageType::Ack))
            .and_then(|answer| answer.netboot_url());
        if url.is_some() {
            return Ok(url);
        }
    }
    Ok(None)
}

/// Asks the LAN behind `interface` once, for at most `limit`. With `want_address` an answer is complete when both
/// an address and netboot were heard, otherwise when netboot was.
///
/// # Errors
/// When the socket cannot be used. Silence is not an error.
pub async fn discover(interface: &str, mac: [u8; 6], want_address: bool, limit: Duration) -> Result<Heard> {
    let socket = socket(interface)?;
    let xid = rand::random();
    // Who has an address says which: behind a relay that is how netboot knows who asks. It is no wish for another one.
    let own = if want_address { None } else { address_of(interface) };
    send(&socket, &discover_message(xid, mac, own)).await?;
    let mut heard = Heard::default();
    let mut end = Instant::now() + limit;
    let mut buffer = [0; 2048];
    while let Ok(received) = tokio::time::timeout_at(end, socket.recv(&mut buffer)).await {
        let before = (heard.offer.is_some(), heard.netboot.is_some());
        heard.take(&buffer[..received.context("receiving DHCP answers")?], xid, mac);
        let now = (heard.offer.is_some(), heard.netboot.is_some());
        if now.1 && (now.0 || !want_address) {
            break;
        }
        // An address came but netboot did not speak yet: it answers at once when it does.
        if want_address && now.0 && !before.0 {
            end = end.min(Instant::now() + LINGER.max(limit / 4));
        }
    }
    Ok(heard)
}

/// Accepts an offer: DHCPREQUEST, DHCPACK.
///
/// # Errors
/// When the server refuses or does not answer within `limit`.
pub async fn accept(interface: &str, mac: [u8; 6], offer: &Lease, limit: Duration) -> Result<Lease> {
    let socket = socket(interface)?;
    let xid = rand::random();
    let mut request = message(xid, mac, MessageType::Request);
    request.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.address));
    request.opts_mut().insert(DhcpOption::ServerIdentifier(offer.server));
    send(&socket, &request).await?;
    let end = Instant::now() + limit;
    let mut buffer = [0; 2048];
    loop {
        let received = tokio::time::timeout_at(end, socket.recv(&mut buffer)).await;
        let length = received.context("the DHCP server did not confirm the address that it offered")??;
        let Some(answer) = reply(&buffer[..length], xid, mac) else { continue };
        match answer.kind() {
            Some(MessageType::Ack) => {
                if let Some(lease) = answer.lease() {
                    return Ok(lease);
                }
            }
            Some(MessageType::Nak) => bail!("the DHCP server took back the address {}", offer.address),
            _ => {}
        }
    }
}

fn socket(interface: &str) -> Result<UdpSocket> {
    let socket = bound(interface, 68).with_context(|| format!("opening the DHCP client's socket on {interface}"))?;
    Ok(UdpSocket::from_std(socket)?)
}

fn bound(interface: &str, port: u16) -> Result<std::net::UdpSocket> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    // The installed system's own DHCP client uses the same port.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(0, 0, 0, 0, port))?;
    Ok(socket.into())
}

async fn send(socket: &UdpSocket, message: &Message) -> Result<()> {
    let everyone = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    socket.send_to(&encode(message)?, everyone).await.context("sending a DHCP message")?;
    Ok(())
}

fn encode(message: &Message) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).context("encoding a DHCP message")?;
    // BOOTP relays and old servers drop shorter packets (RFC 1542, 2.1).
    bytes.resize(bytes.len().max(300), 0);
    Ok(bytes)
}

fn message(xid: u32, mac: [u8; 6], kind: MessageType) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, none, none, none, none, &mac);
    message.set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::MaxMessageSize(1472));
    options.insert(DhcpOption::ParameterRequestList(vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::VendorExtensions,
    ]));
    message
}

/// An interface's IPv4 address, if it has one.
fn address_of(interface: &str) -> Option<Ipv4Addr> {
    let mut all = nix::ifaddrs::getifaddrs().ok()?.filter(|entry| entry.interface_name == interface);
    all.find_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip()))
}

fn discover_message(xid: u32, mac: [u8; 6], own: Option<Ipv4Addr>) -> Message {
    let mut discover = message(xid, mac, MessageType::Discover);
    discover.opts_mut().insert(DhcpOption::ClassIdentifier(VENDOR_CLASS.into()));
    if let Some(own) = own {
        discover.opts_mut().insert(DhcpOption::RequestedIpAddress(own));
    }
    discover
}

/// A reply as far as we need it. dhcproto only encodes here: its decoder panics on options of odd lengths, and on a
/// LAN anybody may broadcast.
#[derive(Debug)]
struct Reply<'a> {
    yiaddr: Ipv4Addr,
    options: Vec<(OptionCode, &'a [u8])>,
}

/// Where options begin: after the fixed header and the magic cookie (RFC 2131, section 3).
const OPTIONS_AT: usize = 240;

/// A reply to our question, or nothing.
fn reply(bytes: &[u8], xid: u32, mac: [u8; 6]) -> Option<Reply<'_>> {
    let header = bytes.get(..OPTIONS_AT)?;
    let ours = header[0] == u8::from(Opcode::BootReply)
        && header[2] == 6
        && header[4..8] == xid.to_be_bytes()
        && header[28..34] == mac
        && header[236..240] == [99, 130, 83, 99];
    if !ours {
        return None;
    }
    let yiaddr = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    let mut options = Vec::new();
    let mut rest = &bytes[OPTIONS_AT..];
    while let Some((&code, after)) = rest.split_first() {
        match code {
            0 => rest = after,
            255 => break,
            code => {
                // An option that is cut off ends the list; what came before it counts.
                let Some((&length, after)) = after.split_first() else { break };
                let Some((value, after)) = after.split_at_checked(usize::from(length)) else { break };
                options.push((OptionCode::from(code), value));
                rest = after;
            }
        }
    }
    Some(Reply { yiaddr, options })
}

impl Reply<'_> {
    fn option(&self, code: OptionCode) -> Option<&[u8]> {
        self.options.iter().find(|(found, _)| *found == code).map(|(_, value)| *value)
    }

    /// The first address of an option that holds addresses.
    fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        let first: [u8; 4] = self.option(code)?.get(..4)?.try_into().ok()?;
        Some(first.into())
    }

    fn kind(&self) -> Option<MessageType> {
        self.option(OptionCode::MessageType)?.first().map(|kind| MessageType::from(*kind))
    }

    fn netboot_url(&self) -> Option<String> {
        if self.option(OptionCode::ClassIdentifier)? != VENDOR_CLASS.as_bytes() {
            return None;
        }
        discovery::decode(self.option(OptionCode::VendorExtensions)?).ok()
    }

    fn lease(&self) -> Option<Lease> {
        if self.yiaddr.is_unspecified() {
            return None;
        }
        let mask = self.address(OptionCode::SubnetMask).unwrap_or(Ipv4Addr::new(255, 255, 255, 0));
        let prefix = u8::try_from(u32::from(mask).leading_ones()).unwrap_or(24);
        let router = self.address(OptionCode::Router);
        Some(Lease { address: self.yiaddr, prefix, router, server: self.address(OptionCode::ServerIdentifier)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    fn offer(address: Ipv4Addr, xid: u32, extra: Vec<DhcpOption>) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(xid, none, address, none, none, &MAC);
        message.set_opcode(Opcode::BootReply);
        message.opts_mut().insert(DhcpOption::MessageType(MessageType::Offer));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 77, 0, 1)));
        for option in extra {
            message.opts_mut().insert(option);
        }
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).unwrap();
        bytes
    }

    #[test]
    fn address_and_netboot_are_told_apart() {
        let mut heard = Heard::default();
        let address = Ipv4Addr::new(10, 77, 0, 100);
        let lan = vec![
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::Router(vec![Ipv4Addr::new(10, 77, 0, 1)]),
        ];
        heard.take(&offer(address, 7, lan), 7, MAC);
        let proxy = vec![
            DhcpOption::ClassIdentifier(VENDOR_CLASS.into()),
            DhcpOption::VendorExtensions(discovery::encode("http://10.77.0.2").unwrap()),
        ];
        heard.take(&offer(Ipv4Addr::UNSPECIFIED, 7, proxy.clone()), 7, MAC);
        let lease = heard.offer.unwrap();
        assert_eq!((lease.address, lease.prefix, lease.router), (address, 24, Some(Ipv4Addr::new(10, 77, 0, 1))));
        assert_eq!(heard.netboot.as_deref(), Some("http://10.77.0.2"));

        let mut both = Heard::default();
        let answer = [proxy.clone(), vec![DhcpOption::Router(vec![Ipv4Addr::new(10, 77, 0, 1)])]].concat();
        both.take(&offer(address, 7, answer), 7, MAC);
        let lease = both.offer.unwrap();
        assert_eq!((lease.address, both.netboot.is_some()), (address, true), "netboot as the DHCP server");
        assert_eq!(lease.likely_boot_servers(), [Ipv4Addr::new(10, 77, 0, 1)]);

        let mut other = Heard::default();
        other.take(&offer(Ipv4Addr::UNSPECIFIED, 8, proxy), 7, MAC);
        assert_eq!(other, Heard::default(), "an answer to somebody else's question");
    }

    #[test]
    fn who_has_an_address_says_which() {
        let said = |own| encode(&discover_message(7, MAC, own)).unwrap();
        let option = |bytes: &[u8]| bytes.windows(6).any(|part| part == [50, 4, 10, 78, 0, 50]);
        assert!(option(&said(Some(Ipv4Addr::new(10, 78, 0, 50)))));
        assert!(!option(&said(None)));
        assert_eq!(address_of("lo"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(address_of("nosuch0"), None);
    }

    #[tokio::test]
    async fn a_boot_server_on_its_own_port_is_asked_and_a_missing_one_costs_nothing() {
        let server = UdpSocket::bind(("127.0.0.1", BOOT_SERVER_PORT)).await.unwrap();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            assert!(length >= 300 && buffer[..length].windows(3).any(|part| part == [53, 1, 8]));
            let options = vec![
                DhcpOption::ClassIdentifier(VENDOR_CLASS.into()),
                DhcpOption::VendorExtensions(discovery::encode("http://127.0.0.1").unwrap()),
            ];
            let xid = u32::from_be_bytes(buffer[4..8].try_into().unwrap());
            let mut bytes = offer(Ipv4Addr::UNSPECIFIED, xid, options);
            let kind = bytes.windows(3).position(|part| part == [53, 1, 2]).unwrap();
            bytes[kind + 2] = 5;
            server.send_to(&bytes, from).await.unwrap();
        });
        let servers = [Ipv4Addr::new(127, 0, 0, 9), Ipv4Addr::LOCALHOST];
        let found = ask_boot_servers("lo", MAC, &servers, Duration::from_secs(5)).await.unwrap();
        assert_eq!(found.as_deref(), Some("http://127.0.0.1"));
        answering.await.unwrap();
        let nobody = [Ipv4Addr::new(127, 0, 0, 9)];
        assert_eq!(ask_boot_servers("lo", MAC, &nobody, Duration::from_millis(50)).await.unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_packet_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), options in any::<bool>()) {
            // Half of them get past the header, into the options.
            if options && bytes.len() > 240 {
                let whole = offer(Ipv4Addr::LOCALHOST, 7, vec![]);
                bytes[..240].copy_from_slice(&whole[..240]);
            }
            Heard::default().take(&bytes, 7, MAC);
        }
    }
}
