//! The step `network`: an address, netboot's place, and a clock that is good enough for certificates.

use crate::{
    boot::modules,
    clock, facts,
    failure::{Coded, Failure},
    net::{client::Netboot, dhcp, interface::Links, lldp},
};
use anyhow::{Context, Result};
use contracts::{
    facts::Nic,
    manifest::TrustFloor,
    network::{self, NetworkConfig},
};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

/// Rounds over all network cards. Spanning tree keeps a port silent for thirty seconds and more after link-up, and
/// a store's switch may start at the same time as we do.
const ROUNDS: u32 = 20;
/// Rounds before port 4011 is tried.
const ROUNDS_BEFORE_4011: u32 = 2;

/// What the step finds.
#[derive(Debug)]
pub struct Lan {
    /// netboot.
    pub netboot: Netboot,
    /// MAC of the network card behind which it is.
    pub mac: String,
    /// Switches that were heard on the way.
    pub neighbours: lldp::Heard,
    /// How its network is set up, where a medium said so: the installed system needs the same.
    pub network: Option<NetworkConfig>,
}

/// What a medium says of a LAN on which nothing is heard without.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// netboot's base URL.
    pub netboot: Option<String>,
    /// The machine's network.
    pub network: Option<NetworkConfig>,
}

impl Given {
    /// Whether a card may be used.
    fn takes(&self, nic: &Nic) -> bool {
        let ports = self.network.as_ref().map_or(&[][..], |network| &network.ports);
        let is = |mac: &str| ports.iter().any(|port| port.eq_ignore_ascii_case(mac));
        ports.is_empty() || is(&nic.mac) || nic.permanent_mac.as_deref().is_some_and(is)
    }
}

/// Finds netboot: every card with a carrier asks; the one that hears it is the one used. Where none can hear it, what a medium says
/// has to do.
///
/// # Errors
/// When no card hears netboot in all rounds.
pub async fn find(floor: &TrustFloor, given: Given) -> Result<(Lan, String), Failure> {
    let links = Links::open().code("network")?;
    let mut nics = facts::gather(false).nics;
    if nics.is_empty() {
        return Err(Failure::new(
            "no-network-card",
            "no network card was found; check that it is enabled in the firmware",
        ));
    }
    nics.retain(|nic| given.takes(nic));
    // Only a hint for people: without it the way goes on.
    let listener = lldp::Listener::open().ok();
    for nic in &nics {
        links.up(&nic.kernel_name).await.code("network")?;
        let _ = links.hear_multicast(&nic.kernel_name, true).await;
    }
    if let Some(bond) = bond(&links, &nics, given.network.as_ref()).await.code("network")? {
        nics = vec![bond];
    }
    let mut last = String::from("no network card has a cable that leads anywhere; check the network cable");
    for round in 0..ROUNDS {
        for nic in nics.iter().filter(|nic| has_carrier(nic)) {
            match ask(&links, nic, round, &given).await {
                Ok(Some((address, netboot))) => {
                    let words = clock::take(&netboot, floor.built_at).await.code("clock")?;
                    let mac = nic.mac.clone();
                    let words = format!("{} has {address} and found {}; {words}", nic.kernel_name, netboot.base());
                    let mut neighbours = lldp::Heard::new();
                    listener.iter().for_each(|listener| listener.drain(&mut neighbours));
                    return Ok((Lan { netboot, mac, neighbours, network: given.network }, words));
                }
                Ok(None) => {
                    last = format!("nothing answered on {}; is the store's boot service running?", nic.kernel_name)
                }
                Err(error) => last = format!("{}: {error:#}", nic.kernel_name),
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Err(Failure::new("no-boot-service", last))
}

/// The cards as one, where that is wanted. The store has to see the address under which the region knows this machine, whichever
/// card is in use.
async fn bond(links: &Links, nics: &[Nic], network: Option<&NetworkConfig>) -> Result<Option<Nic>> {
    let Some((mode, mac)) = network.and_then(|network| Some((network.bond?, network.ports.first()?))) else {
        return Ok(None);
    };
    let bytes = mac_bytes(mac).context("the MAC address is not six bytes")?;
    let cards: Vec<String> = nics.iter().map(|nic| nic.kernel_name.clone()).collect();
    modules::load("bonding")?;
    links.bond(network::BOND, mode, bytes, &cards).await?;
    Ok(Some(Nic { kernel_name: network::BOND.into(), mac: mac.to_lowercase(), ..Nic::default() }))
}

async fn ask(links: &Links, nic: &Nic, round: u32, given: &Given) -> Result<Option<(String, Netboot)>> {
    let mac = mac_bytes(&nic.mac).context("the MAC address is not six bytes")?;
    let mut name = nic.kernel_name.as_str();
    if let Some(tag) = given.network.as_ref().and_then(|network| network.vlan) {
        modules::load("8021q")?;
        links.tag(name, network::VLAN, tag).await?;
        name = network::VLAN;
    }
    // RFC 2131, 4.1: waits of 4, 8, 16 s between tries; we are shorter at first, because the LAN is usually there.
    let limit = Duration::from_secs(1 << round.min(4)).min(Duration::from_secs(10));
    if let Some((address, prefix, router)) = given.network.as_ref().and_then(NetworkConfig::ipv4) {
        links.configure(name, address, prefix, router).await?;
        // What is written on the medium need not be asked for.
        let base = match &given.netboot {
            Some(base) => Some(base.clone()),
            None => dhcp::discover(name, mac, false, limit).await?.netboot,
        };
        return base.map(|base| Ok((address.to_string(), Netboot::new(&base)?))).transpose();
    }
    let heard = dhcp::discover(name, mac, true, limit).await?;
    let Some(offer) = heard.offer else { return Ok(None) };
    let mut base = heard.netboot.or_else(|| given.netboot.clone());
    // A late answer to the DISCOVER is more likely than a netboot on port 4011 alone, so that has to wait its turn.
    if base.is_none() && round < ROUNDS_BEFORE_4011 {
        return Ok(None);
    }
    let lease = dhcp::accept(name, mac, &offer, Duration::from_secs(5)).await?;
    links.configure(name, lease.address, lease.prefix, lease.router).await?;
    if base.is_none() {
        base = dhcp::ask_boot_servers(name, mac, &lease.likely_boot_servers(), limit).await?;
    }
    let Some(base) = base else { return Ok(None) };
    Ok(Some((lease.address.to_string(), Netboot::new(&base)?)))
}

fn has_carrier(nic: &Nic) -> bool {
    carrier(&nic.kernel_name)
}

fn carrier(name: &str) -> bool {
    fs::read_to_string(format!("/sys/class/net/{name}/carrier")).is_ok_and(|text| text.trim() == "1")
}

/// Waits, but no longer than until a cable is put in: whoever has just done so wants to see that it helped.
pub fn until_a_cable_is_put_in(wait: Duration) {
    let linked = || -> BTreeSet<String> {
        let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| carrier(name)).collect()
    };
    let (before, end) = (linked(), Instant::now() + wait);
    while Instant::now() < end && linked().is_subset(&before) {
        std::thread::sleep(Duration::from_millis(500).min(wait));
    }
}

/// `52:54:00:12:34:56` as six bytes.
#[must_use]
pub fn mac_bytes(mac: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = mac.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn macs_are_six_bytes() {
        assert_eq!(super::mac_bytes("52:54:00:12:34:ff"), Some([0x52, 0x54, 0, 0x12, 0x34, 0xff]));
        assert_eq!(super::mac_bytes("52:54:00"), None);
    }
}
