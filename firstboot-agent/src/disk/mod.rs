//! Disks: what is on them ([`probe`], [`signature`]), which one the system gets ([`plan`], by the template's [`policy`]) and how
//! it is divided ([`layout`]), which are for data ([`data`]), and the one place that writes a partition table ([`table`]).

pub mod data;
pub mod fitness;
pub mod identity;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod show;
pub mod signature;
pub mod table;

pub use contracts::layout;
