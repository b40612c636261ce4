//! Everything that is wrong in a configuration file, at once, with line and column. The reader stops at the first mistake;
//! the entry that it names is blanked in a copy of the text, so that lines stay as they are, and the copy is read again.

use crate::config::{RawConfig, Wrong};
use serde::Serialize;
use std::path::Path;

/// More than this in one file is not worth naming.
const MOST: usize = 32;
/// A configuration is a page or two.
const LARGEST: usize = 256 << 10;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The line, from 1, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
}

/// All mistakes of a file's text; none when it is a configuration.
#[must_use]
pub fn all(text: &str, path: &Path) -> Vec<Mistake> {
    let mut found: Vec<Mistake> = Vec::new();
    if text.len() > LARGEST {
        let message = format!("the file has {} bytes, more than {LARGEST}: it is no configuration", text.len());
        return vec![Mistake { line: None, column: None, message }];
    }
    let mut left = text.to_owned();
    while found.len() < MOST {
        let error = match serde_saphyr::from_str::<RawConfig>(&left) {
            Ok(raw) => {
                let wrong = raw.validate(path).err().unwrap_or_default();
                found.extend(wrong.into_iter().map(|wrong| value(text, &wrong)));
                break;
            }
            Err(error) => error,
        };
        let error = error.without_snippet();
        let at = error.location().and_then(|at| Some((number(at.line())?, number(at.column())?)));
        let message = error.to_string();
        // The place is said by line and column.
        let message = message.split(" at line ").next().unwrap_or_default().trim_end_matches([':', ',']).to_owned();
        // A field that is missing because its line was blanked is no second mistake.
        let echo = !found.is_empty() && message.starts_with("missing field");
        let again = at.is_some() && found.iter().any(|known| known.line == at.map(|(line, _)| line));
        if echo || again {
            break;
        }
        found.push(Mistake { line: at.map(|(line, _)| line), column: at.map(|(_, column)| column), message });
        match at.and_then(|(line, _)| without(&left, line)) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    found.sort_by_key(|mistake| mistake.line);
    found
}

fn number(n: impl TryInto<usize>) -> Option<usize> {
    n.try_into().ok().filter(|n| *n > 0)
}

/// A value that cannot work, with the place of its setting.
fn value(text: &str, (setting, problem): &Wrong) -> Mistake {
    let top = setting.split('.').next().unwrap_or(setting);
    let line = text.lines().position(|line| line.strip_prefix(top).is_some_and(|rest| rest.starts_with(':')));
    Mistake { line: line.map(|line| line + 1), column: line.map(|_| 1), message: format!("{setting}: {problem}") }
}

/// The text without the entry that begins at or above a line: the line itself, and what is indented deeper below it. None
/// when nothing of it is left.
fn without(text: &str, line: usize) -> Option<String> {
    let lines: Vec<&str> = text.split('\n').collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let first = lines.get(line - 1).filter(|line| !line.trim().is_empty())?;
    let deeper = |line: &&&str| line.trim().is_empty() || indent(line) > indent(first);
    let more = lines[line..].iter().take_while(deeper).count();
    let kept =
        lines.iter().enumerate().map(|(at, text)| if (line - 1..line + more).contains(&at) { "" } else { *text });
    Some(kept.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "apiVersion: shelfboot.dev/v1\nkind: Netboot\ninterface: br0\nrepository: r\ntrust: t\nstate: s\n\
                        credential: c\n";

    fn said(text: &str) -> Vec<(Option<usize>, String)> {
        all(text, Path::new("/etc/x.yaml")).into_iter().map(|mistake| (mistake.line, mistake.message)).collect()
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        assert_eq!(said(GOOD), []);
        let text = GOOD.replace("br0", "../x")
            + "htpPort: 81\naddress: 0.0.0.0\nsandbox:\n  landlok: true\ncheckEvery: soon\n";
        let found = said(&text);
        let lines: Vec<_> = found.iter().map(|(line, _)| line.unwrap()).collect();
        assert_eq!(lines, [3, 8, 9, 11, 12], "{found:?}");
        for (at, word) in ["interface: ", "htpPort", "address: ", "landlok", "checkEvery: "].iter().enumerate() {
            assert!(found[at].1.contains(word), "{found:?}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_hides_nothing_behind_it() {
        let found = said(
            &GOOD
                .replace("state: s", "state: [s]")
                .replace("kind: Netboot", "kind: Toaster")
                .replace("interface: br0", "interface: br0\nhttpPort: eighty"),
        );
        assert!(
            found.iter().any(|(line, _)| *line == Some(4)) && found.iter().any(|(line, _)| *line == Some(7)),
            "{found:?}"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,80}(\\n\\PC{0,30}){0,6}") {
            prop_assert!(all(&text, Path::new("x")).len() <= MOST + 16);
        }

        #[test]
        fn any_damage_to_a_good_file_is_survived(at in 0usize..130, with in "\\PC{0,3}") {
            let at = at.min(GOOD.len());
            let damaged = format!("{}{with}{}", &GOOD[..at], &GOOD[at..]);
            let good = crate::config::Config::parse(&damaged, Path::new("x")).is_ok();
            prop_assert_eq!(good, all(&damaged, Path::new("x")).is_empty());
        }
    }
}
