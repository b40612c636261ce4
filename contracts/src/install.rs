//! What the disk of an installed machine says about its install. The agent writes it at the end of an install; a disk image
//! brings it along.

use crate::{
    VERSION,
    facts::Owner,
    manifest::{ImageManifest, RoleVersions},
    state::StatePolicy,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// On the EFI system partition of a disk image: the [`InstallRecord`] for the state partition that the machine is to make when
/// it first starts.
pub const FIRST_START_RECORD: &str = "shelfboot/first-start/install.json";
/// Beside it: the registrar's CA certificates (PEM).
pub const FIRST_START_CA: &str = "shelfboot/first-start/registrar-ca.pem";

/// `/state/shelfboot/install.json`: what was installed, by which attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The template.
    pub template: String,
    /// The image's version.
    pub image_version: String,
    /// The attempt that installed it; the first boot goes on with it, so that the journey stays one. `None` once the journey has
    /// ended, and in disk images.
    pub attempt: Option<Uuid>,
    /// The TUF role versions that were believed: nothing older is believed later.
    pub roles: RoleVersions,
    /// Whose it is: no other machine and no other store installs over it. `None` until the machine has met its store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Whether the state is to be encrypted: for who starts a disk image for the first time.
    #[serde(default, skip_serializing_if = "StatePolicy::is_default")]
    pub state: StatePolicy,
}

impl InstallRecord {
    /// The record's place below the agent's folder.
    pub const FILE: &'static str = "install.json";

    /// The record of an install that just ended.
    #[must_use]
    pub fn new(manifest: &ImageManifest, attempt: Option<Uuid>, roles: RoleVersions, owner: Option<Owner>) -> Self {
        Self {
            version: VERSION,
            template: manifest.template.clone(),
            image_version: manifest.image_version.clone(),
            attempt,
            roles,
            owner,
            state: manifest.state,
        }
    }
}
