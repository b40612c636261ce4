//! What this program has said, bounded: how an attempt began, and how it ended. The middle goes first.

use contracts::logs;
use std::{collections::VecDeque, time::Duration};

/// Bytes of the first lines, which say on what machine and how it began.
const FIRST: usize = 16 << 10;
/// Bytes of the last lines.
const LAST: usize = logs::MOST_LINES - FIRST - 256;
/// A longer line is cut, in characters.
const LONGEST: usize = 2000;

/// The lines.
#[derive(Debug, Default)]
pub struct Book {
    first: Vec<String>,
    first_bytes: usize,
    last: VecDeque<String>,
    last_bytes: usize,
    left_out: u64,
    written: u64,
}

impl Book {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { first: Vec::new(), first_bytes: 0, last: VecDeque::new(), last_bytes: 0, left_out: 0, written: 0 }
    }

    /// Takes in one line that was said so long after the kernel started. What must not be kept is left out.
    pub fn write(&mut self, uptime: Duration, text: &str) {
        let text: String = text.chars().take(LONGEST).collect();
        let line = format!("{:>9.3} {}", uptime.as_secs_f64(), logs::clean(&text));
        self.written += 1;
        // With its line end.
        let bytes = line.len() + 1;
        if self.last.is_empty() && self.first_bytes + bytes <= FIRST {
            self.first_bytes += bytes;
            self.first.push(line);
            return;
        }
        self.last_bytes += bytes;
        self.last.push_back(line);
        while self.last_bytes > LAST
            && let Some(oldest) = self.last.pop_front()
        {
            self.last_bytes -= oldest.len() + 1;
            self.left_out += 1;
        }
    }

    /// How many lines were ever written.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// All that is left, as one text, and how many lines are missing from its middle.
    #[must_use]
    pub fn text(&self) -> (String, u64) {
        let gap = (self.left_out > 0).then(|| format!("          ({} lines are left out here)", self.left_out));
        let lines: Vec<&str> = self.first.iter().chain(&gap).chain(&self.last).map(String::as_str).collect();
        (lines.join("\n"), self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_beginning_and_the_end_stay() {
        let mut book = Book::new();
        for n in 0..10_000 {
            book.write(
                Duration::from_millis(n * 10),
                &format!("line {n} of an install that goes on for a very long time"),
            );
        }
        let (text, left_out) = book.text();
        assert!(text.starts_with("    0.000 line 0 of"), "{}", &text[..60]);
        assert!(text.ends_with("line 9999 of an install that goes on for a very long time"));
        assert!(left_out > 0 && text.contains(&format!("({left_out} lines are left out here)")));
        assert_eq!(text.lines().count() as u64, 10_001 - left_out);
        assert!(text.len() <= logs::MOST_LINES);
    }

    #[test]
    fn a_claim_code_is_not_kept() {
        let mut book = Book::new();
        let code = contracts::claim::code("ab", uuid::Uuid::from_u128(3));
        book.write(Duration::ZERO, &format!("[enroll] waiting: read out the claim code {code} (code claim)"));
        assert!(!book.text().0.contains(&code));
    }

    proptest! {
        #[test]
        fn whatever_is_said_it_stays_bounded(lines in prop::collection::vec(".{0,400}", 0..50), times in 1..40_u32) {
            let mut book = Book::new();
            for _ in 0..times {
                for line in &lines {
                    book.write(Duration::from_secs(1), line);
                }
            }
            let (text, left_out) = book.text();
            prop_assert!(text.len() <= logs::MOST_LINES);
            let gap = u64::from(left_out > 0);
            prop_assert_eq!(text.lines().count() as u64 + left_out - gap, book.written());
        }
    }
}
