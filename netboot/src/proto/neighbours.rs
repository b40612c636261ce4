//! Reader of the kernel's IPv4 neighbour table, `/proc/net/arp`: which MAC address stands behind a LAN address.

use crate::proto::mac::Mac;
use std::net::Ipv4Addr;

/// ATF_COM in `<linux/if_arp.h>`: the kernel knows the hardware address.
const COMPLETE: u32 = 0x2;

/// Finds the MAC address of one neighbour. `interface`, where given, must match the table's last column, so that
/// a neighbour on another of the router's networks cannot pass for one on the store LAN.
#[must_use]
pub fn find(table: &str, address: Ipv4Addr, interface: Option<&str>) -> Option<Mac> {
    table.lines().skip(1).find_map(|line| {
        // IP address, HW type, Flags, HW address, Mask, Device
        let mut fields = line.split_ascii_whitespace();
        let ip: Ipv4Addr = fields.next()?.parse().ok()?;
        let _hardware_type = fields.next()?;
        let flags = u32::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
        let mac: Mac = fields.next()?.parse().ok()?;
        let _mask = fields.next()?;
        let device = fields.next()?;
        let here = interface.is_none_or(|name| name == device);
        (ip == address && here && flags & COMPLETE != 0 && !mac.is_placeholder()).then_some(mac)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.20       0x1         0x2         52:54:00:aa:bb:01     *        br0
10.77.0.21       0x1         0x0         00:00:00:00:00:00     *        br0
10.77.0.22       0x1         0x2         52:54:00:aa:bb:02     *        wan0
";

    #[test]
    fn complete_entries_of_the_interface_are_found() {
        let at = |last, interface| find(TABLE, Ipv4Addr::new(10, 77, 0, last), interface).map(|m| m.to_string());
        assert_eq!(at(20, Some("br0")).as_deref(), Some("52:54:00:aa:bb:01"));
        assert_eq!(at(21, Some("br0")), None, "not resolved yet");
        assert_eq!(at(22, Some("br0")), None, "another network");
        assert_eq!(at(22, None).as_deref(), Some("52:54:00:aa:bb:02"));
        assert_eq!(at(23, None), None);
    }

    proptest! {
        #[test]
        fn any_table_is_survived(table in ".{0,200}(\n.{0,80}){0,5}") {
            let _ = find(&table, Ipv4Addr::LOCALHOST, None);
        }
    }
}
