//! Boot files on the EFI system partition of a UEFI machine: one boot image for each version, counted in its file name as the Boot
//! Loader Specification says ("Automatic Boot Assessment", `NAME+LEFT-DONE.efi`). Pure: names in, names out.
//!
//! systemd-boot puts entries that are out of tries last, and sorts the others by their names, newest first
//! (systemd-boot(7)). Our boot images have the same sort key and no version of their own, so that the name alone decides: a number
//! that grows with each update stands before the version.

use super::model::Counter;

const PREFIX: &str = "shelfboot-";
const SUFFIX: &str = ".efi";

/// A boot image's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Without counter and suffix.
    pub stem: String,
    /// The boot loader counts its starts.
    pub counter: Option<Counter>,
}

impl Name {
    /// Reads a file name; `None` when it is none of ours.
    #[must_use]
    pub fn read(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(SUFFIX).filter(|stem| stem.starts_with(PREFIX))?;
        match stem.rsplit_once('+').and_then(|(stem, count)| Some((stem, counter(count)?))) {
            Some((stem, counter)) => Some(Self { stem: stem.into(), counter: Some(counter) }),
            None => Some(Self { stem: stem.into(), counter: None }),
        }
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> String {
        let count = match self.counter {
            Some(Counter { left, done: 0 }) => format!("+{left}"),
            Some(Counter { left, done }) => format!("+{left}-{done}"),
            None => String::new(),
        };
        format!("{}{count}{SUFFIX}", self.stem)
    }

    /// The number before everything else, 0 when there is none.
    fn number(&self) -> u64 {
        let rest = self.stem.strip_prefix(PREFIX).unwrap_or_default();
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().unwrap_or(0)
    }

    /// The name of a version that comes before all `others`.
    #[must_use]
    pub fn before(others: &[Self], image_version: &str, counter: Option<Counter>) -> Self {
        let number = others.iter().map(Self::number).max().unwrap_or(0).saturating_add(1);
        // What FAT and the boot loader's pattern do not take is no part of a version, and `+` begins the counter.
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
        let version: String = image_version.chars().map(plain).take(80).collect();
        Self { stem: format!("{PREFIX}{number}-{version}"), counter }
    }
}

/// `LEFT` or `LEFT-DONE`.
fn counter(text: &str) -> Option<Counter> {
    let (left, done) = text.split_once('-').unwrap_or((text, "0"));
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    Some(Counter { left: number(left)?, done: number(done)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_the_specification() {
        let name = Name::read("shelfboot-7-2026.11.1+2-1.efi").unwrap();
        assert_eq!(name.counter, Some(Counter { left: 2, done: 1 }));
        assert_eq!(name.stem, "shelfboot-7-2026.11.1");
        let plain = Name::read("shelfboot-2026.11.1.efi").unwrap();
        assert_eq!((plain.counter, plain.number()), (None, 2026));
        let trial = Name::before(&[plain], "2026.10.1+x", Some(Counter::FRESH));
        assert_eq!(trial.file(), "shelfboot-2027-2026.10.1_x+3.efi");
        assert_eq!(Name::read("shelfboot-1+.efi").unwrap().counter, None, "as systemd-boot: no number, no counter");
        assert_eq!(Name::read("Windows.efi"), None);
        assert_eq!(Name::read("shelfboot-1.efi.old"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(version in "[ -~]{0,100}", left in 0u32..9, done in 0u32..99, counted: bool) {
            let counter = counted.then_some(Counter { left, done });
            let name = Name::before(&[], &version, counter);
            prop_assert_eq!(Name::read(&name.file()), Some(name.clone()));
            let next = Name::before(std::slice::from_ref(&name), &version, None);
            prop_assert!(next.number() > name.number());
        }

        #[test]
        fn any_name_is_survived(file in ".{0,40}") {
            let _ = Name::read(&file).map(|name| name.number());
            let _ = Name::read(&format!("shelfboot-{file}.efi")).map(|name| Name::before(&[name], &file, None));
        }
    }
}
