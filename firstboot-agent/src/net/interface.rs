//! Network interfaces, by netlink.

use anyhow::{Context, Result};
use contracts::network::BondMode;
use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, LinkBond, LinkUnspec, LinkVlan, RouteMessageBuilder, new_connection, packet_route::link::BondMode as Mode,
};
use std::{net::Ipv4Addr, path::Path};

/// Milliseconds between two looks at the cards' links.
const LINK_WATCH: u32 = 100;

/// Speaks to the kernel's routing table.
#[derive(Debug, Clone)]
pub struct Links(Handle);

impl Links {
    /// Opens the connection; its task ends with the runtime.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn open() -> Result<Self> {
        let (connection, handle, _) = new_connection().context("opening a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Switches an interface on.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub async fn up(&self, name: &str) -> Result<()> {
        let index = self.index(name).await?;
        let message = LinkUnspec::new_with_index(index).up().build();
        self.0.link().set(message).execute().await.with_context(|| format!("switching on {name}"))
    }

    /// Lets all multicast frames of an interface through, or not any more.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub async fn hear_multicast(&self, name: &str, on: bool) -> Result<()> {
        let index = self.index(name).await?;
        let message = LinkUnspec::new_with_index(index).allmulticast(on).build();
        self.0.link().set(message).execute().await.with_context(|| format!("letting multicast through on {name}"))
    }

    /// Makes an interface for tagged frames over another one, and switches it on. One that is there already is fine.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub async fn tag(&self, over: &str, name: &str, tag: u16) -> Result<()> {
        if self.index(name).await.is_err() {
            let over_index = self.index(over).await?;
            let message = LinkVlan::new(name, over_index, tag).build();
            let added = self.0.link().add(message).execute().await;
            added.with_context(|| format!("making the VLAN {tag} over {over}"))?;
        }
        self.up(name).await
    }

    /// Makes cards act as one interface with this address, and switches it on. What is there already is fine.
    ///
    /// # Errors
    /// When there is no such card, or the kernel refuses.
    pub async fn bond(&self, name: &str, mode: BondMode, mac: [u8; 6], cards: &[String]) -> Result<()> {
        if self.index(name).await.is_err() {
            let mode = match mode {
                BondMode::ActiveBackup => Mode::ActiveBackup,
                BondMode::Lacp => Mode::Ieee8023Ad,
                BondMode::BalanceAlb => Mode::BalanceAlb,
            };
            let message = LinkBond::new(name).mode(mode).miimon(LINK_WATCH).address(mac.to_vec()).build();
            self.0.link().add(message).execute().await.with_context(|| format!("making the bond {name}"))?;
        }
        let bond = self.index(name).await?;
        for card in cards {
            if Path::new("/sys/class/net").join(card).join("master").exists() {
                continue;
            }
            let index = self.index(card).await?;
            // A card joins while it is off (Linux, Documentation/networking/bonding.rst); the bond switches it on.
            let off = LinkUnspec::new_with_index(index).down().build();
            self.0.link().set(off).execute().await.with_context(|| format!("switching off {card}"))?;
            let joined = LinkUnspec::new_with_index(index).controller(bond).build();
            self.0.link().set(joined).execute().await.with_context(|| format!("making {card} a part of {name}"))?;
        }
        self.up(name).await
    }

    /// Gives an interface an address and, where there is a router, the default route.
    ///
    /// # Errors
    /// When the kernel refuses; an address or route that is there already is fine.
    pub async fn configure(&self, name: &str, address: Ipv4Addr, prefix: u8, router: Option<Ipv4Addr>) -> Result<()> {
        let index = self.index(name).await?;
        let added = self.0.address().add(index, address.into(), prefix).replace().execute().await;
        added.with_context(|| format!("giving {name} the address {address}/{prefix}"))?;
        if let Some(router) = router {
            let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(router).build();
            let added = self.0.route().add(route).replace().execute().await;
            added.with_context(|| format!("setting the default route to {router}"))?;
        }
        Ok(())
    }

    async fn index(&self, name: &str) -> Result<u32> {
        let mut found = self.0.link().get().match_name(name.to_owned()).execute();
        let link = found.try_next().await.with_context(|| format!("looking for {name}"))?;
        Ok(link.with_context(|| format!("there is no interface {name}"))?.header.index)
    }
}
