use super::*;
use crate::page::{
    testing::{machine, store},
    words::Language,
};
use contracts::{event::StepStatus, status::MachineStatus, step::Step};

fn shown(machines: Vec<MachineStatus>) -> Shown {
    Shown { status: store(machines), repository_problem: None }
}

fn english(machines: Vec<MachineStatus>) -> String {
    page(&shown(machines), Language::En.words())
}

#[test]
fn text_from_machines_cannot_become_markup() {
    let evil = "<script>alert('x')</script>\r\ndata: x";
    let mut machine = machine(Step::Install, StepStatus::Failed, Some("<b>\"x"), evil);
    machine.name = Some(evil.into());
    machine.mac = "\"><img src=x>".into();
    let mut shown = shown(vec![machine]);
    shown.repository_problem = Some(evil.into());
    shown.status.store = evil.into();
    for (language, _) in LANGUAGES {
        let html = page(&shown, language.words());
        assert!(!html.contains("<script>") && !html.contains("<img") && !html.contains("<b>\"x"), "{html}");
        assert!(html.contains("&lt;script&gt;"));
        assert!(!html.contains(['\r', '\n']), "live updates are lines of their own");
    }
}

#[test]
fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
    let html = english(vec![machine(Step::Install, StepStatus::Progress, None, "")]);
    assert!(!html.contains("style=") && !html.contains("<style") && !html.contains("onclick") && !html.contains("://"));
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains("<script src=/page/page.js defer></script>"));
    assert!(html.contains("<noscript><meta http-equiv=refresh content=10></noscript>"));
}

#[test]
fn an_empty_store_says_what_to_do_with_a_spare() {
    let html = english(vec![]);
    assert!(html.contains("No server is being set up.") && html.contains("Press the power button."));
    assert!(html.contains("<section id=spare-open"), "unfolded");
    let busy = english(vec![machine(Step::Install, StepStatus::Progress, None, "")]);
    assert!(busy.contains("<details id=spare"), "folded while something goes on");
}

#[test]
fn the_line_to_the_region_is_told_in_plain_words() {
    assert!(english(vec![]).contains("The line to head office works."));
    let mut down = shown(vec![]);
    (down.status.region_reachable, down.status.events_waiting) = (false, 3);
    let html = page(&down, Language::En.words());
    assert!(html.contains("The line to head office is down.") && html.contains("3 messages wait"), "{html}");
    down.status.events_waiting = 1;
    assert!(page(&down, Language::De.words()).contains("Eine Nachricht wartet"));
}

#[test]
fn the_other_language_is_one_visible_link_away() {
    let html = english(vec![]);
    assert!(html.contains("<html lang=en>") && html.contains("<a href=\"?lang=de\" lang=de hreflang=de>Deutsch</a>"));
    let german = page(&shown(vec![]), Language::De.words());
    assert!(german.contains("<html lang=de>") && german.contains("Es wird kein Server eingerichtet."));
    assert!(german.contains("data-live=\"/page/live?lang=de\""), "live updates stay in the language");
}

#[test]
fn catalogues_hold_text_and_no_markup() {
    for (language, text) in LANGUAGES {
        assert!(!text.contains(['<', '>', '&']), "{language:?}");
    }
}

#[test]
fn images_that_are_on_their_way_are_no_fault() {
    let mut coming = shown(vec![]);
    let fetching = contracts::status::Fetching {
        what: "k8s-worker <2>".into(),
        bytes: 200,
        done: 86,
        reused: 0,
        rate: 1,
        limit: None,
        eta_seconds: Some(700),
        machine_waits: false,
    };
    coming.status.cache = Some(contracts::status::CacheStatus { fetching: Some(fetching), ..Default::default() });
    let html = page(&coming, Language::En.words());
    assert!(
        html.contains("being fetched: 43 %") && html.contains("About 12 minutes") && html.contains("&lt;2&gt;"),
        "{html}"
    );
    assert!(page(&coming, Language::De.words()).contains("Noch etwa 12 Minuten"));
}
