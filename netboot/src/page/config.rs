//! The section `page` of the configuration.

use super::words::Language;
use serde::Deserialize;

/// The store page's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct PageConfig {
    /// The language for browsers that ask for none of ours: `en` or `de`.
    pub language: Language,
    /// Names under which browsers reach this page, as they stand in the address bar (`netboot.store.example`, with `:PORT` unless
    /// it is 80), besides the address on the store LAN. Forms from pages of other names are refused.
    pub names: Vec<String>,
}
