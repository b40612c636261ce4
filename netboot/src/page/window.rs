//! The page on which somebody in the store lets spares in, and what the main page says of it.

use super::{
    html::{escape, head_of, languages},
    machine::minutes,
    words::Words,
};
use contracts::window::WindowStatus;
use std::fmt::Write;
use time::OffsetDateTime;

/// What went wrong with the last try, as a key of the catalogue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// The key.
    pub key: &'static str,
    /// Seconds to wait.
    pub wait: u64,
    /// A code for support.
    pub code: Option<&'static str>,
}

/// The part of the main page that says what is open.
pub(super) fn note(html: &mut String, windows: &[WindowStatus], words: &Words) {
    let tag = words.language.tag();
    let open: Vec<&WindowStatus> = windows.iter().filter(|window| window.open_until.is_some()).collect();
    if !open.is_empty() {
        html.push_str("<section id=window class=\"note busy\">");
        for window in &open {
            let _ = write!(html, "<p>{}</p>", state(window, words));
        }
        let _ = write!(html, "<p><a href=\"/window?lang={tag}\">{}</a></p></section>", words.say("window.change"));
    }
}

/// The way to the form, while nothing is open.
pub(super) fn link(html: &mut String, windows: &[WindowStatus], words: &Words) {
    let may = |window: &WindowStatus| window.store_may_open_minutes.is_some();
    if windows.iter().any(may) && windows.iter().all(|window| window.open_until.is_none()) {
        let (tag, text) = (words.language.tag(), words.say("window.link"));
        let _ = write!(html, "<p id=window-link><a href=\"/window?lang={tag}\">{text}</a></p>");
    }
}

fn state(window: &WindowStatus, words: &Words) -> String {
    let places = window.places_left.to_string();
    let Some(until) = window.open_until else { return words.fill("window.closed", &[("places", &places)]) };
    words.fill("window.open", &[("time", &clock(until, words)), ("places", &places)])
}

/// A time of day; the script puts the reader's own clock time into it.
pub(super) fn clock(at: OffsetDateTime, words: &Words) -> String {
    let utc = words.fill("time-utc", &[("time", &format!("{:02}:{:02}", at.hour(), at.minute()))]);
    format!("<time datetime=\"{}T{:02}:{:02}:00Z\">{utc}</time>", at.date(), at.hour(), at.minute())
}

/// The whole form page.
#[must_use]
pub fn page(
    store: &str,
    windows: &[WindowStatus],
    pin_is_set: bool,
    token: &str,
    problem: Option<&Problem>,
    words: &Words,
) -> String {
    let mut html = String::with_capacity(8 << 10);
    let title = words.say("window.title");
    head_of(&mut html, words, &format!("{title} · {}", escape(&words.fill("title", &[("store", store)]))), false);
    let tag = words.language.tag();
    let _ = write!(
        html,
        "<body><header><p class=store>{}</p>{}</header><main id=main><h1>{title}</h1>",
        escape(&words.fill("store", &[("store", store)])),
        languages(words)
    );
    if let Some(problem) = problem {
        let wait = minutes(problem.wait.div_ceil(60), words);
        let text = words.fill(problem.key, &[("time", &wait)]);
        let code = problem.code.map(|code| format!(" <span class=code>{code}</span>")).unwrap_or_default();
        let _ = write!(html, "<p class=\"note bad\" role=alert>{text}{code}</p>");
    }
    let _ = write!(html, "<p>{}</p>", words.say("window.about"));
    let mut offered = 0;
    for window in windows {
        if window.store_may_open_minutes.is_some() || window.open_until.is_some() {
            one(&mut html, window, pin_is_set, token, words);
            offered += 1;
        }
    }
    if offered == 0 {
        let _ = write!(html, "<p class=\"note busy\">{}</p>", words.say("window.none"));
    } else if !pin_is_set {
        let _ = write!(html, "<p class=\"note ask\">{}</p>", words.say("window.no-pin"));
    }
    let _ = write!(html, "<p><a href=\"/?lang={tag}\">{}</a></p></main></body></html>", words.say("window.back"));
    html
}

fn one(html: &mut String, window: &WindowStatus, pin_is_set: bool, token: &str, words: &Words) {
    let name = escape(&window.name);
    let _ = write!(
        html,
        "<section class=card><h2>{name}</h2><p>{}</p><p>{}</p>",
        escape(&words.fill("window.what", &[("template", &window.template)])),
        state(window, words)
    );
    let (open, longest) = (window.open_until.is_some(), window.store_may_open_minutes);
    if !pin_is_set || (!open && window.places_left == 0) {
        if window.places_left == 0 {
            let _ = write!(html, "<p>{}</p>", words.say("window.full"));
        }
        html.push_str("</section>");
        return;
    }
    let _ = write!(
        html,
        "<form method=post action=\"/window?lang={}\"><input type=hidden name=token value=\"{}\">\
         <input type=hidden name=window value=\"{name}\">",
        words.language.tag(),
        escape(token)
    );
    let field = |html: &mut String, key: &str, name: &str, most: u32, value: u32| {
        let id = format!("{name}-{}", window.name);
        let _ = write!(
            html,
            "<p><label for=\"{0}\">{1}</label><input id=\"{0}\" name={name} type=number inputmode=numeric min=1 max={most} \
             value={value} required></p>",
            escape(&id),
            words.say(key)
        );
    };
    if let Some(longest) = longest.filter(|_| !open) {
        field(html, "window.machines", "machines", window.places_left, 1);
        field(html, "window.minutes", "minutes", longest, longest);
    }
    let id = escape(&format!("pin-{}", window.name));
    let (action, label) = if open { ("close", "window.do-close") } else { ("open", "window.do-open") };
    let _ = write!(
        html,
        "<p><label for=\"{id}\">{}</label><input id=\"{id}\" name=pin type=password autocomplete=off minlength=6 \
         maxlength=64 required></p><button name=action value={action}>{}</button></form></section>",
        words.say("window.pin"),
        words.say(label)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::words::Language;
    use time::Duration;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn window(open: bool, minutes: Option<u32>, places_left: u32) -> WindowStatus {
        WindowStatus {
            name: "spares<1>".into(),
            template: "k8s-worker".into(),
            open_until: open.then(|| NOW + Duration::hours(1)),
            places_left,
            places_taken: 0,
            store_may_open_minutes: minutes,
        }
    }

    fn form(windows: &[WindowStatus], pin_is_set: bool) -> String {
        page("s", windows, pin_is_set, "1.ab", None, Language::En.words())
    }

    #[test]
    fn only_what_the_store_may_do_is_offered() {
        let may_open = form(&[window(false, Some(30), 2)], true);
        assert!(may_open.contains("value=open") && may_open.contains("max=30") && may_open.contains("max=2"));
        assert!(may_open.contains("spares&lt;1&gt;") && !may_open.contains("spares<1>"), "{may_open}");
        assert!(form(&[window(true, None, 2)], true).contains("value=close"), "anything open may be closed");
        assert!(!form(&[window(false, None, 2)], true).contains("<form"), "the region's alone");
        assert!(!form(&[window(false, Some(30), 0)], true).contains("<form"), "no place left");
        let no_pin = form(&[window(false, Some(30), 2)], false);
        assert!(!no_pin.contains("<form") && no_pin.contains("This store has no PIN yet."));
    }

    #[test]
    fn what_went_wrong_is_said_first() {
        let problem = Problem { key: "window.wait", wait: 61, code: None };
        let html = page("s", &[], true, "t", Some(&problem), Language::De.words());
        assert!(html.contains("role=alert>Es gab zu viele falsche PINs.") && html.contains("in 2 Minuten"), "{html}");
    }

    #[test]
    fn the_main_page_says_what_is_open() {
        let note = |windows: &[WindowStatus]| {
            let mut html = String::new();
            note(&mut html, windows, Language::En.words());
            link(&mut html, windows, Language::En.words());
            html
        };
        assert!(note(&[window(true, Some(30), 2)]).contains("01:00 UTC</time>. Places left: 2."));
        assert!(note(&[window(false, Some(30), 2)]).contains("/window?lang=en"));
        assert_eq!(note(&[window(false, None, 2)]), "");
    }
}
