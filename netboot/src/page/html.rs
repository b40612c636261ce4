//! The page around the machines. All text that comes from outside goes through [`escape`].

use super::{
    machine,
    situation::{Headline, Tone, overview},
    words::{LANGUAGES, Words},
};
use contracts::status::StoreStatus;
use std::fmt::Write;
use time::OffsetDateTime;

/// What the page shows.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The store.
    pub status: StoreStatus,
    /// What is wrong with the repository, in the words of the check.
    pub repository_problem: Option<String>,
}

/// The whole page. Without the script it asks again by itself every ten seconds.
#[must_use]
pub fn page(shown: &Shown, words: &Words) -> String {
    let mut html = String::with_capacity(16 << 10);
    let store = &shown.status.store;
    let title = escape(&words.fill("title", &[("store", store)]));
    // The headline stands in the title too: a phone shows it among its open pages.
    let head = headline_text(&shown.status, &overview(&shown.status, shown.repository_problem.is_none()).0, words);
    head_of(&mut html, words, &format!("{} · {title}", escape(&head)), true);
    let tag = words.language.tag();
    let _ = write!(
        html,
        "<body><a class=skip href=#main>{}</a><header><p class=store>{}</p>{}</header>\
         <p id=lost class=\"note bad\" role=alert hidden>{}</p><main id=main data-live=\"/page/live?lang={tag}\">",
        words.say("skip"),
        escape(&words.fill("store", &[("store", store)])),
        languages(words),
        words.say("lost"),
    );
    html.push_str(&main(shown, words));
    html.push_str("</main></body></html>");
    html
}

/// The head of every page of ours.
pub(crate) fn head_of(html: &mut String, words: &Words, title: &str, live: bool) {
    let tag = words.language.tag();
    let _ = write!(
        html,
        "<!doctype html><html lang={tag}><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width, initial-scale=1\"><meta name=color-scheme content=\"light dark\">\
         <link rel=stylesheet href=/page/style.css><link rel=icon type=\"image/svg+xml\" href=/page/icon.svg>"
    );
    if live {
        html.push_str(
            "<script src=/page/page.js defer></script><noscript><meta http-equiv=refresh content=10></noscript>",
        );
    }
    let _ = write!(html, "<title>{title}</title></head>");
}

/// Links to the other languages, by their own names.
pub(super) fn languages(words: &Words) -> String {
    let mut html = format!("<nav aria-label=\"{}\">", words.say("languages"));
    for (language, _) in LANGUAGES.into_iter().filter(|(language, _)| *language != words.language) {
        let (tag, name) = (language.tag(), language.words().say("language"));
        let _ = write!(html, "<a href=\"?lang={tag}\" lang={tag} hreflang={tag}>{name}</a>");
    }
    html.push_str("</nav>");
    html
}

/// What changes: the part that an open page exchanges.
#[must_use]
pub fn main(shown: &Shown, words: &Words) -> String {
    let mut html = String::with_capacity(8 << 10);
    let status = &shown.status;
    let (headline, machines) = overview(status, shown.repository_problem.is_none());
    let advice = format!("{}.do", headline.key);
    let _ = write!(
        html,
        "<section id=state class=\"state {}\" role=status>{}<div><h1>{}</h1><p>{}</p></div></section>",
        headline.tone.class(),
        sign(headline.tone),
        escape(&headline_text(status, &headline, words)),
        words.say(&advice),
    );
    if let Some(problem) = &shown.repository_problem {
        let _ = write!(
            html,
            "<section id=images class=\"note bad\"><h2>{}</h2><p>{}</p><p class=report>{}</p></section>",
            words.say("images.problem"),
            words.say("images.problem.do"),
            escape(problem)
        );
    }
    fetching(&mut html, status, words);
    region(&mut html, status, words);
    super::window::note(&mut html, &status.windows, words);
    for (at, situation) in &machines {
        machine::card(&mut html, &status.machines[*at], situation, status.now, words);
    }
    spare(&mut html, !machines.is_empty(), words);
    super::window::link(&mut html, &status.windows, words);
    let _ = write!(html, "<footer><p>{}</p></footer>", as_of(status.now, words));
    html
}

fn headline_text(status: &StoreStatus, headline: &Headline, words: &Words) -> String {
    let name = headline.about.map(|at| machine::name(&status.machines[at], words)).unwrap_or_default();
    words.fill(headline.key, &[("name", &name), ("count", &headline.count.to_string())])
}

/// How far the images are that this store is fetching.
fn fetching(html: &mut String, status: &StoreStatus, words: &Words) {
    let Some(fetching) = status.cache.as_ref().and_then(|cache| cache.fetching.as_ref()) else { return };
    let percent = fetching.done.saturating_mul(100).checked_div(fetching.bytes).unwrap_or_default().min(100);
    let left = match fetching.eta_seconds {
        None => String::new(),
        Some(seconds) => words.fill("images.left", &[("minutes", &seconds.div_ceil(60).to_string())]),
    };
    let title = words.fill("images.fetching", &[("percent", &percent.to_string())]);
    let _ = write!(
        html,
        "<section id=fetching class=\"note good\"><h2>{title}</h2><p>{left} {}</p><p class=report>{}</p></section>",
        words.say("images.fetching.do"),
        escape(&fetching.what)
    );
}

fn region(html: &mut String, status: &StoreStatus, words: &Words) {
    if status.region_reachable {
        let _ = write!(html, "<p id=region class=\"note good\">{}{}</p>", sign(Tone::Good), words.say("region.up"));
        return;
    }
    let waiting = match status.events_waiting {
        0 => String::new(),
        1 => words.say("region.waiting-one").to_owned(),
        many => words.fill("region.waiting-many", &[("count", &many.to_string())]),
    };
    let _ = write!(
        html,
        "<section id=region class=\"note ask\"><h2>{}{}</h2><p>{} {}</p></section>",
        mark(Tone::Ask, Tone::Bad),
        words.say("region.down"),
        words.say("region.down.do"),
        waiting
    );
}

/// What to do with a spare: in full when nothing else is going on.
fn spare(html: &mut String, folded: bool, words: &Words) {
    let title = words.say("spare.title");
    let (open, close) = if folded {
        (format!("<details id=spare class=card><summary><h2>{title}</h2></summary>"), "</details>")
    } else {
        (format!("<section id=spare-open class=card><h2>{title}</h2>"), "</section>")
    };
    html.push_str(&open);
    html.push_str("<ol class=how>");
    for key in ["spare.power", "spare.network", "spare.button", "spare.wait"] {
        let _ = write!(html, "<li>{}</li>", words.say(key));
    }
    let _ = write!(html, "</ol><p>{}</p>{close}", words.say("spare.nothing"));
}

/// Minutes are enough: a page that changes every second is read out by screen readers every second.
fn as_of(now: OffsetDateTime, words: &Words) -> String {
    let time = super::window::clock(now, words);
    words.fill("as-of", &[("time", &time)])
}

/// A sign beside the words: colour alone is not seen by everybody.
pub(crate) fn sign(tone: Tone) -> String {
    mark(tone, tone)
}

/// The sign of one tone in the colour of another.
fn mark(colour: Tone, shape: Tone) -> String {
    let path = match shape {
        Tone::Good => "<path d=\"M6.5 12.5l3.6 3.6 7.4-8\"/>",
        Tone::Busy => "<path d=\"M12 6.5V12l3.6 2.2\"/>",
        Tone::Ask => "<path d=\"M9.2 9.4a2.9 2.9 0 1 1 4.4 2.5c-1 .6-1.6 1.1-1.6 2.2\"/><path d=\"M12 17.2v.3\"/>",
        Tone::Bad => "<path d=\"M12 6.5v6.8\"/><path d=\"M12 17v.3\"/>",
    };
    let class = colour.class();
    format!(
        "<svg class=\"sign {class}\" viewBox=\"0 0 24 24\" aria-hidden=true><circle cx=12 cy=12 r=11 />{path}</svg>"
    )
}

/// Text from machines is not to be trusted: no markup, no control characters.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
