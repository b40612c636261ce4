//! Disks: what is on them ([`probe`]), which one to use ([`plan`]), how it is divided ([`layout`]), and the one
//! place that writes a partition table ([`table`]).

pub mod layout;
pub mod plan;
pub mod probe;
pub mod table;
