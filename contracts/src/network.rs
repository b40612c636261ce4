//! How a machine's network is set up where DHCP on an untagged port is not enough: fixed addresses, a VLAN tag, a bond, a
//! proxy. IT writes it in the inventory, or on a medium for stores in which nothing can be heard without it.

use crate::enrollment::NodeFile;
use serde::{Deserialize, Serialize};
use std::{fmt::Write as _, net::IpAddr};

/// The VLAN's interface on the machine.
pub const VLAN: &str = "sb-vlan";
/// The bond's interface on the machine.
pub const BOND: &str = "sb-bond";

const FOLDER: &str = "/etc/systemd/network";
/// A unit of systemd reads no more than this of a list; a machine has fewer.
const MOST: usize = 16;

/// The network of one machine. Everything may be left out: then it is DHCP on every card, as it is without this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct NetworkConfig {
    /// MAC addresses of the cards that are used; all of them when it is empty. A bond has that of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// The cards act as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bond: Option<BondMode>,
    /// Frames carry this tag (IEEE 802.1Q): 1 to 4094.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Addresses with the length of their prefix, like `10.0.4.7/24` or `fd00::7/64`. DHCP and router advertisements when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Default routers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// Name servers, when DHCP names none or others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// The largest packet, in bytes: 1280 to 9216.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// What programs of the installed system reach the outside through, like `http://10.0.4.1:3128`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// What is reached without it: addresses, networks and domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_proxy: Vec<String>,
}

/// How cards act as one (Linux, Documentation/networking/bonding.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// One at a time; the switch need not know.
    ActiveBackup,
    /// LACP; the switch has to be set up for it.
    #[serde(rename = "802.3ad")]
    Lacp,
    /// Each sends; the switch need not know.
    BalanceAlb,
}

impl BondMode {
    const fn name(self) -> &'static str {
        match self {
            Self::ActiveBackup => "active-backup",
            Self::Lacp => "802.3ad",
            Self::BalanceAlb => "balance-alb",
        }
    }
}

/// What is wrong with a [`NetworkConfig`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// A MAC address.
    #[error("`{0}` is not a MAC address; write it like 52:54:00:12:34:56")]
    Mac(String),
    /// A VLAN tag.
    #[error("{0} is not a VLAN tag: 1 to 4094")]
    Vlan(u16),
    /// An address.
    #[error("`{0}` is not an address with the length of its prefix, like 10.0.4.7/24")]
    Address(String),
    /// A router without an address to reach it from.
    #[error("the gateway {0} is in none of the networks of `addresses`")]
    Gateway(IpAddr),
    /// Frames' size.
    #[error("{0} bytes is no size for packets: 1280 to 9216")]
    Mtu(u32),
    /// A VLAN's interface lies over one card, or over a bond.
    #[error("a VLAN needs one card in `ports`, or a bond")]
    VlanOverMany,
    /// A bond of nothing.
    #[error("a bond needs its cards in `ports`")]
    BondOfNone,
    /// A proxy.
    #[error("`{0}` is not a proxy's URL, like http://10.0.4.1:3128")]
    Proxy(String),
    /// A word of the list of what needs no proxy.
    #[error("`{0}` is no address, network or domain")]
    NoProxy(String),
    /// Too many of something.
    #[error("{0} has more than {MOST} entries")]
    TooMany(&'static str),
}

impl NetworkConfig {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), NetworkError> {
        for (name, count) in [
            ("ports", self.ports.len()),
            ("addresses", self.addresses.len()),
            ("gateways", self.gateways.len()),
            ("dns", self.dns.len()),
            ("noProxy", self.no_proxy.len()),
        ] {
            if count > MOST {
                return Err(NetworkError::TooMany(name));
            }
        }
        if let Some(wrong) = self.ports.iter().find(|mac| !is_mac(mac)) {
            return Err(NetworkError::Mac(wrong.clone()));
        }
        if let Some(wrong) = self.vlan.filter(|tag| !(1..=4094).contains(tag)) {
            return Err(NetworkError::Vlan(wrong));
        }
        if let Some(wrong) = self.mtu.filter(|bytes| !(1280..=9216).contains(bytes)) {
            return Err(NetworkError::Mtu(wrong));
        }
        if self.bond.is_some() && self.ports.is_empty() {
            return Err(NetworkError::BondOfNone);
        }
        if self.vlan.is_some() && self.bond.is_none() && self.ports.len() != 1 {
            return Err(NetworkError::VlanOverMany);
        }
        let mut networks = Vec::new();
        for text in &self.addresses {
            networks.push(address(text).ok_or_else(|| NetworkError::Address(text.clone()))?);
        }
        if let Some(wrong) = self.gateways.iter().find(|router| !networks.iter().any(|net| holds(*net, **router))) {
            return Err(NetworkError::Gateway(*wrong));
        }
        let word = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:/[]*".contains(&b))
        };
        if let Some(wrong) =
            self.proxy.as_ref().filter(|url| !(url.starts_with("http://") && url.len() > 7 && word(url)))
        {
            return Err(NetworkError::Proxy(wrong.clone()));
        }
        match self.no_proxy.iter().find(|text| !word(text)) {
            Some(wrong) => Err(NetworkError::NoProxy(wrong.clone())),
            None => Ok(()),
        }
    }

    /// Files for systemd-networkd (systemd.network(5), systemd.netdev(5)) and for the environment of services
    /// (systemd-system.conf(5)). They come before the image's own, whose names are greater.
    #[must_use]
    pub fn files(&self) -> Vec<NodeFile> {
        let mut files = Vec::new();
        let mut add = |name: String, content: String| {
            files.push(NodeFile { path: format!("{FOLDER}/{name}"), mode: "0644".into(), content });
        };
        let own = self.addressing();
        // From the card upwards: each interface carries the next one, and the last one has the addresses.
        let vlan = self.vlan.map(|_| format!("[Network]\nVLAN={VLAN}\nLinkLocalAddressing=no\nLLDP=yes\n"));
        let above_card = match self.bond {
            Some(mode) => {
                // networkd would make up an address (systemd.netdev(5), MACAddress=), under which nobody knows the machine.
                let mac = self.ports.first().map_or(String::new(), |mac| format!("MACAddress={mac}\n"));
                let kind = format!("[NetDev]\nName={BOND}\nKind=bond\n{mac}{}", self.mtu_of_netdev());
                let more =
                    if mode == BondMode::Lacp { "TransmitHashPolicy=layer3+4\nLACPTransmitRate=fast\n" } else { "" };
                add(
                    format!("10-{BOND}.netdev"),
                    format!("{kind}\n[Bond]\nMode={}\nMIIMonitorSec=100ms\n{more}", mode.name()),
                );
                let network = vlan.clone().unwrap_or_else(|| own.clone());
                add(format!("20-{BOND}.network"), format!("[Match]\nName={BOND}\n\n{network}"));
                format!("[Network]\nBond={BOND}\nLLDP=yes\n")
            }
            None => vlan.unwrap_or_else(|| own.clone()),
        };
        if let Some(tag) = self.vlan {
            let kind = format!("[NetDev]\nName={VLAN}\nKind=vlan\n{}", self.mtu_of_netdev());
            add(format!("30-{VLAN}.netdev"), format!("{kind}\n[VLAN]\nId={tag}\n"));
            add(format!("30-{VLAN}.network"), format!("[Match]\nName={VLAN}\n\n{own}"));
        }
        let which = if self.ports.is_empty() {
            String::new()
        } else {
            format!("PermanentMACAddress={}\n", self.ports.join(" "))
        };
        let mtu = self.mtu.map_or(String::new(), |bytes| format!("[Link]\nMTUBytes={bytes}\n\n"));
        add("40-shelfboot.network".into(), format!("[Match]\nType=ether\nKind=!*\n{which}\n{mtu}{above_card}"));
        files.extend(self.environment());
        files
    }

    fn mtu_of_netdev(&self) -> String {
        self.mtu.map_or(String::new(), |bytes| format!("MTUBytes={bytes}\n"))
    }

    fn addressing(&self) -> String {
        let mut text = String::from("[Network]\nLLDP=yes\n");
        if self.addresses.is_empty() {
            text += "DHCP=yes\n";
        }
        for (key, values) in
            [("Address", self.addresses.clone()), ("Gateway", texts(&self.gateways)), ("DNS", texts(&self.dns))]
        {
            for value in values {
                let _ = writeln!(text, "{key}={value}");
            }
        }
        if self.addresses.is_empty() {
            text += "\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n\n[DHCPv6]\nUseHostname=no\n";
        }
        text
    }

    fn environment(&self) -> Option<NodeFile> {
        let proxy = self.proxy.as_ref()?;
        let without = std::iter::once("localhost,127.0.0.0/8,::1").chain(self.no_proxy.iter().map(String::as_str));
        let without = without.collect::<Vec<_>>().join(",");
        let content = format!(
            "[Manager]\nDefaultEnvironment=\"HTTP_PROXY={proxy}\" \"HTTPS_PROXY={proxy}\" \"NO_PROXY={without}\"\n"
        );
        let path = "/etc/systemd/system.conf.d/40-shelfboot-proxy.conf".into();
        Some(NodeFile { path, mode: "0644".into(), content })
    }

    /// The IPv4 address that the installer takes, with the length of its prefix and the router; `None` is DHCP.
    #[must_use]
    pub fn ipv4(&self) -> Option<(std::net::Ipv4Addr, u8, Option<std::net::Ipv4Addr>)> {
        let (address, prefix) =
            self.addresses.iter().filter_map(|text| address(text)).find_map(|(ip, prefix)| match ip {
                IpAddr::V4(ip) => Some((ip, prefix)),
                IpAddr::V6(_) => None,
            })?;
        let router = self.gateways.iter().find_map(|router| match router {
            IpAddr::V4(router) => Some(*router),
            IpAddr::V6(_) => None,
        });
        Some((address, prefix, router))
    }
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

fn is_mac(text: &str) -> bool {
    let octets: Vec<&str> = text.split(':').collect();
    octets.len() == 6 && octets.iter().all(|o| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn address(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, prefix) = text.split_once('/')?;
    let (ip, prefix) = (ip.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
    (prefix >= 1 && prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, prefix))
}

fn holds((network, prefix): (IpAddr, u8), ip: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    // A router's link-local address is on every link.
    let link_local = matches!((network, ip), (IpAddr::V6(_), IpAddr::V6(ip)) if ip.segments()[0] & 0xffc0 == 0xfe80);
    let ((own, width), (other, other_width)) = (bits(network), bits(ip));
    link_local || (width == other_width && (own ^ other).leading_zeros() >= u32::from(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> NetworkConfig {
        serde_json::from_str(json).unwrap()
    }

    fn text(config: &NetworkConfig) -> String {
        config.files().iter().map(|file| format!("# {}\n{}\n", file.path, file.content)).collect()
    }

    #[test]
    fn nothing_said_is_dhcp_on_every_card() {
        let config = config("{}");
        config.check().unwrap();
        assert_eq!(config.files().len(), 1);
        assert!(text(&config).contains("Kind=!*\n\n[Network]\nLLDP=yes\nDHCP=yes\n"), "{}", text(&config));
        assert_eq!(config.ipv4(), None);
    }

    #[test]
    fn a_tagged_bond_with_fixed_addresses() {
        let config = config(
            r#"{"ports": ["52:54:00:00:00:01", "52:54:00:00:00:02"], "bond": "802.3ad", "vlan": 20, "mtu": 9000,
                "addresses": ["10.0.4.7/24", "fd00::7/64"], "gateways": ["10.0.4.1", "fe80::1"], "dns": ["10.0.4.1"]}"#,
        );
        config.check().unwrap();
        let text = text(&config);
        for part in [
            "10-sb-bond.netdev\n[NetDev]\nName=sb-bond\nKind=bond\nMACAddress=52:54:00:00:00:01\nMTUBytes=9000\n\n[Bond]\nMode=802.3ad\n",
            "20-sb-bond.network\n[Match]\nName=sb-bond\n\n[Network]\nVLAN=sb-vlan\n",
            "[VLAN]\nId=20\n",
            "[Match]\nName=sb-vlan\n\n[Network]\nLLDP=yes\nAddress=10.0.4.7/24\nAddress=fd00::7/64\nGateway=10.0.4.1\n",
            "PermanentMACAddress=52:54:00:00:00:01 52:54:00:00:00:02\n\n[Link]\nMTUBytes=9000\n\n[Network]\nBond=sb-bond\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert_eq!(config.ipv4(), Some(([10, 0, 4, 7].into(), 24, Some([10, 0, 4, 1].into()))));
    }

    #[test]
    fn a_proxy_reaches_services_and_nothing_else_does() {
        let config = config(r#"{"proxy": "http://10.0.4.1:3128", "noProxy": ["10.0.0.0/8", ".example"]}"#);
        config.check().unwrap();
        assert!(text(&config).contains("\"HTTPS_PROXY=http://10.0.4.1:3128\""), "{}", text(&config));
        for bad in [r#"{"proxy": "http://a\" \"X=1"}"#, r#"{"proxy": "http://"}"#, r#"{"noProxy": ["a b"]}"#] {
            assert!(self::config(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (bad, word) in [
            (r#"{"ports": ["52:54"]}"#, "MAC address"),
            (r#"{"vlan": 4095, "ports": ["52:54:00:00:00:01"]}"#, "4094"),
            (r#"{"vlan": 20}"#, "one card"),
            (r#"{"bond": "active-backup"}"#, "ports"),
            (r#"{"addresses": ["10.0.0.1"]}"#, "prefix"),
            (r#"{"addresses": ["10.0.0.1/33"]}"#, "prefix"),
            (r#"{"addresses": ["10.0.4.7/24"], "gateways": ["10.0.5.1"]}"#, "10.0.5.1"),
            (r#"{"gateways": ["10.0.5.1"]}"#, "10.0.5.1"),
            (r#"{"mtu": 100}"#, "1280"),
        ] {
            let error = config(bad).check().unwrap_err().to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
        assert!(serde_json::from_str::<NetworkConfig>(r#"{"adresses": []}"#).is_err());
    }
}
