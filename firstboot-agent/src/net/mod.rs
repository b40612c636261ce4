//! The network as the agent needs it: an address and netboot's place by DHCP ([`dhcp`]), interfaces
//! ([`interface`]), and netboot's calls ([`client`]).

pub mod client;
pub mod dhcp;
pub mod interface;
pub mod lldp;
