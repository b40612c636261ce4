//! DHCP on the store LAN, around the pure parts in [`crate::proto::dhcp`].
//!
//! [`dhcp`] opens what each mode needs and starts its tasks. [`ears`] chooses between a UDP socket and a packet socket,
//! [`packet_socket`] opens the latter. [`lease_service`] is mode `dhcp`, with [`pool_config`]; [`lease_writer`] keeps leases in
//! [`lease_store`]. [`desk`] is what all modes do before a decision. [`patience`] is the pause at the first start. [`probe`] asks who serves the LAN,
//! [`survey`] says what that means.

pub mod desk;
pub mod dhcp;
pub mod ears;
pub mod lease_service;
pub mod lease_store;
pub mod lease_writer;
pub mod packet_socket;
pub mod patience;
pub mod pool_config;
pub mod probe;
pub mod survey;
