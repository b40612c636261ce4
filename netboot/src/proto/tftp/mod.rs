//! TFTP, the server's side (RFC 1350, 2347, 2348, 2349, 7440), without sockets or clocks.
//!
//! Start at [`transfer::Transfer`]: one file to one client. [`packet`] reads and writes the packets.

pub mod packet;
pub mod round_trip;
#[cfg(test)]
mod simulation;
pub mod transfer;
#[cfg(test)]
mod transfer_tests;
