//! Disks: what is on them ([`probe`]), which one the system gets ([`plan`]) and how it is divided ([`layout`]), which are for
//! data ([`data`]), and the one place that writes a partition table ([`table`]).

pub mod data;
pub mod plan;
pub mod probe;
pub mod signature;
pub mod table;

pub use contracts::layout;
