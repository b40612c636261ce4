use super::*;
use contracts::step::Step;
use proptest::prelude::*;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

fn braces(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect()
}

#[test]
fn every_language_has_the_same_keys_and_the_same_braces() {
    let english = Language::En.words();
    for (language, text) in LANGUAGES {
        let words = language.words();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, text) = line.split_once(" = ").unwrap_or_else(|| panic!("{language:?}: not a text: {line}"));
            assert!(!text.trim().is_empty(), "{language:?}: {key} is empty");
            assert_eq!(words.texts[key], text.trim(), "{language:?}: {key} stands there twice");
            assert!(english.texts.contains_key(key), "{language:?}: {key} is not in en.txt");
            assert_eq!(braces(text), braces(english.texts[key]), "{language:?}: {key}");
        }
        let missing: Vec<_> = english.texts.keys().filter(|key| !words.texts.contains_key(*key)).collect();
        assert!(missing.is_empty(), "{language:?} lacks {missing:?}");
    }
}

/// Rust files below a folder of this repository.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.to_str().is_some_and(|name| name.ends_with(".rs") && !name.ends_with("_tests.rs")) {
            found.push(path);
        }
    }
}

/// What stands in quotation marks right after one of these words.
fn quoted(folder: &str, words: &[&str]) -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    let mut found = BTreeSet::new();
    for text in files.iter().map(|file| std::fs::read_to_string(file).unwrap()) {
        for word in words {
            for after in text.split(word).skip(1) {
                let inner = after.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
                found.extend(inner.map(|(inner, _)| inner.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_key_that_the_page_uses_is_there() {
    let mut used = quoted("src/page", &["say(", "fill(", "find("]);
    used.extend(quoted("src/page", &["=> ", "=> ("]).into_iter().filter(|literal| literal.contains('.')));
    assert!(used.len() > 30, "{used:?}");
    let words = Language::En.words();
    for key in used.iter().filter(|key| !key.contains('{')) {
        assert!(words.find(key).is_some(), "{key}");
    }
    for step in Step::ALL {
        assert!(words.find(&format!("step.{step}")).is_some(), "{step}");
    }
}

/// The agent and this service send no code that the page has no words for.
#[test]
fn every_code_has_a_sentence_and_a_next_step() {
    let words = [".code(", "Failure::new(", "Failure::wait(", "waiting(Step::Ready, ", "code: \"", "REVOKED: &str = "];
    let mut codes = quoted("../firstboot-agent/src", &words);
    // The registry's refusals of a disk stand in a table of their own.
    let refusals = ["no-disk", "no-disk-fits", "sector-size", "foreign-data", "already-installed"];
    codes.extend(refusals.iter().chain(&["ambiguous-disk", "disk-policy"]).map(|code| (*code).to_owned()));
    codes.extend(crate::silence::CODES.map(str::to_owned));
    assert!(codes.len() > 40 && codes.contains("claim") && codes.contains("revoked"), "{codes:?}");
    for code in codes {
        for key in [format!("code.{code}"), format!("code.{code}.do")] {
            assert!(Language::En.words().find(&key).is_some(), "no words for {key}");
        }
    }
}

#[test]
fn the_browser_chooses_and_regions_do_not_matter() {
    for (header, expected) in [
        ("de-AT,de;q=0.9,en;q=0.8", Some(Language::De)),
        ("en-GB, de;q=0.9", Some(Language::En)),
        ("fr, de;q=0.3, en;q=0.7", Some(Language::En)),
        ("de;q=0, en;q=0.1", Some(Language::En)),
        ("fr,it", None),
        ("*", None),
        ("de;q=nan", None),
        ("", None),
    ] {
        assert_eq!(Language::accepted(header), expected, "{header}");
    }
}

#[test]
fn what_is_filled_in_is_not_filled_in_again() {
    let words = Language::En.words();
    assert_eq!(words.fill("state.busy", &[("name", "{count}")]), "{count} is being set up.");
    assert_eq!(words.fill("no such key", &[]), "no such key");
}

proptest! {
    #[test]
    fn any_header_is_survived(header: String) {
        let _ = Language::accepted(&header);
    }
}
