//! DHCP as a boot server beside somebody else's DHCP server speaks it (ProxyDHCP), and, in [`lease`], as a DHCP server.
//!
//! Start at [`decide::answer`]: a packet goes in, a reply or a reason for silence comes out. [`packet`] reads
//! what clients send, tolerantly; [`family`] says what kind of client it is; [`reply`] writes what its firmware accepts;
//! [`guids`] remembers which GUID belongs to which NIC; [`limits`] bounds what is looked at; [`survey`] knows the
//! other servers, and [`ask`] asks for them; [`relayed`] knows the machines behind relays.

pub mod ask;
#[cfg(test)]
mod clients;
pub mod decide;
pub mod family;
pub mod guids;
pub mod lease;
pub mod limits;
pub mod packet;
pub mod relayed;
pub mod reply;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod simulation;
pub mod survey;
