//! Facts about the network interface, from the kernel.

use crate::proto::{mac::Mac, neighbours};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The kernel does not list interfaces.
    #[error("cannot list the network interfaces")]
    List(#[source] std::io::Error),
    /// There is none of this name.
    #[error("there is no network interface `{name}`; there are: {others}")]
    Missing {
        /// The name.
        name: String,
        /// The others.
        others: String,
    },
    /// It has no IPv4 address.
    #[error("the interface `{0}` has no IPv4 address")]
    NoAddress(String),
    /// It has not this address.
    #[error("the interface `{name}` does not have the address {address}; it has: {others}")]
    OtherAddress {
        /// The name.
        name: String,
        /// The address.
        address: Ipv4Addr,
        /// Its addresses.
        others: String,
    },
}

/// The address on an interface: the wanted one, if it is there, else the first.
///
/// # Errors
/// [`InterfaceError`], naming what is there instead.
pub fn address(name: &str, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, InterfaceError> {
    let all: Vec<_> = nix::ifaddrs::getifaddrs().map_err(|e| InterfaceError::List(e.into()))?.collect();
    if !all.iter().any(|entry| entry.interface_name == name) {
        let mut others: Vec<_> = all.iter().map(|entry| entry.interface_name.clone()).collect();
        others.sort();
        others.dedup();
        return Err(InterfaceError::Missing { name: name.to_owned(), others: others.join(", ") });
    }
    let here = all.iter().filter(|entry| entry.interface_name == name);
    let addresses: Vec<Ipv4Addr> = here.filter_map(|e| Some(e.address?.as_sockaddr_in()?.ip())).collect();
    match (addresses.first(), wanted) {
        (None, _) => Err(InterfaceError::NoAddress(name.to_owned())),
        (Some(first), None) => Ok(*first),
        (Some(_), Some(wanted)) if addresses.contains(&wanted) => Ok(wanted),
        (Some(_), Some(address)) => {
            let others = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(InterfaceError::OtherAddress { name: name.to_owned(), address, others })
        }
    }
}

/// Whether there is an interface of this name, with or without an address.
///
/// # Errors
/// [`InterfaceError::List`].
pub fn exists(name: &str) -> Result<bool, InterfaceError> {
    let mut all = nix::ifaddrs::getifaddrs().map_err(|e| InterfaceError::List(e.into()))?;
    Ok(all.any(|entry| entry.interface_name == name))
}

/// Length of the prefix of an address on an interface.
#[must_use]
pub fn prefix(name: &str, address: Ipv4Addr) -> Option<u8> {
    let mut here = nix::ifaddrs::getifaddrs().ok()?.filter(|entry| entry.interface_name == name);
    let entry =
        here.find(|entry| entry.address.is_some_and(|a| a.as_sockaddr_in().is_some_and(|a| a.ip() == address)))?;
    u8::try_from(u32::from(entry.netmask?.as_sockaddr_in()?.ip()).leading_ones()).ok()
}

/// The interface's MTU, or Ethernet's where the kernel does not tell.
#[must_use]
pub fn mtu(name: &str) -> u16 {
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")).unwrap_or_default();
    // The loopback's 65536 does not fit; IP packets are smaller than that anyway.
    text.trim().parse::<u32>().map_or(1500, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX)).max(576)
}

/// The neighbour table of this process's network namespace.
#[derive(Debug, Clone)]
pub struct Neighbours {
    /// Where the kernel shows it.
    pub table: PathBuf,
    /// The interface on the store LAN.
    pub interface: String,
}

impl Neighbours {
    /// The table of one interface. `thread-self`, since a namespace belongs to a thread.
    #[must_use]
    pub fn of(interface: &str) -> Self {
        Self { table: "/proc/thread-self/net/arp".into(), interface: interface.to_owned() }
    }

    /// The MAC address behind an address on the store LAN.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<Mac> {
        let IpAddr::V4(address) = address else { return None };
        // A file of the kernel, ready at once: reading it blocks nobody.
        let table = std::fs::read_to_string(&self.table).ok()?;
        neighbours::find(&table, address, Some(&self.interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_and_mistakes_are_named() {
        assert_eq!(address("lo", None).unwrap(), Ipv4Addr::LOCALHOST);
        assert!(mtu("lo") > 1500);
        assert_eq!(prefix("lo", Ipv4Addr::LOCALHOST), Some(8));
        assert_eq!(prefix("lo", Ipv4Addr::new(192, 0, 2, 1)), None);
        assert!(address("nosuch0", None).unwrap_err().to_string().contains("lo"));
        let wanted = Some(Ipv4Addr::new(192, 0, 2, 1));
        assert!(address("lo", wanted).unwrap_err().to_string().contains("127.0.0.1"));
    }
}
