//! The message catalogues: one plain file per language, `key = text` a line, compiled in.
//!
//! Another language is one more file beside `words/en.txt` and one more line in [`LANGUAGES`].

use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::LazyLock};

/// A language that the page speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// German.
    De,
}

/// All languages with their catalogues.
pub const LANGUAGES: [(Language, &str); 2] =
    [(Language::En, include_str!("words/en.txt")), (Language::De, include_str!("words/de.txt"))];

/// The longest `Accept-Language` that is looked at; browsers send some dozens of bytes.
const LONGEST_HEADER: usize = 1024;

static CATALOGUES: LazyLock<HashMap<Language, Words>> = LazyLock::new(|| {
    LANGUAGES.into_iter().map(|(language, text)| (language, Words { language, texts: parse(text) })).collect()
});

/// One language's texts.
#[derive(Debug)]
pub struct Words {
    /// Which.
    pub language: Language,
    texts: HashMap<&'static str, &'static str>,
}

/// Lines of a catalogue. Lines without ` = ` say nothing; a test finds them.
fn parse(text: &'static str) -> HashMap<&'static str, &'static str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = ")).map(|(key, text)| (key.trim(), text.trim())).collect()
}

impl Language {
    /// Its tag in HTML, links and headers (BCP 47).
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    /// The language of a tag such as `de-AT`.
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        LANGUAGES.iter().map(|(language, _)| *language).find(|language| primary.eq_ignore_ascii_case(language.tag()))
    }

    /// What a browser asks for (RFC 9110, section 12.5.4): the language that we have with the highest quality, the first of
    /// equals. `None` when it names none of ours.
    #[must_use]
    pub fn accepted(header: &str) -> Option<Self> {
        let header = header.get(..LONGEST_HEADER).unwrap_or(header);
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',').take(32) {
            let mut parts = range.split(';').map(str::trim);
            let Some(language) = parts.next().and_then(Self::of_tag) else { continue };
            let quality = parts.find_map(|p| p.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
            // 0 means: not this one. NaN is not greater than anything.
            if let Some(quality) = quality.filter(|q| *q > 0.0 && *q <= 1.0)
                && best.is_none_or(|(known, _)| quality > known)
            {
                best = Some((quality, language));
            }
        }
        best.map(|(_, language)| language)
    }

    /// Its catalogue.
    #[must_use]
    pub fn words(self) -> &'static Words {
        &CATALOGUES[&self]
    }
}

impl Words {
    /// A text without braces. A key that is missing shows itself; a test keeps that from happening.
    #[must_use]
    pub fn say<'a>(&self, key: &'a str) -> &'a str
    where
        'static: 'a,
    {
        self.texts.get(key).copied().unwrap_or(key)
    }

    /// A text that may be missing.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&'static str> {
        self.texts.get(key).copied()
    }

    /// A text with its braces filled in.
    #[must_use]
    pub fn fill(&self, key: &str, values: &[(&str, &str)]) -> String {
        let mut rest = self.say(key);
        let mut filled = String::with_capacity(rest.len() + 32);
        // One pass: what is filled in may hold braces itself.
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let Some((name, after)) = after.split_once('}') else { break };
            filled.push_str(values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
