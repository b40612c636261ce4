//! The palette is readable: contrast as WCAG 2.2 computes it (success criteria 1.4.3 and 1.4.11).

use super::STYLE;
use std::collections::BTreeMap;

/// Custom properties of a block.
fn colours(block: &str) -> BTreeMap<&str, [f64; 3]> {
    let lines = block.lines().filter_map(|line| line.trim().strip_prefix("--"));
    lines
        .filter_map(|line| line.trim_end_matches(';').split_once(": #"))
        .map(|(name, hex)| {
            let part = |at: usize| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            (name, [part(0), part(2), part(4)])
        })
        .collect()
}

/// Relative luminance, WCAG 2.2.
fn luminance(colour: [f64; 3]) -> f64 {
    let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
    0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
}

fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (a, b) = (luminance(one), luminance(other));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn every_pair_of_colours_that_meet_is_readable_in_light_and_dark() {
    assert!((contrast([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9, "black on white");
    let (light, dark) = STYLE.split_once("prefers-color-scheme: dark").unwrap();
    let (light, dark) = (colours(light), colours(dark.split_once("\n}").unwrap().0));
    assert_eq!(light.keys().collect::<Vec<_>>(), dark.keys().collect::<Vec<_>>());
    assert!(light.len() >= 15);
    for (mode, palette) in [("light", &light), ("dark", &dark)] {
        let check = |front: &str, back: &str, least: f64| {
            let found = contrast(palette[front], palette[back]);
            assert!(found >= least, "{mode}: {front} on {back} is {found:.2}, must be {least}");
        };
        for back in ["page", "card"] {
            for front in ["ink", "muted", "link", "good", "busy", "ask", "bad"] {
                check(front, back, 4.5);
            }
        }
        for tone in ["busy", "good", "ask", "bad"] {
            let card = format!("{tone}-card");
            for front in ["ink", "muted", "link", tone] {
                check(front, &card, 4.5);
            }
            check(tone, "page", 3.0);
        }
        // The words on a button.
        check("card", "busy", 4.5);
        // The bar against what is not done yet.
        for tone in ["busy", "ask", "bad"] {
            check(tone, "track", 3.0);
        }
    }
}

#[test]
fn no_colour_stands_outside_the_palette() {
    let rules = STYLE.rsplit_once("* { box-sizing").unwrap().1;
    assert!(
        !rules.contains('#')
            || rules.matches('#').count()
                == rules.matches("#lost").count() + rules.matches("#spare").count() + rules.matches("#window").count()
    );
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"), "nothing is loaded from elsewhere");
}
