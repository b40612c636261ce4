//! What becomes of the state partition: a pure function of what the template says, what TPM there is, and what is on the disk.

use contracts::{
    facts::Tpm,
    state::{Encryption, StatePolicy, WithoutTpm},
};

/// The state that a disk holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// None that was ever used.
    Nothing,
    /// This machine's, in the clear.
    Clear,
    /// This machine's, and its TPM has opened it.
    Opened,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// What is there is kept, as it is.
    Keep,
    /// A new volume, opened by the TPM.
    MakeEncrypted,
    /// A new file system, in the clear.
    MakeClear,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The template asks for a TPM.
    #[error(
        "this machine's template keeps its data encrypted, and {0}; nothing was written. Switch the TPM on in the firmware's \
         setup, or use another spare"
    )]
    NoTpm(&'static str),
    /// The template asks for encryption, and there is state without.
    #[error(
        "the disk holds this machine's data in the clear, and its template keeps it encrypted; it was not touched. Put in an empty \
         disk, or ask support for a wipe permit"
    )]
    InTheClear,
}

impl Refusal {
    /// The stable code that console and store page show.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoTpm(_) => "no-tpm",
            Self::InTheClear => IN_THE_CLEAR,
        }
    }
}

/// State in the clear where the template wants none.
pub const IN_THE_CLEAR: &str = "state-in-the-clear";
/// Encrypted state that this machine's TPM does not open.
pub const LOCKED: &str = "state-locked";

/// Decides.
///
/// State that is encrypted stays so whatever the template says: it is this machine's, and it can be read. A TPM that is there and
/// fails later is an error and never a reason to go on in the clear.
///
/// # Errors
/// See [`Refusal`].
pub fn decide(policy: StatePolicy, tpm: Option<&Tpm>, existing: Existing) -> Result<Plan, Refusal> {
    let usable = match tpm {
        None => Err("it has no TPM that can be seen"),
        Some(tpm) if tpm.version < 2 => Err("its TPM is of version 1.2 and not 2.0"),
        Some(_) => Ok(()),
    };
    let StatePolicy { encryption, without_tpm } = policy;
    match (existing, encryption, without_tpm, usable) {
        (Existing::Opened, _, _, _) | (Existing::Clear, Encryption::None, _, _) => Ok(Plan::Keep),
        (Existing::Clear, Encryption::Tpm, WithoutTpm::Clear, _) => Ok(Plan::Keep),
        (_, Encryption::Tpm, WithoutTpm::Refuse, Err(why)) => Err(Refusal::NoTpm(why)),
        (Existing::Clear, Encryption::Tpm, WithoutTpm::Refuse, Ok(())) => Err(Refusal::InTheClear),
        (Existing::Nothing, Encryption::Tpm, _, Ok(())) => Ok(Plan::MakeEncrypted),
        (Existing::Nothing, Encryption::Tpm, WithoutTpm::Clear, Err(_))
        | (Existing::Nothing, Encryption::None, _, _) => Ok(Plan::MakeClear),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REFUSE: StatePolicy = StatePolicy { encryption: Encryption::Tpm, without_tpm: WithoutTpm::Refuse };
    const CLEAR: StatePolicy = StatePolicy { encryption: Encryption::Tpm, without_tpm: WithoutTpm::Clear };
    const NONE: StatePolicy = StatePolicy { encryption: Encryption::None, without_tpm: WithoutTpm::Refuse };

    fn tpm(version: u32) -> Tpm {
        Tpm { version, manufacturer: String::new() }
    }

    #[test]
    fn a_blank_disk_becomes_what_the_template_says() {
        let two = tpm(2);
        let blank = |policy, tpm| decide(policy, tpm, Existing::Nothing);
        assert_eq!(blank(REFUSE, Some(&two)), Ok(Plan::MakeEncrypted));
        assert_eq!(blank(CLEAR, Some(&two)), Ok(Plan::MakeEncrypted));
        assert_eq!(blank(NONE, Some(&two)), Ok(Plan::MakeClear));
        assert_eq!(blank(CLEAR, None), Ok(Plan::MakeClear));
        assert_eq!(blank(REFUSE, None).unwrap_err().code(), "no-tpm");
        let old = blank(REFUSE, Some(&tpm(1))).unwrap_err();
        assert!(old.to_string().contains("1.2") && old.code() == "no-tpm", "{old}");
    }

    #[test]
    fn state_in_the_clear_is_not_taken_for_encrypted() {
        let two = tpm(2);
        assert_eq!(decide(REFUSE, Some(&two), Existing::Clear), Err(Refusal::InTheClear));
        assert_eq!(decide(CLEAR, Some(&two), Existing::Clear), Ok(Plan::Keep));
        assert_eq!(decide(NONE, None, Existing::Clear), Ok(Plan::Keep));
    }

    proptest! {
        #[test]
        fn what_is_there_is_never_made_anew_and_a_strict_template_never_ends_in_the_clear(
            encrypted: bool, refuse: bool, version in proptest::option::of(1u32..3), there in 0..3,
        ) {
            let policy = StatePolicy {
                encryption: if encrypted { Encryption::Tpm } else { Encryption::None },
                without_tpm: if refuse { WithoutTpm::Refuse } else { WithoutTpm::Clear },
            };
            let existing = [Existing::Nothing, Existing::Clear, Existing::Opened][there as usize];
            let tpm = version.map(tpm);
            let plan = decide(policy, tpm.as_ref(), existing);
            if existing != Existing::Nothing {
                prop_assert!(!matches!(plan, Ok(Plan::MakeClear | Plan::MakeEncrypted)));
            }
            let clear = plan == Ok(Plan::MakeClear) || (plan == Ok(Plan::Keep) && existing == Existing::Clear);
            prop_assert!(!(clear && policy.demands_encryption()));
        }
    }
}
