//! A real registrar on loopback: real TLS, real SQLite, real store and machine keys. Only the cluster is played, by a
//! broker that records what it is asked; the real API server is part of the end-to-end journey.

mod admission;
mod claims;
mod commands;
mod errors;
mod joins;
mod killed;
mod permits;
#[path = "../../../contracts/tests/program/mod.rs"]
mod program;
mod recovery;
mod retire;
mod stores;
mod tls;
mod upkeep;
mod world;
