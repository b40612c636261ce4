//! The wires of one store's LAN: a bridge in this process' namespace with taps for virtual machines, namespaces for everybody
//! else. With a relay there are two segments: machines in one, servers and netboot in the other.
//!
//! Every MAC address is fixed and IPv6 is off, so that two LANs that are laid alike sound alike.

use crate::{
    process,
    world::{
        addresses as at,
        network::{MASQUERADE, NETBOOT, REGION, ROUTER, feed},
        root::Root,
    },
};
use anyhow::{Context as _, Result};
use std::fmt::Write as _;

/// The router between the two segments.
pub const RELAY: &str = "relay";
/// The bridge of the segment with the machines.
pub const NEAR: &str = "near";
/// The bridge of the segment with the servers, where that is another one.
const FAR: &str = "far";

/// The store's router and DHCP server, there.
pub const FAR_ROUTER: &str = "10.78.0.1";
/// netboot, there.
pub const FAR_NETBOOT: &str = "10.78.0.2";
/// The relay's second address.
const FAR_RELAY: &str = "10.78.0.254";

/// MAC address of netboot's network card.
pub const NETBOOT_MAC: &str = "52:54:00:77:ff:02";

/// One segment or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cabling {
    /// Everybody hears everybody.
    OneSegment,
    /// A router stands between machines and servers.
    TwoSegments,
}

/// What is to be laid.
#[derive(Debug, Clone)]
pub struct Wires {
    /// One segment or two.
    pub cabling: Cabling,
    /// How many taps for virtual machines, see [`tap`].
    pub taps: usize,
    /// Namespaces of other devices on the machines' segment, with their MAC addresses.
    pub devices: Vec<(&'static str, &'static str)>,
}

/// One cable: the port's name at a bridge, and what is at its other end.
#[derive(Debug, Clone)]
struct Cable {
    port: String,
    bridge: &'static str,
    namespace: &'static str,
    interface: &'static str,
    mac: &'static str,
}

/// The name of a virtual machine's tap.
#[must_use]
pub fn tap(index: usize) -> String {
    format!("vm{index}")
}

/// The bridge's port at which a device is.
#[must_use]
pub fn port(device: &str) -> String {
    format!("{device}0")
}

/// Makes the first namespace: that makes the folder of namespaces one that mounts are shared through.
///
/// # Errors
/// When it cannot be made.
pub fn first_namespace(root: &Root) -> Result<()> {
    process::output(root.command("ip").args(["netns", "add", "first"])).context("making a network namespace")?;
    for scope in ["all", "default"] {
        let file = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
        std::fs::write(&file, "1").with_context(|| format!("writing {file}"))?;
    }
    process::output(root.command("ip").args(["link", "set", "lo", "up"])).context("the loopback interface")?;
    Ok(())
}

impl Wires {
    fn cables(&self) -> Vec<Cable> {
        let cable = |port: &str, bridge, namespace, interface, mac| Cable {
            port: port.to_owned(),
            bridge,
            namespace,
            interface,
            mac,
        };
        let servers = if self.cabling == Cabling::OneSegment { NEAR } else { FAR };
        let mut cables = vec![
            cable("router0", servers, ROUTER, "eth0", "52:54:00:77:ff:01"),
            cable("netboot0", servers, NETBOOT, "eth0", NETBOOT_MAC),
        ];
        if self.cabling == Cabling::TwoSegments {
            cables.push(cable("relay0", NEAR, RELAY, "eth0", "52:54:00:77:ff:03"));
            cables.push(cable("relay1", FAR, RELAY, "eth1", "52:54:00:77:ff:04"));
        }
        cables.extend(self.devices.iter().map(|(name, mac)| cable(&port(name), NEAR, name, "eth0", mac)));
        cables
    }

    fn namespaces(&self) -> Vec<&'static str> {
        let mut names = vec![REGION];
        for cable in self.cables() {
            if !names.contains(&cable.namespace) {
                names.push(cable.namespace);
            }
        }
        names
    }

    fn bridges(&self) -> &'static [&'static str] {
        if self.cabling == Cabling::OneSegment { &[NEAR] } else { &[NEAR, FAR] }
    }

    /// Lays them.
    ///
    /// # Errors
    /// When a command fails.
    pub fn lay(&self, root: &Root) -> Result<()> {
        for name in self.namespaces() {
            process::output(root.command("ip").args(["netns", "add", name]))
                .with_context(|| format!("making the network namespace {name}"))?;
            for scope in ["all", "default"] {
                let file = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
                feed(root.command_in(name, "tee").arg(&file), "1").context("switching IPv6 off")?;
            }
        }
        feed(root.command("ip").args(["-batch", "-"]), &self.middle()).context("laying the LAN")?;
        for (namespace, lines) in self.ends() {
            feed(root.command("ip").args(["-n", namespace, "-batch", "-"]), &lines)
                .with_context(|| format!("setting up the network of {namespace}"))?;
        }
        for namespace in self.namespaces().into_iter().filter(|name| [ROUTER, RELAY].contains(name)) {
            feed(root.command_in(namespace, "tee").arg("/proc/sys/net/ipv4/ip_forward"), "1").context("routing")?;
        }
        feed(root.command_in(ROUTER, "nft").args(["-f", "-"]), MASQUERADE).context("making the router masquerade")
    }

    /// Takes them up. A namespace lives until its last process ends, so its interfaces are removed by name.
    ///
    /// # Errors
    /// When a command fails.
    pub fn take_up(&self, root: &Root) -> Result<()> {
        let mut lines = String::new();
        let taps = (0..self.taps).map(tap);
        let ports = self.cables().into_iter().map(|cable| cable.port);
        for name in ports.chain(taps).chain(self.bridges().iter().map(|b| (*b).to_owned())) {
            let _ = writeln!(lines, "link del {name}");
        }
        feed(root.command("ip").args(["-batch", "-"]), &lines).context("taking up the LAN")?;
        process::output(root.command("ip").args(["-n", REGION, "link", "del", "eth0"])).context("taking up the WAN")?;
        for name in self.namespaces() {
            process::output(root.command("ip").args(["netns", "del", name]))
                .with_context(|| format!("removing the network namespace {name}"))?;
        }
        Ok(())
    }

    /// What is in this process' namespace.
    fn middle(&self) -> String {
        let mut lines = format!("link add wan0 netns {ROUTER} type veth peer name eth0 netns {REGION}\n");
        for (index, bridge) in self.bridges().iter().enumerate() {
            // No spanning tree, no delay: firmware gives up while a port is still listening.
            let _ = writeln!(
                lines,
                "link add {bridge} address 52:54:00:77:fe:0{index} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
            );
        }
        for Cable { port, bridge, namespace, interface, mac } in self.cables() {
            let _ = writeln!(
                lines,
                "link add {port} type veth peer name {interface} address {mac} netns {namespace}\nlink set {port} master {bridge} up"
            );
        }
        for tap in (0..self.taps).map(tap) {
            let _ = writeln!(lines, "tuntap add {tap} mode tap\nlink set {tap} master {NEAR} up");
        }
        let _ = writeln!(lines, "address add {}/24 dev {NEAR}", at::OBSERVER);
        for bridge in self.bridges() {
            let _ = writeln!(lines, "link set {bridge} up");
        }
        // At the machines' gateway begins the way to everything else.
        let _ = writeln!(lines, "route add default via {}", at::ROUTER);
        lines
    }

    /// What is in the other namespaces.
    fn ends(&self) -> Vec<(&'static str, String)> {
        let up = |interface: &str, address: &str| {
            format!("address add {address}/24 dev {interface}\nlink set {interface} up\n")
        };
        let lo = "link set lo up\n";
        let near = format!("route add {} via {FAR_RELAY}\n", at::STORE_NETWORK);
        let wan = up("wan0", at::WAN);
        let mut ends = match self.cabling {
            Cabling::OneSegment => vec![
                (ROUTER, format!("{lo}{}{wan}", up("eth0", at::ROUTER))),
                (NETBOOT, format!("{lo}{}route add default via {}\n", up("eth0", at::NETBOOT), at::ROUTER)),
            ],
            Cabling::TwoSegments => vec![
                (ROUTER, format!("{lo}{}{wan}{near}", up("eth0", FAR_ROUTER))),
                (NETBOOT, format!("{lo}{}{near}route add default via {FAR_ROUTER}\n", up("eth0", FAR_NETBOOT))),
                (
                    RELAY,
                    format!(
                        "{lo}{}{}route add default via {FAR_ROUTER}\n",
                        up("eth0", at::ROUTER),
                        up("eth1", FAR_RELAY)
                    ),
                ),
            ],
        };
        ends.push((REGION, format!("{lo}{}", up("eth0", at::REGION))));
        ends.extend(self.devices.iter().map(|(name, _)| (*name, format!("{lo}link set eth0 up\n"))));
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_relay_servers_and_machines_share_no_segment() {
        let wires = Wires { cabling: Cabling::TwoSegments, taps: 1, devices: vec![("till", "52:54:00:77:02:01")] };
        let near: Vec<_> = wires.cables().into_iter().filter(|c| c.bridge == NEAR).map(|c| c.namespace).collect();
        assert_eq!(near, [RELAY, "till"]);
        let one = Wires { cabling: Cabling::OneSegment, ..wires };
        assert!(one.cables().iter().all(|cable| cable.bridge == NEAR));
        assert!(!one.middle().contains(FAR_NETBOOT));
    }
}
