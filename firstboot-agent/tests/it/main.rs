//! The install code as an ordinary process, against repositories that were tampered with while they were served.
//! One file per family of attacks.

mod archives;
mod events;
mod media;
mod metadata;
mod old_states;
mod resumed;
mod shop;
mod stale;
mod streams;
mod targets;
#[path = "../../../contracts/tests/tuf/mod.rs"]
mod tuf;
