//! What was really on the wire: a reader of packet captures, as far as the tests look.

pub mod dhcp;
pub mod pcap;
pub mod received;
