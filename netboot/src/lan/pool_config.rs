//! The section `dhcp` of the configuration: what mode `dhcp` lends.

use crate::proto::{
    dhcp::lease::settings::{BadSettings, Settings},
    mac::Mac,
};
use serde::Deserialize;
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

/// The section as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PoolConfig {
    /// First address that is lent.
    pub first: Ipv4Addr,
    /// Last address that is lent.
    pub last: Ipv4Addr,
    /// Default router.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    #[serde(default)]
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name.
    pub domain: Option<String>,
    /// How long systems keep their address.
    #[serde(default = "lease_minutes")]
    pub lease_minutes: u32,
    /// How long firmware does.
    #[serde(default = "boot_lease_seconds")]
    pub boot_lease_seconds: u32,
    /// Addresses for known machines.
    #[serde(default)]
    pub reservations: Vec<Reservation>,
    /// Whether an address is probed by ARP before it is offered. An offer takes 0.4 s longer then.
    #[serde(default = "yes")]
    pub probe: bool,
}

/// An address for a known machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// Its MAC address.
    pub mac: String,
    /// Its address.
    pub address: Ipv4Addr,
}

const fn lease_minutes() -> u32 {
    720
}

const fn boot_lease_seconds() -> u32 {
    300
}

const fn yes() -> bool {
    true
}

impl PoolConfig {
    /// The settings of a server with this address on a LAN of this prefix.
    ///
    /// # Errors
    /// What does not fit together, with the field's name.
    pub fn settings(&self, server: Ipv4Addr, prefix: u8) -> Result<Settings, BadSettings> {
        let mut reservations = BTreeMap::new();
        for Reservation { mac, address } in &self.reservations {
            let parsed: Mac = mac.parse().map_err(|e| BadSettings(format!("the reservation for `{mac}`: {e}")))?;
            if reservations.insert(parsed, *address).is_some() {
                return Err(BadSettings(format!("{parsed} has two reservations")));
            }
        }
        let settings = Settings {
            server,
            prefix,
            first: self.first,
            last: self.last,
            reservations,
            router: self.router,
            dns: self.dns.clone(),
            ntp: self.ntp.clone(),
            domain: self.domain.clone(),
            lease: Duration::from_secs(u64::from(self.lease_minutes) * 60),
            boot_lease: Duration::from_secs(self.boot_lease_seconds.into()),
            probe: self.probe,
        };
        settings.check()?;
        Ok(settings)
    }
}
