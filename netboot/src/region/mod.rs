//! The line to the region: outgoing only, TLS 1.3 with the store's certificate, endpoints tried in order.

pub mod assignments;
pub mod backoff;
pub mod client;
pub mod forward;
pub mod relay;
