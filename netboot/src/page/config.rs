//! The section `page` of the configuration.

use super::words::Language;
use serde::Deserialize;

/// The store page's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct PageConfig {
    /// The language for browsers that ask for none of ours: `en` or `de`.
    pub language: Language,
}
