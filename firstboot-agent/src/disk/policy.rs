//! The template's word about disks ([`contracts::disks`]), applied: pure, and strict where a rule makes no sense.

use contracts::{
    disks::{DiskPolicy, DiskSelector},
    facts::{Disk, Transport},
};

/// Why a policy cannot be used. Nothing is guessed: it is signed, so somebody has to mend the template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It would fit every disk.
    #[error("a line of `{0}` says nothing, so it would fit every disk")]
    Empty(&'static str),
    /// A word that this agent does not know.
    #[error("a line of `{0}` names a transport that this version does not know; it needs a newer boot image")]
    Transport(&'static str),
    /// No disk can fit.
    #[error("a line of `{0}` asks for more bytes at least than at most")]
    Sizes(&'static str),
}

/// Looks for lines that make no sense.
///
/// # Errors
/// See [`PolicyError`].
pub fn check(policy: &DiskPolicy) -> Result<(), PolicyError> {
    let lines = policy.system.iter().map(|line| ("system", line));
    for (list, line) in lines.chain(policy.never.iter().map(|line| ("never", line))) {
        if *line == DiskSelector::default() {
            return Err(PolicyError::Empty(list));
        }
        if line.transport.contains(&Transport::Unknown) {
            return Err(PolicyError::Transport(list));
        }
        if line.at_least_bytes.zip(line.at_most_bytes).is_some_and(|(least, most)| least > most) {
            return Err(PolicyError::Sizes(list));
        }
    }
    Ok(())
}

/// Whether a disk fits every field of a line. What the disk does not say, it does not fit.
#[must_use]
pub fn fits(line: &DiskSelector, disk: &Disk) -> bool {
    let same = |wanted: &Option<String>, found: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| found.as_ref().is_some_and(|found| found.trim() == wanted.trim()))
    };
    same(&line.wwn, &disk.wwn)
        && same(&line.serial, &disk.serial)
        && line.model.as_ref().is_none_or(|pattern| disk.model.as_ref().is_some_and(|model| like(pattern, model)))
        && line.path.as_ref().is_none_or(|pattern| like(pattern, &disk.path))
        && (line.transport.is_empty() || line.transport.contains(&disk.transport))
        && line.rotational.is_none_or(|wanted| disk.rotational == Some(wanted))
        && line.at_least_bytes.is_none_or(|least| disk.bytes >= least)
        && line.at_most_bytes.is_none_or(|most| disk.bytes <= most)
}

/// Whether a line names one disk and no other: by World Wide Name or serial number.
#[must_use]
pub const fn names_one(line: &DiskSelector) -> bool {
    line.wwn.is_some() || line.serial.is_some()
}

/// Whether `text` is like `pattern`, in which `*` stands for any characters. Time grows with the product of the lengths
/// at worst.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.trim().as_bytes(), text.trim().as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                // The last star takes one more.
                Some((at, taken)) => {
                    (p, t) = (at + 1, taken + 1);
                    star = Some((at, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, expected) in [
            ("Samsung*", "Samsung SSD 980", true),
            ("*980*", "Samsung SSD 980", true),
            ("*SSD*1TB", "Samsung SSD 980 PRO 1TB ", true),
            ("Samsung", "Samsung SSD", false),
            ("*", "", true),
            ("", "x", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXb", false),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!like(&"*a".repeat(40), &"a".repeat(39)));
    }

    #[test]
    fn a_disk_that_says_nothing_fits_no_wish() {
        let disk = Disk { bytes: 100, serial: Some(" S1 ".into()), ..Disk::default() };
        let line = DiskSelector::default;
        assert!(fits(&DiskSelector { serial: Some("S1".into()), ..line() }, &disk));
        assert!(fits(&DiskSelector { at_least_bytes: Some(100), at_most_bytes: Some(100), ..line() }, &disk));
        for wish in [
            DiskSelector { rotational: Some(false), ..line() },
            DiskSelector { rotational: Some(true), ..line() },
            DiskSelector { model: Some("*".into()), ..line() },
            DiskSelector { wwn: Some(String::new()), ..line() },
            DiskSelector { transport: vec![Transport::Nvme], ..line() },
            DiskSelector { at_least_bytes: Some(101), ..line() },
        ] {
            assert!(!fits(&wish, &disk), "{wish:?}");
        }
    }

    #[test]
    fn lines_that_make_no_sense_are_refused() {
        let policy = |line| DiskPolicy { never: vec![line], ..DiskPolicy::default() };
        assert_eq!(check(&policy(DiskSelector::default())), Err(PolicyError::Empty("never")));
        let unknown = DiskSelector { transport: vec![Transport::Unknown], ..DiskSelector::default() };
        assert_eq!(check(&policy(unknown)), Err(PolicyError::Transport("never")));
        let sizes = DiskSelector { at_least_bytes: Some(2), at_most_bytes: Some(1), ..DiskSelector::default() };
        assert_eq!(check(&policy(sizes)), Err(PolicyError::Sizes("never")));
        assert_eq!(check(&DiskPolicy::default()), Ok(()));
    }
}
