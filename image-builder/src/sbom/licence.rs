//! Licence statements of Debian's copyright files as SPDX expressions.
//!
//! A short name becomes an SPDX id only where both stand for the same licence. Everything else stays a licence of its own,
//! `LicenseRef-…`, with Debian's name and, where it is known, its text.
//!
//! Sources: <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-specification>,
//! <https://spdx.org/licenses/>, SPDX 2.3 annex D.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// A licence that SPDX has no id for, or that its name alone does not tell apart from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// `LicenseRef-…`, different for different texts.
    pub id: String,
    /// As the copyright file calls it.
    pub name: String,
    /// The licence itself, where the copyright file has it.
    pub text: Option<String>,
}

/// A licence statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// One licence, as the copyright file calls it.
    One(String),
    /// All of them apply.
    All(Vec<Statement>),
    /// Whoever receives the work chooses.
    Any(Vec<Statement>),
}

/// Short names that stand for the same licence as an SPDX id, in lower case. Not in the list, on purpose: `MIT`, `X11`,
/// `Artistic`, `GPL`, `Python`, `public-domain`, whose texts differ from package to package.
const SAME: &[(&str, &str)] = &[
    ("0bsd", "0BSD"),
    ("afl-2.1", "AFL-2.1"),
    ("apache-1.0", "Apache-1.0"),
    ("apache-1.1", "Apache-1.1"),
    ("apache-2", "Apache-2.0"),
    ("apache-2.0", "Apache-2.0"),
    ("artistic-2", "Artistic-2.0"),
    ("artistic-2.0", "Artistic-2.0"),
    ("beerware", "Beerware"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-4-clause", "BSD-4-Clause"),
    ("bsl-1.0", "BSL-1.0"),
    ("cc-by-3.0", "CC-BY-3.0"),
    ("cc-by-4.0", "CC-BY-4.0"),
    ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
    ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
    ("cc0", "CC0-1.0"),
    ("cc0-1.0", "CC0-1.0"),
    ("cddl-1.0", "CDDL-1.0"),
    ("curl", "curl"),
    ("expat", "MIT"),
    ("fsfap", "FSFAP"),
    ("fsful", "FSFUL"),
    ("fsfullr", "FSFULLR"),
    ("gfdl-niv-1.2", "GFDL-1.2-no-invariants-only"),
    ("gfdl-niv-1.2+", "GFDL-1.2-no-invariants-or-later"),
    ("gfdl-niv-1.3", "GFDL-1.3-no-invariants-only"),
    ("gfdl-niv-1.3+", "GFDL-1.3-no-invariants-or-later"),
    ("isc", "ISC"),
    ("mpl-1.1", "MPL-1.1"),
    ("mpl-2.0", "MPL-2.0"),
    ("ms-pl", "MS-PL"),
    ("ofl-1.1", "OFL-1.1"),
    ("psf-2.0", "PSF-2.0"),
    ("unicode-3.0", "Unicode-3.0"),
    ("unicode-dfs-2016", "Unicode-DFS-2016"),
    ("unlicense", "Unlicense"),
    ("zlib", "Zlib"),
];

/// Licences that come in versions, `-only` or `-or-later`, with the versions that SPDX knows.
const FAMILIES: &[(&str, &[&str])] = &[
    ("gpl", &["1.0", "2.0", "3.0"]),
    ("lgpl", &["2.0", "2.1", "3.0"]),
    ("agpl", &["1.0", "3.0"]),
    ("gfdl", &["1.1", "1.2", "1.3"]),
];

/// Exceptions by the words between `with` and `exception`, in lower case.
const EXCEPTIONS: &[(&str, &str)] =
    &[("linux-syscall-note", "Linux-syscall-note"), ("llvm", "LLVM-exception"), ("bison-2.2", "Bison-exception-2.2")];

/// The SPDX term for a licence, if it is certain: an id, or `ID WITH EXCEPTION`.
#[must_use]
pub fn spdx_id(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split_whitespace().collect();
    match words.as_slice() {
        [one] => same(one),
        [one, "with", exception, "exception"] => {
            let exception = EXCEPTIONS.iter().find(|(known, _)| known == exception)?.1;
            Some(format!("{} WITH {exception}", same(one)?))
        }
        _ => None,
    }
}

fn same(name: &str) -> Option<String> {
    if let Some((_, id)) = SAME.iter().find(|(known, _)| *known == name) {
        return Some((*id).to_owned());
    }
    let (family, rest) = name.split_once('-')?;
    let (_, versions) = FAMILIES.iter().find(|(known, _)| *known == family)?;
    let (version, later) = match rest.strip_suffix('+').or_else(|| rest.strip_suffix("-or-later")) {
        Some(version) => (version, "or-later"),
        None => (rest.strip_suffix("-only").unwrap_or(rest), "only"),
    };
    let version = if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
    versions.contains(&version.as_str()).then(|| format!("{}-{version}-{later}", family.to_ascii_uppercase()))
}

/// Reads the first line of a `License` field. `and` binds closer than `or`, a comma before either of them ends what was
/// before it. A line that does not follow that grammar stays whole: one licence of that name.
#[must_use]
pub fn parse(line: &str) -> Option<Statement> {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return None;
    }
    Some(grammar(&line).unwrap_or(Statement::One(line)))
}

fn grammar(line: &str) -> Option<Statement> {
    let mut whole: Option<Statement> = None;
    for part in line.split(',').map(str::trim) {
        let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
        whole = Some(match (whole, word.to_ascii_lowercase().as_str()) {
            (None, _) => group(part)?,
            (Some(before), "and") => join(vec![before, group(rest)?], true),
            (Some(before), "or") => join(vec![before, group(rest)?], false),
            // A list without a word says not how its members go together.
            (Some(_), _) => return None,
        });
    }
    whole
}

/// A part without commas.
fn group(text: &str) -> Option<Statement> {
    let (mut any, mut all, mut words): (Vec<Statement>, Vec<Statement>, Vec<&str>) = Default::default();
    let end = |words: &mut Vec<&str>| match words.is_empty() {
        true => None,
        false => Some(Statement::One(std::mem::take(words).join(" "))),
    };
    for word in text.split(' ') {
        match word.to_ascii_lowercase().as_str() {
            "and" => all.push(end(&mut words)?),
            "or" => {
                all.push(end(&mut words)?);
                any.push(join(std::mem::take(&mut all), true));
            }
            "and/or" | "|" | "&" => return None,
            _ => words.push(word),
        }
    }
    all.push(end(&mut words)?);
    any.push(join(all, true));
    Some(join(any, false))
}

fn join(parts: Vec<Statement>, all: bool) -> Statement {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Statement::All(inner) if all => flat.extend(inner),
            Statement::Any(inner) if !all => flat.extend(inner),
            other => flat.push(other),
        }
    }
    match (flat.len(), all) {
        (1, _) => flat.remove(0),
        (_, true) => Statement::All(flat),
        (_, false) => Statement::Any(flat),
    }
}

/// What a package declares: one SPDX expression, and the licences in it that SPDX has no id for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// For example `(GPL-1.0-or-later OR LicenseRef-Artistic-0a1b2c3d) AND MIT`.
    pub expression: String,
    /// By id.
    pub named: Vec<Named>,
}

/// Joins statements, all of which apply to some part of `package`; `text_of` gives the text of a licence. `None` without
/// any statement.
#[must_use]
pub fn declare(package: &str, statements: &[Statement], text_of: impl Fn(&str) -> Option<String>) -> Option<Declared> {
    let mut named: BTreeMap<String, Named> = BTreeMap::new();
    let mut parts = BTreeSet::new();
    let mut term = |name: &str| {
        spdx_id(name).unwrap_or_else(|| {
            let licence = reference(package, name, text_of(name));
            let id = licence.id.clone();
            named.insert(id.clone(), licence);
            id
        })
    };
    for statement in statements {
        match statement {
            Statement::All(inner) => parts.extend(inner.iter().map(|part| render(part, &mut term))),
            other => {
                parts.insert(render(other, &mut term));
            }
        }
    }
    let alone = parts.len() == 1;
    let part = |part: &String| if !alone && part.contains(" OR ") { format!("({part})") } else { part.clone() };
    let expression = parts.iter().map(part).collect::<Vec<_>>().join(" AND ");
    (!parts.is_empty()).then(|| Declared { expression, named: named.into_values().collect() })
}

fn render(statement: &Statement, term: &mut impl FnMut(&str) -> String) -> String {
    match statement {
        Statement::One(name) => term(name),
        Statement::All(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| render(part, term)).collect();
            let inside = |part: &String| if part.contains(" OR ") { format!("({part})") } else { part.clone() };
            parts.iter().map(inside).collect::<Vec<_>>().join(" AND ")
        }
        // Sorted, so that `A or B` and `B or A` are the same.
        Statement::Any(parts) => parts
            .iter()
            .map(|part| render(part, term))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" OR "),
    }
}

/// An id from name and text. Without a text nobody can say that two packages mean the same, so theirs differ.
fn reference(package: &str, name: &str, text: Option<String>) -> Named {
    let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let hashed = text.as_deref().map_or_else(|| format!("{package}\n{name}"), normal);
    let digest = hex::encode(&Sha256::digest(hashed.as_bytes())[..4]);
    let slug: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(48).collect();
    let slug = slug.trim_matches(['-', '.']);
    let slug = if slug.is_empty() { "unnamed" } else { slug };
    Named { id: format!("LicenseRef-{slug}-{digest}"), name: name.to_owned(), text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expression(lines: &[&str]) -> String {
        let statements: Vec<Statement> = lines.iter().filter_map(|line| parse(line)).collect();
        declare("p", &statements, |name| Some(format!("text of {name}"))).unwrap().expression
    }

    #[test]
    fn only_certain_names_become_spdx_ids() {
        for (name, id) in [
            ("GPL-2+", "GPL-2.0-or-later"),
            ("GPL-2.0-only", "GPL-2.0-only"),
            ("LGPL-2.1", "LGPL-2.1-only"),
            ("Expat", "MIT"),
            ("BSD-3-clause", "BSD-3-Clause"),
            ("ZLIB", "Zlib"),
            ("GFDL-1.3+", "GFDL-1.3-or-later"),
            ("GPL-2 with Linux-syscall-note exception", "GPL-2.0-only WITH Linux-syscall-note"),
        ] {
            assert_eq!(spdx_id(name).as_deref(), Some(id), "{name}");
        }
        for name in ["MIT", "GPL", "Artistic", "GPL-4", "LGPL-1", "public-domain", "GPL-2+ with OpenSSL exception", ""]
        {
            assert_eq!(spdx_id(name), None, "{name}");
        }
    }

    #[test]
    fn statements_become_expressions() {
        assert_eq!(expression(&["GPL-2+ or BSD-3-clause"]), "BSD-3-Clause OR GPL-2.0-or-later");
        let mixed = expression(&["GPL-2+ or AFL-2.1, and Expat", "Expat", "ISC"]);
        assert_eq!(mixed, "(AFL-2.1 OR GPL-2.0-or-later) AND ISC AND MIT");
        assert_eq!(expression(&["GPL-2 or ISC and Expat"]), "GPL-2.0-only OR ISC AND MIT");
        assert!(expression(&["GPL-2, ISC"]).starts_with("LicenseRef-GPL-2--ISC-"));
        assert_eq!(declare("p", &[], |_| None), None);
    }

    #[test]
    fn a_licence_is_told_apart_by_its_text() {
        let text = |text: &str| reference("p", "public-domain", Some(text.into())).id;
        assert_eq!(text("do as\n you like"), text("do as you  like"));
        assert_ne!(text("do as you like"), text("no rights reserved"));
        assert_ne!(reference("a", "custom", None).id, reference("b", "custom", None).id);
    }

    proptest! {
        #[test]
        fn every_line_becomes_a_well_formed_expression(
            line in "((GPL-2\\+|Expat|and|or|AND|,|with|x y|é/) ?){0,9}", other in "\\PC{0,40}",
        ) {
            let statements: Vec<Statement> = [&line, &other].into_iter().filter_map(|line| parse(line)).collect();
            let Some(declared) = declare("p", &statements, |_| None) else { return Ok(()) };
            let open = declared.expression.matches('(').count();
            prop_assert_eq!(open, declared.expression.matches(')').count());
            for word in declared.expression.split([' ', '(', ')']).filter(|word| !word.is_empty()) {
                prop_assert!(word.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)), "{}", word);
            }
        }
    }
}
