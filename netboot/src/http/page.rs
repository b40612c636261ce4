//! The store page: what each machine is doing, in words for the staff, without any script.

use crate::{
    board::{BOOT_REFUSED, BOOT_REFUSED_CHECKS},
    shared::Shared,
};
use axum::{extract::State, http::header, response::IntoResponse};
use contracts::{
    event::StepStatus,
    status::{MachineStatus, StepLine, StoreStatus},
    step::Step,
};
use std::{fmt::Write, sync::Arc};
use time::OffsetDateTime;

/// `GET /`.
pub async fn page(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let html = render(&shared.status(), shared.boot.current().problem.as_deref());
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], html)
}

const HEAD: &str = "<!doctype html><html lang=en><head><meta charset=utf-8>\
<meta http-equiv=refresh content=5><meta name=viewport content='width=device-width, initial-scale=1'>\
<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:48rem;margin:1rem auto;padding:0 1rem;color:#222}\
section{border:1px solid #999;border-radius:.5rem;padding:0 1rem 1rem;margin:1rem 0}\
table{border-collapse:collapse;width:100%}td{border-top:1px solid #ddd;padding:.2rem .5rem;vertical-align:top}\
td:not(:last-child){white-space:nowrap}.now{font-size:1.3rem}.bad{color:#a00000}.good{color:#006400}progress{width:100%}</style>";

/// Writes the page.
fn render(status: &StoreStatus, repository_problem: Option<&str>) -> String {
    let mut html = String::from(HEAD);
    let store = escape(&status.store);
    // Writing into a String cannot fail.
    let _ = write!(html, "<title>Store {store}</title></head><body><h1>Store {store}</h1>");
    if !status.region_reachable {
        let waiting = status.events_waiting;
        let _ = write!(
            html,
            "<p class=bad>The line to the region is down. Leave everything plugged in: it goes on by itself. \
             ({waiting} messages wait.)</p>"
        );
    }
    if let Some(problem) = repository_problem {
        let _ =
            write!(html, "<p class=bad>The images of this store have a problem. Tell support: {}</p>", escape(problem));
    }
    if status.machines.is_empty() {
        html.push_str("<p class=now>No machine has asked for anything yet. Plug in power and network.</p>");
    }
    for machine in &status.machines {
        render_machine(&mut html, machine);
    }
    let _ = write!(html, "<p><small>{}</small></p></body></html>", when(status.now));
    html
}

fn render_machine(html: &mut String, machine: &MachineStatus) {
    let name = escape(machine.name.as_deref().unwrap_or("Unknown machine"));
    let (class, words) = advice(machine);
    let _ = write!(html, "<section><h2>{name}</h2><p class='now {class}'>{}</p><table>", escape(&words));
    for line in &machine.steps {
        let mark = match line.status {
            StepStatus::Done => "done",
            StepStatus::Failed => "failed",
            StepStatus::Waiting => "waiting",
            StepStatus::Started | StepStatus::Progress => "now",
        };
        let seconds = (line.updated - line.started).whole_seconds();
        let _ = write!(html, "<tr><td>{}<td>{mark}<td>{seconds} s<td>{}", line.step, escape(&line.message));
        if let Some(progress) = line.progress.filter(|_| mark == "now") {
            let _ = write!(html, "<br><progress max=1 value={progress:.3}></progress>");
        }
    }
    html.push_str("</table>");
    if machine.steps.last().is_some_and(|line| line.code.as_deref() == Some(BOOT_REFUSED)) {
        html.push_str("<p>For support, look at:<ol>");
        for check in BOOT_REFUSED_CHECKS {
            let _ = write!(html, "<li>{}", escape(check));
        }
        html.push_str("</ol>");
    }
    let _ = write!(html, "<p><small>Network address {}</small></p></section>", escape(&machine.mac));
}

/// How it stands and what to do, in one or two sentences.
fn advice(machine: &MachineStatus) -> (&'static str, String) {
    let Some(line) = machine.steps.last() else { return ("", "Heard. Nothing has happened yet.".into()) };
    let number = Step::ALL.iter().position(|s| *s == line.step).map_or(0, |at| at + 1);
    match (line.step, line.status) {
        (_, StepStatus::Failed) => {
            let code = line.code.as_deref().unwrap_or(line.step.as_str());
            ("bad", format!("It needs help. Call support and read out: {code}"))
        }
        (Step::Ready, StepStatus::Done) => ("good", "It is working. Nothing to do.".into()),
        (Step::Netboot, StepStatus::Waiting) if line.code.as_deref() == Some(BOOT_REFUSED) => {
            let words = format!(
                "It got its boot image, but does not start it. Its firmware may have refused the image. \
                 Call support and read out: {BOOT_REFUSED}"
            );
            ("bad", words)
        }
        (Step::PowerOn, _) if machine.name.is_none() => {
            let words = "It asks to be set up, but it is not in this store's list. If it is a spare, call support \
                         and read out its network address.";
            ("bad", words.into())
        }
        (Step::PowerOn, _) if machine.installed => ("", "It is starting from its disk. Nothing to do.".into()),
        (_, StepStatus::Waiting) => ("", waiting(line)),
        _ => ("", format!("Step {number} of {}. Leave it switched on.", Step::ALL.len())),
    }
}

fn waiting(line: &StepLine) -> String {
    // A claim code stands in the sentence itself; a second code beside it would be read out too.
    let code = line.code.as_deref().filter(|code| *code != "claim");
    let code = code.map(|c| format!(" (code for support: {c})")).unwrap_or_default();
    format!("It waits: {}{code}. Leave it switched on.", line.message.trim_end_matches('.'))
}

fn when(now: OffsetDateTime) -> String {
    format!("{} {:02}:{:02}:{:02} UTC", now.date(), now.hour(), now.minute(), now.second())
}

/// Text from machines is not to be trusted.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    fn machine(step: Step, status: StepStatus, code: Option<&str>) -> MachineStatus {
        let at = OffsetDateTime::UNIX_EPOCH;
        let line = StepLine {
            step,
            status,
            started: at,
            updated: at,
            progress: Some(0.5),
            message: "<script>alert('x')</script>".into(),
            code: code.map(str::to_owned),
        };
        MachineStatus {
            mac: "02:00:00:00:00:01".into(),
            name: Some("w1".into()),
            boot_bytes: 0,
            install_bytes: 0,
            installed: false,
            tries: 0,
            paused_until: None,
            steps: vec![line],
        }
    }

    fn page(mut machine: MachineStatus, seconds: i64) -> String {
        crate::board::note_silence(&mut machine, OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds));
        let status = StoreStatus {
            version: 1,
            store: "store-17".into(),
            now: OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds),
            region_reachable: true,
            events_waiting: 0,
            events_refused: 0,
            state_problem: None,
            windows: vec![],
            dhcp_servers: vec![],
            machines: vec![machine],
        };
        render(&status, None)
    }

    #[test]
    fn the_staff_is_told_what_to_do() {
        let failed = page(machine(Step::Plan, StepStatus::Failed, Some("foreign-data")), 1);
        assert!(failed.contains("Call support and read out: foreign-data"));
        assert!(page(machine(Step::Ready, StepStatus::Done, None), 1).contains("It is working"));
        assert!(page(machine(Step::Install, StepStatus::Progress, None), 1).contains("Step 7 of 12"));
        let claim = page(machine(Step::Enroll, StepStatus::Waiting, Some("claim")), 1);
        assert!(claim.contains("It waits") && !claim.contains("code for support"), "{claim}");
        let handed_out = machine(Step::Netboot, StepStatus::Done, None);
        assert!(!page(handed_out.clone(), 60).contains("boot-refused"));
        let refused = page(handed_out, 600);
        assert!(refused.contains("boot-refused") && refused.contains("Access Denied"), "{refused}");
    }

    #[test]
    fn text_from_machines_cannot_become_markup() {
        let html = page(machine(Step::Install, StepStatus::Progress, None), 1);
        assert!(!html.contains("<script") && html.contains("&lt;script"));
        assert!(html.contains("http-equiv=refresh"));
    }
}
