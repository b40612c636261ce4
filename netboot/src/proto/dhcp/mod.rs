//! DHCP as a boot server beside somebody else's DHCP server speaks it (ProxyDHCP).
//!
//! Start at [`decide::answer`]: a packet goes in, a reply or a reason for silence comes out. [`packet`] reads
//! what clients send, tolerantly; [`reply`] writes what their firmware accepts; [`guids`] remembers which GUID
//! belongs to which NIC.

pub mod decide;
pub mod family;
pub mod guids;
pub mod lease;
pub mod packet;
pub mod reply;
#[cfg(test)]
mod samples;
