//! A tree with a browser, for the store page. Chromium is large, so it is no part of the lab tree.

use super::tree::Tree;
use crate::{cache::Cache, hint::coded, host::mirror, report::Report};
use anyhow::Result;
use contracts::exit::Code;
use std::path::PathBuf;

/// See [`Tree`]. Fonts: one as on phones, and one for codes.
const BROWSER: Tree = Tree {
    name: "browser",
    about: "a Debian 13 root with Chromium (about a minute, 500 MB)",
    packages: &["chromium", "chromium-driver", "fonts-dejavu-mono", "fonts-roboto-unhinted"],
};

/// Makes the tree, or finds it in the cache.
///
/// # Errors
/// When mmdebstrap fails, or no Debian mirror is known.
pub fn make(cache: &Cache, report: &Report) -> Result<PathBuf> {
    let mirrors = mirror::mirrors().map_err(|error| {
        let hint = format!("set {} to the base URL of a Debian mirror", mirror::MIRROR_VARIABLE);
        coded(Code::Host, error.to_string(), hint)
    })?;
    Ok(BROWSER.make(cache, &mirrors, report)?.path)
}
