//! What an image is. The manifest is a TUF target: whoever holds it through TUF holds digests of all the rest.

use crate::{disks::DiskPolicy, state::StatePolicy};
use serde::{Deserialize, Serialize};

/// One template at one version for one architecture.
/// TUF target `images/TEMPLATE/VERSION/manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The machine template, for example `k8s-worker`.
    pub template: String,
    /// The image's version, for example `2026.11.1`.
    pub image_version: String,
    /// `x86_64`.
    pub architecture: String,
    /// The root file system and its hash tree.
    pub root: Root,
    /// The chunked archive of both.
    pub archive: Archive,
    /// TUF target name of the signed UKI.
    pub uki: String,
    /// TUF target name of the signed boot loader (systemd-boot).
    pub boot_loader: String,
    /// TUF target name of the registrar's CA certificates (PEM).
    pub registrar_ca: String,
    /// What BIOS machines start with; `None` in images that only start on UEFI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios: Option<Bios>,
    /// Which disk may get the system; any, when the template has no wishes.
    #[serde(default, skip_serializing_if = "DiskPolicy::is_default")]
    pub disks: DiskPolicy,
    /// Whether the state partition is encrypted.
    #[serde(default, skip_serializing_if = "StatePolicy::is_default")]
    pub state: StatePolicy,
}

/// The TUF target names of what a BIOS machine needs beside the UKI, whose kernel, initrd and command line it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bios {
    /// The network boot program that a PXE ROM fetches over TFTP.
    pub network_loader: String,
    /// The first sector of the disk, see [`crate::bios`].
    pub boot_sector: String,
    /// GRUB's core image for the BIOS boot partition, see [`crate::bios`].
    pub core: String,
}

/// The EROFS root and the dm-verity hash tree over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Bytes of the EROFS image, a multiple of 4096.
    pub data_bytes: u64,
    /// Bytes of the hash tree, superblock included (`veritysetup format` without `--no-superblock`).
    pub hash_bytes: u64,
    /// The root hash, SHA-256, 64 hex digits.
    pub root_hash: String,
}

/// The chunked archive (crate `bitar`, zstd) of `root data || hash tree`: one source stream, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Path below the repository's base URL, for example `archives/2f…c1.bita`. Not a TUF target: it is
    /// authenticated piece by piece through the header.
    pub path: String,
    /// Bytes of the archive's header and dictionary: everything before the first chunk.
    pub header_bytes: u64,
    /// SHA-256 of exactly those bytes, 64 hex digits.
    pub header_sha256: String,
    /// Bytes of the whole archive.
    pub bytes: u64,
}

/// Which version a channel names. TUF target `channels/TEMPLATE/CHANNEL.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The image version.
    pub image_version: String,
}

/// What a boot image knows without asking anyone; `/etc/shelfboot/trust.json` in the initrd.
/// The TUF root it starts from lies beside it as `root.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustFloor {
    /// [`crate::VERSION`].
    pub version: u32,
    /// When the image was built: no clock may be earlier.
    #[serde(with = "time::serde::rfc3339")]
    pub built_at: time::OffsetDateTime,
    /// The lowest versions of the TUF roles that may be believed.
    pub roles: RoleVersions,
    /// How far metadata is believed that has expired.
    #[serde(default, skip_serializing_if = "Staleness::is_none")]
    pub staleness: Staleness,
}

/// How far an installer believes metadata that has expired, while nobody can be believed about the time: a store whose line is down
/// goes on installing for that long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staleness {
    /// Days for which timestamp and snapshot are believed after their end; at most [`Staleness::MOST_DAYS`] count. Root and targets
    /// are not meant.
    pub max_age_days: u16,
}

impl Staleness {
    /// What image-builder writes unless it is told otherwise.
    pub const USUAL_DAYS: u16 = 7;
    /// More than that protects from nothing.
    pub const MOST_DAYS: u16 = 90;

    /// Nothing is believed that has expired.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.max_age_days == 0
    }
}

/// Versions of TUF roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleVersions {
    /// `targets.json`.
    pub targets: u64,
    /// `snapshot.json`.
    pub snapshot: u64,
    /// `timestamp.json`.
    pub timestamp: u64,
}

impl ImageManifest {
    /// TUF target name of the manifest of one image.
    #[must_use]
    pub fn target_name(template: &str, image_version: &str) -> String {
        format!("images/{template}/{image_version}/manifest.json")
    }

    /// The TUF targets that it names.
    #[must_use]
    pub fn targets(&self) -> Vec<&str> {
        let bios = self.bios.iter().flat_map(|bios| [&bios.network_loader, &bios.boot_sector, &bios.core]);
        [&self.uki, &self.boot_loader, &self.registrar_ca].into_iter().chain(bios).map(String::as_str).collect()
    }

    /// Holds a manifest against the image that it was asked for, and what it says about its archive against itself.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(&self, template: &str, image_version: &str) -> Result<(), String> {
        if self.template != template || self.image_version != image_version {
            return Err(format!("it is about {} {}", self.template, self.image_version));
        }
        let archive = &self.archive;
        let sound = crate::repository::is_sha256(&archive.header_sha256)
            && archive.path == crate::repository::archive_path(&archive.header_sha256)
            && archive.header_bytes <= crate::repository::LARGEST_ARCHIVE_HEADER.min(archive.bytes);
        if !sound {
            return Err("what it says about its archive makes no sense".into());
        }
        if self.root.partition_guids().is_none() {
            return Err("it has no root hash".into());
        }
        Ok(())
    }
}

impl Channel {
    /// TUF target name of one channel of one template.
    #[must_use]
    pub fn target_name(template: &str, channel: &str) -> String {
        format!("channels/{template}/{channel}.json")
    }
}

impl Root {
    /// The partition GUIDs of root and verity partition: the root hash's first and last 128 bits, in the byte
    /// order of its hex digits (UAPI Discoverable Partitions Specification, "Verity").
    ///
    /// Returns `None` when the root hash is not 64 hex digits.
    #[must_use]
    pub fn partition_guids(&self) -> Option<(uuid::Uuid, uuid::Uuid)> {
        guids_of(&self.root_hash)
    }
}

/// The partition GUIDs that belong to a root hash; see [`Root::partition_guids`].
#[must_use]
pub fn guids_of(root_hash: &str) -> Option<(uuid::Uuid, uuid::Uuid)> {
    if root_hash.len() != 64 || !root_hash.is_ascii() {
        return None;
    }
    let first = u128::from_str_radix(&root_hash[..32], 16).ok()?;
    let last = u128::from_str_radix(&root_hash[32..], 16).ok()?;
    Some((uuid::Uuid::from_u128(first), uuid::Uuid::from_u128(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_the_two_halves_of_the_root_hash() {
        let hash = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";
        let (root, verity) = guids_of(hash).unwrap();
        assert_eq!(root.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(verity.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(guids_of("00"), None);
    }
}
