//! Where the entries of a document's mappings begin and end: to leave one out and keep every other line and column as it is.

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};
use std::ops::Range;

/// One `key: value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// From the key's first byte to the value's last.
    pub(crate) bytes: Range<usize>,
    /// Where the value begins.
    pub(crate) value: Option<usize>,
    /// Within `{ }`.
    flow: bool,
}

enum Frame {
    Mapping { flow: bool, key: Option<usize>, value: Option<usize> },
    Sequence,
}

/// The innermost entry that holds this byte; `None` when there is none, or the text is no YAML.
pub(crate) fn at(text: &str, byte: usize) -> Option<Entry> {
    let mut found: Option<Entry> = None;
    for entry in all(text)? {
        let inside = entry.bytes.contains(&byte);
        let smaller = found.as_ref().is_none_or(|other| entry.bytes.len() < other.bytes.len());
        if inside && smaller {
            found = Some(entry);
        }
    }
    found
}

/// The text with blanks in place of an entry, and of the comma that it had in `{ }`.
pub(crate) fn without(text: &str, entry: &Entry) -> String {
    let mut range = entry.bytes.clone();
    if entry.flow {
        let after = text[range.end..].find(|c: char| !c.is_whitespace()).map(|at| range.end + at);
        let before = text[..range.start].rfind(|c: char| !c.is_whitespace());
        match (after.filter(|at| text[*at..].starts_with(',')), before.filter(|at| text[*at..].starts_with(','))) {
            (Some(comma), _) => range.end = comma + 1,
            (None, Some(comma)) => range.start = comma,
            (None, None) => {}
        }
    }
    [&text[..range.start], &blank(&text[range.clone()]), &text[range.end..]].concat()
}

/// The text with another value in an entry. What follows in the same line may move; lines stay.
pub(crate) fn with_value(text: &str, entry: &Entry, value: &str) -> Option<String> {
    let (start, end) = (entry.value?, entry.bytes.end);
    let old = text.get(start..end)?;
    // As many characters as the new value has make room for it, but no line does.
    let room = old.chars().take_while(|c| *c != '\n').take(value.chars().count()).map(char::len_utf8).sum::<usize>();
    Some([&text[..start], value, &blank(&old[room..]), &text[end..]].concat())
}

/// Columns count characters, and places behind this one are to stay.
fn blank(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\r') { c } else { ' ' }).collect()
}

fn all(text: &str) -> Option<Vec<Entry>> {
    let (mut stack, mut entries, mut content_end) = (Vec::new(), Vec::new(), 0);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        match event {
            Event::Scalar(_, style, ..) => {
                content_end = end_of(&span, text, content_end)?;
                let mut start = span.start.byte_offset()?;
                if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    // Its span begins with its first line, its value with the sign before that.
                    start = text[..start].rfind(['|', '>']).unwrap_or(start);
                }
                node(&mut stack, &mut entries, start, Some(content_end));
            }
            Event::Alias(_) => {
                content_end = end_of(&span, text, content_end)?;
                node(&mut stack, &mut entries, span.start.byte_offset()?, Some(content_end));
            }
            Event::MappingStart(style, ..) => {
                node(&mut stack, &mut entries, span.start.byte_offset()?, None);
                stack.push(Frame::Mapping { flow: style == StructureStyle::Flow, key: None, value: None });
            }
            Event::SequenceStart(..) => {
                node(&mut stack, &mut entries, span.start.byte_offset()?, None);
                stack.push(Frame::Sequence);
            }
            Event::MappingEnd | Event::SequenceEnd => {
                stack.pop();
                // A block ends where the next one begins; only brackets are content of their own.
                if !span.is_empty() {
                    content_end = end_of(&span, text, content_end)?;
                }
                value_ended(&mut stack, &mut entries, content_end);
            }
            _ => {}
        }
    }
    Some(entries)
}

/// A key, or a value: those of one scalar end where they begin.
fn node(stack: &mut [Frame], entries: &mut Vec<Entry>, start: usize, end: Option<usize>) {
    match stack.last_mut() {
        Some(Frame::Mapping { key: key @ None, .. }) => *key = Some(start),
        frame => {
            if let Some(Frame::Mapping { value, .. }) = frame {
                *value = Some(start);
            }
            if let Some(end) = end {
                value_ended(stack, entries, end);
            }
        }
    }
}

fn value_ended(stack: &mut [Frame], entries: &mut Vec<Entry>, end: usize) {
    if let Some(Frame::Mapping { flow, key, value }) = stack.last_mut()
        && let Some(start) = key.take()
    {
        entries.push(Entry { bytes: start..end.max(start), value: value.take(), flow: *flow });
    }
}

fn end_of(span: &Span, text: &str, before: usize) -> Option<usize> {
    let (start, end) = (span.start.byte_offset()?, span.end.byte_offset()?);
    // A block scalar ends at the beginning of the line after it.
    let content = text.get(start..end)?.trim_end();
    Some((start + content.len()).max(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "a: 1\nb:\n  c: |\n    x\n    y\n  d: [1, {e: 2, f: 3}]\n# end\ng: h\n";

    fn entry(what: &str) -> String {
        let found = at(TEXT, TEXT.find(what).unwrap()).unwrap();
        TEXT[found.bytes].to_owned()
    }

    #[test]
    fn the_innermost_entry_is_found_whole() {
        assert_eq!(entry("a:"), "a: 1");
        assert_eq!(entry("c:"), "c: |\n    x\n    y");
        assert_eq!(entry("y\n"), "c: |\n    x\n    y");
        assert_eq!(entry("[1"), "d: [1, {e: 2, f: 3}]");
        assert_eq!(entry("2, f"), "e: 2");
        assert_eq!(entry("b:"), "b:\n  c: |\n    x\n    y\n  d: [1, {e: 2, f: 3}]");
        assert_eq!(entry("g:"), "g: h");
    }

    #[test]
    fn what_is_left_out_leaves_every_other_place_as_it_was() {
        let out = |what: &str| without(TEXT, &at(TEXT, TEXT.find(what).unwrap()).unwrap());
        assert_eq!(out("e:"), TEXT.replace("e: 2,", "     "));
        assert_eq!(out("f:"), TEXT.replace(", f: 3", "      "));
        assert_eq!(out("c:").lines().count(), TEXT.lines().count());
        assert_eq!(out("c:").find("d:"), TEXT.find("d:"));
    }

    #[test]
    fn another_value_keeps_the_lines() {
        let with = |what: &str| with_value(TEXT, &at(TEXT, TEXT.find(what).unwrap()).unwrap(), "[]").unwrap();
        assert_eq!(with("a:"), TEXT.replace("a: 1", "a: []"));
        assert_eq!(with("f:"), TEXT.replace("f: 3", "f: []"));
        assert_eq!(with("c:").lines().nth(2), Some("  c: []"));
        assert_eq!(with("b:").lines().count(), TEXT.lines().count());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[a-c:{},\\[\\] \n\u{e9}#|-]{0,60}", byte in 0usize..80) {
            if let Some(entry) = at(&text, byte) {
                if let Some(left) = with_value(&text, &entry, "[]") {
                    prop_assert_eq!(left.lines().count(), text.lines().count());
                }
                let left = without(&text, &entry);
                prop_assert_eq!(left.chars().count(), text.chars().count());
                prop_assert_eq!(left.lines().count(), text.lines().count());
            }
        }
    }
}
