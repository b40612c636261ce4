//! What a template says of the state partition, and the key that opens it when its TPM does not
//! (docs/state-encryption.md).

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// Whether the state partition is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePolicy {
    /// How.
    #[serde(default)]
    pub encryption: Encryption,
    /// What a machine does that has no TPM 2.0.
    #[serde(default)]
    pub without_tpm: WithoutTpm,
}

impl StatePolicy {
    /// Nothing is asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// No machine of this template runs with its state in the clear.
    #[must_use]
    pub fn demands_encryption(self) -> bool {
        self.encryption == Encryption::Tpm && self.without_tpm == WithoutTpm::Refuse
    }
}

/// How the state is encrypted. A word that a reader does not know is an error: it must not guess.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// LUKS2, with a key that the machine's TPM gives out, and a recovery key that the registrar keeps.
    Tpm,
}

/// What a machine without a TPM 2.0 does, where its template asks for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WithoutTpm {
    /// It is not installed.
    #[default]
    Refuse,
    /// Its state is in the clear.
    Clear,
}

/// A machine's recovery key, for the registrar to keep: `POST /v1/recovery-keys`, with the machine's certificate. The answer 204
/// means that it is on the registrar's disk. Sending it again is harmless.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryKey {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The volume that it opens: the UUID in its LUKS2 header.
    pub volume: Uuid,
    /// Eight groups of eight letters of [`LETTERS`], with dashes between them.
    pub key: String,
}

/// The letters of a recovery key: they lie at the same places of most keyboards ("modhex", systemd-cryptenroll(1),
/// `--recovery-key`).
pub const LETTERS: &[u8; 16] = b"cbdefghijklnrtuv";

/// A recovery key from 256 random bits.
#[must_use]
pub fn recovery_key(bits: &[u8; 32]) -> String {
    let mut key = String::with_capacity(71);
    for (at, byte) in bits.iter().enumerate() {
        if at > 0 && at % 4 == 0 {
            key.push('-');
        }
        key.extend([byte >> 4, byte & 15].map(|number| char::from(LETTERS[usize::from(number)])));
    }
    key
}

/// Whether a text has the shape of a recovery key.
#[must_use]
pub fn is_recovery_key(text: &str) -> bool {
    let groups = || text.split('-');
    groups().count() == 8 && groups().all(|group| group.len() == 8 && group.bytes().all(|b| LETTERS.contains(&b)))
}

/// Without the key: it must not come into a log.
impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryKey").field("volume", &self.volume).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_key_has_eight_groups_that_can_be_read_out() {
        let key = recovery_key(&std::array::from_fn(|n| (n as u8).wrapping_mul(9)));
        assert!(is_recovery_key(&key), "{key}");
        assert_eq!(key.len(), 71);
        assert_eq!(&recovery_key(&[0xf0; 32])[..17], "vcvcvcvc-vcvcvcvc");
        for bad in ["", &key[1..], &key.replace('-', " "), &key.to_uppercase(), &format!("{key}-cccccccc")] {
            assert!(!is_recovery_key(bad), "{bad}");
        }
    }

    #[test]
    fn the_key_is_not_among_what_is_printed() {
        let key = recovery_key(&[7; 32]);
        let document = RecoveryKey { version: 1, volume: Uuid::nil(), key: key.clone() };
        assert!(!format!("{document:?}").contains(&key[..8]));
    }

    #[test]
    fn an_unknown_word_is_no_guess() {
        assert!(serde_json::from_str::<StatePolicy>(r#"{"encryption":"password"}"#).is_err());
        let policy: StatePolicy = serde_json::from_str(r#"{"encryption":"tpm"}"#).unwrap();
        assert!(policy.demands_encryption());
    }
}
