//! The protocol cores. No socket, clock, file or task in here: bytes and time in, bytes and decisions out.

pub mod dhcp;
pub mod frames;
pub mod http;
pub mod mac;
pub mod neighbours;
pub mod pace;
pub mod tftp;
