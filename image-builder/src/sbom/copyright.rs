//! Debian's machine-readable copyright files (DEP-5): which licences a package states, and their texts. Pure.
//!
//! Source: <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>.

use super::{
    dpkg,
    licence::{self, Declared, Statement},
};
use std::collections::BTreeMap;

/// A licence text longer than this is cut, with a mark.
const MAX_TEXT: usize = 64 << 10;

/// What a package says about its licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Licence {
    /// Its copyright file is machine-readable.
    Declared(Declared),
    /// There is a copyright file for people only, or one that names no licence.
    ForPeople,
    /// There is no copyright file.
    NoFile,
}

impl Licence {
    /// What it declares, if it does.
    #[must_use]
    pub fn declared(&self) -> Option<&Declared> {
        match self {
            Self::Declared(declared) => Some(declared),
            Self::ForPeople | Self::NoFile => None,
        }
    }

    /// Why there is no licence, for people.
    #[must_use]
    pub fn why_not(&self) -> Option<&'static str> {
        match self {
            Self::Declared(_) => None,
            Self::ForPeople => Some("the package's copyright file is not machine-readable"),
            Self::NoFile => Some("the package has no copyright file"),
        }
    }
}

/// Reads the copyright file of `package`.
///
/// The licences of all its files are joined with AND: the file describes the source package, and which of its files went into
/// which binary is not in it.
#[must_use]
pub fn read(package: &str, text: Option<&str>) -> Licence {
    let Some(text) = text else { return Licence::NoFile };
    let mut paragraphs = dpkg::paragraphs(text);
    let machine_readable = paragraphs.next().is_some_and(|header| {
        let format = header.get("format").or_else(|| header.get("format-specification"));
        format.is_some_and(|format| format.contains("copyright-format") || format.to_ascii_lowercase().contains("dep"))
    });
    if !machine_readable {
        return Licence::ForPeople;
    }
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut statements: Vec<Statement> = Vec::new();
    for paragraph in paragraphs {
        let Some(field) = paragraph.get("license") else { continue };
        let (line, text) = field.split_once('\n').unwrap_or((field, ""));
        if !text.trim().is_empty() {
            texts.entry(line.trim().to_ascii_lowercase()).or_insert_with(|| plain(text));
        }
        if paragraph.contains_key("files") {
            statements.extend(licence::parse(line));
        }
    }
    let text_of = |name: &str| texts.get(&name.to_ascii_lowercase()).cloned();
    licence::declare(package, &statements, text_of).map_or(Licence::ForPeople, Licence::Declared)
}

/// A field's text without its marks: a line of one dot is an empty line.
fn plain(text: &str) -> String {
    let lines = text.lines().map(|line| if line.trim() == "." { "" } else { line.trim_end() });
    let mut out = lines.collect::<Vec<_>>().join("\n");
    if out.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| out.is_char_boundary(*end)).unwrap_or(0);
        out.truncate(end);
        out.push_str("\n[…]");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: tool

Files: *
Copyright: 2020 Somebody
License: GPL-2+

Files: lib/*
Copyright: 2020 Somebody else
License: Expat or Own
 Do as
 .
 you like.

License: GPL-2+
 On Debian systems look elsewhere.

License: Own
 My own words.
";

    #[test]
    fn licences_of_all_files_are_joined() {
        let licence = read("tool", Some(FILE));
        let declared = licence.declared().unwrap();
        assert_eq!(declared.named.len(), 1);
        let own = &declared.named[0];
        assert_eq!(declared.expression, format!("GPL-2.0-or-later AND ({} OR MIT)", own.id));
        assert_eq!((own.name.as_str(), own.text.as_deref()), ("Own", Some("My own words.")));
    }

    #[test]
    fn what_is_not_machine_readable_is_not_guessed_at() {
        assert_eq!(read("p", Some("This package was debianized by hand.\n\nLicense: GPL\n")), Licence::ForPeople);
        assert_eq!(read("p", None), Licence::NoFile);
        let nothing = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n";
        assert_eq!(read("p", Some(nothing)), Licence::ForPeople);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "((Format: copyright-format|Files:|License:|\\.|Expat| or |\\PC{0,9})\n? ?){0,30}") {
            let _ = read("p", Some(&text));
        }
    }
}
