//! The state partition under encryption: LUKS2, opened by the machine's TPM (docs/state-encryption.md). [`plan`] decides, [`luks`]
//! calls Debian's cryptsetup, [`tpm`] closes the TPM's door behind the start.

pub mod luks;
pub mod plan;
pub mod tpm;

/// Where the recovery key waits until the registrar has it: in the agent's folder, so inside of the volume that it opens.
pub const KEY_FILE: &str = "recovery-key.json";
