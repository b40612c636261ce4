//! The claim code: what a person reads from a machine's screen and tells the region, so that exactly this machine is
//! admitted. It is a commitment to the machine's public key and to the enrollment under which the region waits: the machine
//! works it out for itself, and shows no code that does not stand for its own key.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Crockford's base 32: no I, L, O or U, so nothing is read out wrongly (<https://www.crockford.com/base32.html>).
pub(crate) const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 3;
const PER_GROUP: usize = 4;

/// The code of a machine whose key has this fingerprint (SHA-256 of the `SubjectPublicKeyInfo`, hex), for the enrollment
/// with this id: three groups of four, 60 bits, for example `K7QM-2F9X-0TBD`.
#[must_use]
pub fn code(fingerprint: &str, enrollment: Uuid) -> String {
    let digest = Sha256::digest(format!("shelfboot claim v1\n{enrollment}\n{fingerprint}\n"));
    let bits = digest.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let digit = |place: usize| char::from(ALPHABET[(bits >> (64 - 5 * (place + 1)) & 31) as usize]);
    let group = |group: usize| (0..PER_GROUP).map(|place| digit(group * PER_GROUP + place)).collect::<String>();
    (0..GROUPS).map(group).collect::<Vec<_>>().join("-")
}

/// A code as somebody typed it, in the form of [`code`]; `None` when it cannot be one.
#[must_use]
pub fn normal(typed: &str) -> Option<String> {
    groups(typed, GROUPS)
}

/// So many groups of digits as somebody typed them.
pub(crate) fn groups(typed: &str, groups: usize) -> Option<String> {
    let digits: Vec<char> = typed
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    let known = |c: &char| u8::try_from(*c).is_ok_and(|byte| ALPHABET.contains(&byte));
    let whole = digits.len() == groups * PER_GROUP && digits.iter().all(known);
    whole.then(|| digits.chunks(PER_GROUP).map(String::from_iter).collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_code_stands_for_key_and_enrollment() {
        let id = Uuid::from_u128(7);
        let own = code(&"ab".repeat(32), id);
        // Every machine and every registrar must work out the same one.
        assert_eq!(own, "EPA9-VRY4-GRNM");
        assert_ne!(own, code(&"ac".repeat(32), id));
        assert_ne!(own, code(&"ab".repeat(32), Uuid::from_u128(8)));
    }

    #[test]
    fn what_is_misread_still_fits_and_nonsense_does_not() {
        assert_eq!(normal(" k7qm 2f9x-otbd").as_deref(), Some("K7QM-2F9X-0TBD"));
        assert_eq!(normal("lI00-0000-0000").as_deref(), Some("1100-0000-0000"));
        for bad in ["", "K7QM-2F9X-0TB", "K7QM-2F9X-0TBDD", "K7QM-2F9X-0TBU", "Ä7QM-2F9X-0TBD"] {
            assert_eq!(normal(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_code_is_in_its_normal_form(fingerprint: String, id: u128) {
            let code = code(&fingerprint, Uuid::from_u128(id));
            prop_assert_eq!(normal(&code.to_lowercase()), Some(code));
        }

        #[test]
        fn anything_may_be_typed(typed: String) {
            let _ = normal(&typed);
        }
    }
}
