//! What a machine logged of one attempt: one document, sent to netboot when the attempt ends, or later when it could not.
//!
//! Everything in it is bounded, and none of it is secret: see [`LogBundle::tidy`].

use crate::{event::StepStatus, step::Step};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// The most of the agent's own lines, in bytes.
pub const MOST_LINES: usize = 128 << 10;
/// The most of the kernel's messages, in bytes.
pub const MOST_KERNEL: usize = 64 << 10;
/// The longest sentence of why it ended, in characters.
pub const LONGEST_MESSAGE: usize = 2000;
/// The longest code, and the longest version of a program, in characters.
pub const LONGEST_WORD: usize = 64;
/// A tidy bundle is never longer than this as JSON: quotes, backslashes and line ends take two bytes there.
pub const LARGEST: usize = 2 * (MOST_LINES + MOST_KERNEL) + 2 * 4 * (LONGEST_MESSAGE + 3 * LONGEST_WORD) + (1 << 10);

/// What a machine logged of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBundle {
    /// [`crate::VERSION`].
    pub version: u32,
    /// Which attempt: the one of its events.
    pub attempt: Uuid,
    /// The MAC address of the machine's boot NIC, in lower case with colons.
    pub mac: String,
    /// Which program wrote it.
    pub part: LogPart,
    /// The agent's version.
    pub agent: String,
    /// When it was put together, by the machine's clock, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// How the attempt ended.
    pub end: LogEnd,
    /// The agent's lines, oldest first, each after the seconds since the kernel started.
    pub lines: String,
    /// How many lines were left out of the middle.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// The last of the kernel's messages, as dmesg(1) shows them.
    pub kernel: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Which program a bundle is of. The first start of an installed system goes on with the attempt of its install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogPart {
    /// The boot image.
    Installer,
    /// The service in the installed system.
    Installed,
}

impl LogPart {
    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installer => "installer",
            Self::Installed => "installed",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// The last step that was reported, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// How it stood.
    pub status: StepStatus,
    /// The stable code of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A sentence.
    pub message: String,
}

impl LogBundle {
    /// Makes it what the limits above say, whoever wrote it: control characters become spaces, what is too long is cut (of
    /// lines the oldest go), and words that must not be kept are taken out: claim codes, and private keys in PEM.
    pub fn tidy(&mut self) {
        for text in [&mut self.lines, &mut self.kernel] {
            *text = text.lines().map(clean).collect::<Vec<_>>().join("\n");
        }
        keep_tail(&mut self.lines, MOST_LINES);
        keep_tail(&mut self.kernel, MOST_KERNEL);
        self.end.message = cut(&clean(&self.end.message), LONGEST_MESSAGE);
        self.end.code = self.end.code.as_deref().map(|code| cut(&clean(code), LONGEST_WORD));
        self.agent = cut(&clean(&self.agent), LONGEST_WORD);
        self.mac = cut(&clean(&self.mac), LONGEST_WORD);
    }
}

/// One line without control characters, and without what must not be kept.
#[must_use]
pub fn clean(line: &str) -> String {
    let printable: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if printable.contains("PRIVATE KEY") {
        return "(a line with a private key is left out)".into();
    }
    printable
        .split(' ')
        .map(|word| if is_claim_code(word) { "(code left out)" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Three groups of four, as [`crate::claim::code`] makes them, with whatever punctuation stands around.
fn is_claim_code(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let mut groups = word.split('-');
    let is_group = |group: &str| group.len() == 4 && group.bytes().all(|b| crate::claim::ALPHABET.contains(&b));
    groups.by_ref().take(3).filter(|group| is_group(group)).count() == 3 && groups.next().is_none()
}

/// The last whole lines that fit into so many bytes.
fn keep_tail(text: &mut String, most: usize) {
    if text.len() <= most {
        return;
    }
    let mut from = text.len() - most;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    // A half line says nothing; one line that is longer than everything is cut.
    let whole = text[from..].find('\n').map_or(from, |end| from + end + 1);
    text.drain(..whole);
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn bundle(lines: &str, kernel: &str, message: &str) -> LogBundle {
        LogBundle {
            version: crate::VERSION,
            attempt: Uuid::from_u128(u128::MAX),
            mac: message.into(),
            part: LogPart::Installer,
            agent: message.into(),
            time: OffsetDateTime::UNIX_EPOCH,
            end: LogEnd {
                step: Some(Step::Partition),
                status: StepStatus::Progress,
                code: Some(message.into()),
                message: message.into(),
            },
            lines: lines.into(),
            left_out: u64::MAX,
            kernel: kernel.into(),
        }
    }

    #[test]
    fn what_must_not_be_kept_is_left_out() {
        let code = crate::claim::code("ab", Uuid::from_u128(7));
        let line = clean(&format!("read out the claim code {code} (a person decides), or \"{code}\"."));
        assert_eq!(line, "read out the claim code (code left out) (a person decides), or (code left out)");
        assert_eq!(clean("-----BEGIN PRIVATE KEY-----"), "(a line with a private key is left out)");
        assert_eq!(clean("a\u{1b}[2Jb"), "a [2Jb");
        for kept in ["0123-4567", "aaaa-bbbb-cccc", "1234-5678-9ABC-DEFG", "at 2026-11-21"] {
            assert_eq!(clean(kept), kept);
        }
    }

    #[test]
    fn of_long_texts_the_last_whole_lines_stay() {
        let line = format!("{}\n", "x".repeat(99));
        let mut long = bundle(&line.repeat(2000), "", "");
        long.lines.push_str("the end");
        long.tidy();
        assert!(long.lines.len() <= MOST_LINES && long.lines.len() > MOST_LINES - 200);
        assert!(long.lines.starts_with('x') && long.lines.ends_with("the end"));
    }

    #[test]
    fn the_longest_bundle_fits() {
        let text = "\"".repeat(300 << 10);
        let mut longest = bundle(&text, &text, &text);
        longest.tidy();
        assert!(serde_json::to_vec(&longest).unwrap().len() <= LARGEST);
    }

    proptest! {
        #[test]
        fn a_tidy_bundle_is_bounded_and_stays_as_it_is(
            lines in "\\PC{0,300}|[\\n\\r\\x00-\\x7f]{0,300}", times in 1_usize..2000, message in ".{0,3000}",
        ) {
            let text = lines.repeat(times.min((400 << 10) / (lines.len() + 1) + 1));
            let mut bundle = bundle(&text, &text, &message);
            bundle.tidy();
            prop_assert!(bundle.lines.len() <= MOST_LINES && bundle.kernel.len() <= MOST_KERNEL);
            prop_assert!(serde_json::to_vec(&bundle).unwrap().len() <= LARGEST);
            prop_assert!(!bundle.lines.chars().any(|c| c.is_control() && c != '\n'));
            let before = bundle.clone();
            bundle.tidy();
            prop_assert_eq!(before, bundle);
        }
    }
}
