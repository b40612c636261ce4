//! The DHCP server of mode `dhcp` (RFC 2131), as a pure state machine: packets, the results of probes and the time go
//! in; answers, probes and records that must be kept come out.
//!
//! [`server`] reads the messages, [`table`] knows who has which address, [`settings`] what is lent to whom,
//! [`answer`] writes the packets, [`rival`] says what happens when another server is there.

pub mod answer;
pub mod rival;
pub mod server;
pub mod settings;
pub mod table;

#[cfg(test)]
mod server_tests;
