//! One machine's part of the page.

use super::{
    html::{escape, sign},
    situation::{Code, Situation},
    words::Words,
};
use contracts::{
    event::StepStatus,
    status::{MachineStatus, Remaining, StepLine},
    step::Step,
};
use std::fmt::Write;
use time::{Duration, OffsetDateTime};

/// The longest report that is shown; codes and claim codes stand elsewhere in full.
const LONGEST_REPORT: usize = 2000;
const STEPS: usize = Step::ALL.len();

/// The name that staff finds: the inventory's.
#[must_use]
pub fn name(machine: &MachineStatus, words: &Words) -> String {
    machine.name.clone().unwrap_or_else(|| words.say("unknown-machine").to_owned())
}

/// Writes the machine's section.
pub(super) fn card(
    html: &mut String,
    machine: &MachineStatus,
    situation: &Situation,
    now: OffsetDateTime,
    words: &Words,
) {
    let (name, mac) = (escape(&name(machine, words)), escape(&machine.mac.to_uppercase()));
    let id: String = machine.mac.chars().filter(char::is_ascii_hexdigit).collect();
    let tone = situation.tone();
    let _ = write!(
        html,
        "<section id=m-{id} class=\"card {}\" aria-labelledby=n-{id}><div class=name>{}<h2 id=n-{id}>{name}</h2>\
         <p class=mac>{} <span class=code>{mac}</span></p></div>",
        tone.class(),
        sign(tone),
        words.say("mac"),
    );
    match situation {
        Situation::Stranger => said(html, words.say("now.stranger"), words.say("now.stranger.do")),
        Situation::Heard => said(html, words.say("now.heard"), ""),
        Situation::Asked => said(html, words.say("now.asked"), words.say("code.wait.do")),
        Situation::Disk => said(html, words.say("now.disk"), ""),
        Situation::Working => said(html, words.say("now.working"), ""),
        Situation::Busy => {}
        Situation::Claim(code) => claim(html, code, words),
        Situation::Waits(code) | Situation::Check(code) | Situation::Failed(code) => trouble(html, code, words),
    }
    if !matches!(situation, Situation::Stranger | Situation::Heard | Situation::Working | Situation::Disk) {
        progress(html, machine, &id, words);
    }
    if *situation == Situation::Busy {
        time_left(html, machine, now, words);
    }
    details(html, machine, &id, words);
    html.push_str("</section>");
}

fn said(html: &mut String, what: &str, do_next: &str) {
    let _ = write!(html, "<p class=now>{what}</p>");
    if !do_next.is_empty() {
        let _ = write!(html, "<p>{do_next}</p>");
    }
}

fn claim(html: &mut String, code: &str, words: &Words) {
    let groups: Vec<String> = code.split('-').map(|group| format!("<span>{}</span>", escape(group))).collect();
    let _ = write!(
        html,
        "<p class=now>{}</p><div class=claim><p class=label>{}</p><p class=\"code big\">{}</p></div><p>{}</p>",
        words.say("code.claim"),
        words.say("claim.title"),
        groups.join("<b>-</b>"),
        words.say("claim.do"),
    );
}

/// What a code means, what to do, the code itself, and for support what to look at.
fn trouble(html: &mut String, code: &Code, words: &Words) {
    let key = format!("code.{}", code.code);
    let known = words.find(&key).zip(words.find(&format!("{key}.do")));
    let (what, do_next) = known.unwrap_or((words.say("code-unknown"), words.say("code-unknown.do")));
    said(html, what, do_next);
    if known.is_none() && !code.message.is_empty() {
        report(html, &code.message, words);
    }
    let _ = write!(
        html,
        "<p class=support><span class=label>{}</span> <span class=\"code mid\">{}</span></p>",
        words.say("code-for-support"),
        escape(&code.code)
    );
}

fn report(html: &mut String, message: &str, words: &Words) {
    let _ =
        write!(html, "<p class=report><span class=label>{}</span> {}</p>", words.say("said"), escape(short(message)));
}

/// The beginning of a text, cut between characters.
fn short(text: &str) -> &str {
    let end = text.char_indices().map(|(at, _)| at).nth(LONGEST_REPORT).unwrap_or(text.len());
    &text[..end]
}

/// Which of the twelve steps, and how far.
fn progress(html: &mut String, machine: &MachineStatus, id: &str, words: &Words) {
    let Some(line) = machine.steps.last() else { return };
    let number = position(line.step) + 1;
    let share = line.progress.filter(|share| (0.0..=1.0).contains(share));
    let done = if line.status == StepStatus::Done { 1.0 } else { share.unwrap_or(0.0) };
    let step = words.say(step_key(line.step));
    let place =
        words.fill("step-now", &[("number", &number.to_string()), ("count", &STEPS.to_string()), ("step", step)]);
    let of = escape(&words.fill("progress", &[("name", &name(machine, words))]));
    let value = (number - 1) as f64 + done;
    let _ = write!(
        html,
        "<div class=far><label for=p-{id}>{place}</label><progress id=p-{id} max={STEPS} value={value:.2} \
         aria-label=\"{of}\"></progress>"
    );
    if let Some(share) = share.filter(|_| line.status == StepStatus::Progress) {
        let percent = format!("{:.0}", share * 100.0);
        let _ = write!(html, "<p class=share>{}</p>", words.fill("step-share", &[("percent", &percent)]));
    }
    html.push_str("</div>");
}

fn position(step: Step) -> usize {
    Step::ALL.iter().position(|other| *other == step).unwrap_or(0)
}

/// Literals, so that a test finds every key that is used.
const fn step_key(step: Step) -> &'static str {
    match step {
        Step::PowerOn => "step.power-on",
        Step::Netboot => "step.netboot",
        Step::Network => "step.network",
        Step::Assign => "step.assign",
        Step::Plan => "step.plan",
        Step::Partition => "step.partition",
        Step::Install => "step.install",
        Step::Verify => "step.verify",
        Step::Restart => "step.restart",
        Step::Enroll => "step.enroll",
        Step::Join => "step.join",
        Step::Ready => "step.ready",
    }
}

/// How long still: as far as it is known, and where that is known from.
fn time_left(html: &mut String, machine: &MachineStatus, now: OffsetDateTime, words: &Words) {
    let left = machine.remaining.unwrap_or_default();
    html.push_str("<div class=left>");
    let (title, time, why) = match (left.journey_seconds, left.step_seconds) {
        (Some((low, high)), _) => ("left.title", between(low, high, words), known_from(&left, words)),
        (None, Some(seconds)) => ("left.step-title", about(seconds, words), words.say("left.rest-unknown").to_owned()),
        (None, None) => ("", String::new(), words.say("left.unknown").to_owned()),
    };
    if !title.is_empty() {
        let _ = write!(html, "<p><span class=label>{}</span> <span class=large>{time}</span></p>", words.say(title));
    }
    let _ = write!(html, "<p class=why>{why}</p>");
    if left.late {
        let _ = write!(html, "<p class=why>{}</p>", words.say("left.late"));
    }
    if let Some(first) = machine.steps.first() {
        let running = now - first.started;
        if running >= Duration::minutes(1) {
            let seconds = u64::try_from(running.whole_seconds()).unwrap_or(0);
            let time = minutes(seconds / 60, words);
            let _ = write!(html, "<p class=why>{}</p>", words.fill("since", &[("time", &time)]));
        }
    }
    html.push_str("</div>");
}

fn known_from(left: &Remaining, words: &Words) -> String {
    match left.earlier {
        0 | 1 => words.say("left.from-one").to_owned(),
        many => words.fill("left.from-many", &[("count", &many.to_string())]),
    }
}

pub(super) fn minutes(minutes: u64, words: &Words) -> String {
    match minutes {
        0 => words.say("left.soon").to_owned(),
        1 => words.say("left.one-minute").to_owned(),
        many => words.fill("left.minutes", &[("minutes", &many.to_string())]),
    }
}

/// Rounded up to minutes: a promise that is kept early is a good one.
fn about(seconds: u64, words: &Words) -> String {
    between(seconds, seconds, words)
}

fn between(low: u64, high: u64, words: &Words) -> String {
    let (few, many) = (low.div_ceil(60).max(1), high.div_ceil(60).max(1));
    if high < 45 {
        words.say("left.soon").to_owned()
    } else if few == many {
        words.fill("left.about", &[("time", &minutes(many, words))])
    } else {
        words.fill("left.between", &[("low", &few.to_string()), ("high", &minutes(many, words))])
    }
}

/// For the phone with support: every step with its time and the machine's own words, and what to look at.
fn details(html: &mut String, machine: &MachineStatus, id: &str, words: &Words) {
    if machine.steps.is_empty() {
        return;
    }
    let _ = write!(html, "<details id=d-{id}><summary>{}</summary>", words.say("details"));
    checks(html, machine, words);
    let _ = write!(html, "<ol class=steps aria-label=\"{}\">", words.say("steps"));
    // A device that is not on the list has no journey before it.
    let shown = if machine.name.is_some() { STEPS } else { machine.steps.len() };
    for (at, step) in Step::ALL.into_iter().enumerate().take(shown) {
        let line = machine.steps.iter().find(|line| line.step == step);
        let (class, state) = state(line, words);
        let _ = write!(
            html,
            "<li class={class}><p><span class=number>{}</span> {} <span class=state-word>{state}</span></p>",
            at + 1,
            words.say(step_key(step)),
        );
        if let Some(line) = line {
            let seconds = (line.updated - line.started).whole_seconds().max(0);
            let _ = write!(html, "<p class=report><span class=code>{step}</span> {seconds} s");
            if let Some(code) = &line.code {
                let _ = write!(html, " <span class=code>{}</span>", escape(code));
            }
            let _ = write!(html, " {}</p>", escape(short(&line.message)));
        }
        html.push_str("</li>");
    }
    html.push_str("</ol></details>");
}

fn checks(html: &mut String, machine: &MachineStatus, words: &Words) {
    let Some(code) = machine.steps.last().and_then(|line| line.code.as_deref()) else { return };
    let checks: Vec<&str> = (1..10).map_while(|n| words.find(&format!("code.{code}.check.{n}"))).collect();
    if !checks.is_empty() {
        let items: String = checks.iter().map(|check| format!("<li>{}</li>", escape(check))).collect();
        let _ = write!(html, "<ol class=checks>{items}</ol>");
    }
}

fn state<'a>(line: Option<&StepLine>, words: &Words) -> (&'static str, &'a str) {
    match line.map(|line| line.status) {
        Some(StepStatus::Done) => ("done", words.say("status.done")),
        Some(StepStatus::Started | StepStatus::Progress) => ("busy", words.say("status.now")),
        Some(StepStatus::Waiting) => ("ask", words.say("status.waiting")),
        Some(StepStatus::Failed) => ("bad", words.say("status.failed")),
        None => ("todo", words.say("status.todo")),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
