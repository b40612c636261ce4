//! The story on so many columns and rows, as cells with colours. Pure. It is made for 80 by 25, the least that a screen shows.

use super::{
    advice::advice,
    big,
    story::{Story, Trouble},
};
use crate::deadline;
use contracts::step::Step;
use qrcode::{EcLevel, QrCode};
use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Gauge, Paragraph, Widget as _, Wrap},
};
use std::time::Instant;

/// The size of a screen that does not say its own.
pub const SMALLEST: (u16, u16) = (80, 25);
/// Longer lines are hard to read.
const WIDEST: u16 = 100;
/// The light rim beside a QR code is four modules wide (ISO/IEC 18004). Above and below there is room for two; the bar and a
/// blank line are beyond them.
const RIM: (i32, i32) = (4, 2);
/// Columns of the QR code, which has at most 29 modules a side: more would not fit into the rows.
const QR_COLUMNS: u16 = 29 + 2 * 4;

const BAR: Style = Style::new().fg(Color::White).bg(Color::Blue).add_modifier(Modifier::BOLD);
const QUIET: Style = Style::new().fg(Color::Gray);
const BOLD: Style = Style::new().fg(Color::White).add_modifier(Modifier::BOLD);

/// What people see of the journey, in order: words, and the last step that belongs to them.
const CHAPTERS: [(&str, Step); 9] = [
    ("Start from the network", Step::Netboot),
    ("Find the store's boot service", Step::Network),
    ("Ask what this machine is to be", Step::Assign),
    ("Choose the disk", Step::Partition),
    ("Fetch the system", Step::Install),
    ("Check every block of it", Step::Verify),
    ("Restart from the disk", Step::Restart),
    ("Ask the region for admission", Step::Enroll),
    ("Join the cluster", Step::Ready),
];

/// Draws it.
#[must_use]
pub fn draw(story: &Story, now: Instant, (columns, rows): (u16, u16)) -> Buffer {
    let size = Rect::new(0, 0, columns.max(SMALLEST.0), rows.max(SMALLEST.1));
    let mut buffer = Buffer::empty(size);
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(size);
    bar(&mut buffer, head, " Shelfboot", &format!("{} ", story.version));
    bar(&mut buffer, foot, &format!(" {}", identity(story)), &format!("attempt {} ", first(&story.attempt, 8)));
    let width = (size.width - 4).min(WIDEST);
    // In the middle of a wide screen, and a little down on a high one.
    let (right, down) = ((size.width - width) / 2, (size.height - SMALLEST.1) / 4);
    let body = Rect { x: right, y: body.y + down, width, height: body.height - down };
    match &story.trouble {
        Some(trouble) => in_trouble(&mut buffer, body, story, trouble, now),
        None => under_way(&mut buffer, body, story, now),
    }
    buffer
}

fn bar(buffer: &mut Buffer, place: Rect, left: &str, right: &str) {
    buffer.set_style(place, BAR);
    Paragraph::new(left).style(BAR).render(place, buffer);
    Paragraph::new(right).right_aligned().style(BAR).render(Rect { x: 40, width: place.width - 40, ..place }, buffer);
}

fn identity(story: &Story) -> String {
    match (story.mac.as_str(), story.service.as_str()) {
        ("", _) => "looking for the store".to_owned(),
        (mac, service) => format!("machine {mac}, store {service}"),
    }
}

/// The first characters of it.
fn first(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

fn under_way(buffer: &mut Buffer, body: Rect, story: &Story, now: Instant) {
    let [_, headline, _, chapters, _, meter, words, _, lines] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(CHAPTERS.len() as u16),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(0),
    ])
    .areas(body);
    let text = if story.is_ready() {
        "This machine is ready and at work."
    } else if now.saturating_duration_since(story.begun) > deadline::JOURNEY {
        "This takes longer than the half hour that it should. It goes on; call support."
    } else {
        "This machine is being set up. Leave it on; there is nothing to press."
    };
    Paragraph::new(text).style(BOLD).render(headline, buffer);
    Paragraph::new(chapter_lines(story)).render(chapters, buffer);
    if let Some(under_way) = &story.now {
        if let Some(fraction) = under_way.fraction {
            let left = under_way.end.map_or_else(String::new, |end| {
                format!(", about {} left", duration(end.saturating_duration_since(now).as_secs()))
            });
            Gauge::default()
                .ratio(fraction)
                .label(format!("{:.0} %{left}", fraction * 100.0))
                .style(Style::new().fg(Color::Green).bg(Color::Black))
                .render(meter, buffer);
        }
        Paragraph::new(under_way.message.as_str()).wrap(Wrap { trim: true }).render(words, buffer);
    }
    log(buffer, lines, story);
}

fn chapter_lines(story: &Story) -> Vec<Line<'static>> {
    // What happened before this program was there went well, or it would not be there.
    let done = story.done.unwrap_or(Step::Netboot);
    let now = story.now.as_ref().and_then(|now| CHAPTERS.iter().position(|(_, last)| now.step <= *last));
    let line = |(index, &(words, last)): (usize, &(&'static str, Step))| {
        let (mark, style) = if now == Some(index) {
            ("now   ", BOLD)
        } else if last <= done || now.is_some_and(|now| index < now) {
            ("done  ", Style::new().fg(Color::Green))
        } else {
            ("      ", QUIET)
        };
        Line::styled(format!("{mark}{words}"), style)
    };
    CHAPTERS.iter().enumerate().map(line).collect()
}

/// The newest lines that fit.
fn log(buffer: &mut Buffer, place: Rect, story: &Story) {
    let skipped = story.lines.len().saturating_sub(place.height.into());
    let lines: Vec<Line<'_>> = story.lines.iter().skip(skipped).map(|line| Line::raw(line.as_str())).collect();
    Paragraph::new(lines).style(QUIET).render(place, buffer);
}

fn in_trouble(buffer: &mut Buffer, body: Rect, story: &Story, trouble: &Trouble, now: Instant) {
    let [headline, _, code, _, rest] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(0),
    ])
    .areas(body);
    let (text, colour) = match (trouble.code.as_str(), trouble.waits) {
        ("claim", _) => ("Waiting for support: call them and read out this code.", Color::Yellow),
        ("retired" | "staged", _) => ("Done: this machine can go to the shelf. Switch it off.", Color::Green),
        (_, true) => ("Waiting. Somebody elsewhere has to decide.", Color::Yellow),
        (_, false) => ("This machine cannot go on.", Color::Red),
    };
    Paragraph::new(text).style(Style::new().fg(colour).add_modifier(Modifier::BOLD)).render(headline, buffer);
    let shown = story.claim_code().unwrap_or(&trouble.code);
    match big::letters(shown, code.width.into()) {
        Some(rows) => Paragraph::new(rows.map(Line::from).to_vec()).style(BOLD).render(code, buffer),
        None => Paragraph::new(shown).style(BOLD).render(code, buffer),
    }
    let [words, picture] = Layout::horizontal([Constraint::Min(0), Constraint::Length(QR_COLUMNS)]).areas(rest);
    let words = Rect { width: words.width - 2, ..words };
    let part = |title: &'static str, text: String| [Line::styled(title, BOLD), Line::raw(text), Line::raw("")];
    let next = next_words(story, now);
    let mut advice = advice(&trouble.code).to_owned();
    // Its own words may be too long for the screen.
    if let Some(number) = story.permit_number() {
        advice = format!("{advice} If the data may go, support asks for this number: {number}");
    }
    let what = match trouble.code.as_str() {
        "retired" | "staged" => "What was done",
        _ => "What went wrong",
    };
    let lines: Vec<Line<'_>> =
        [part(what, trouble.why.clone()), part("What to do", advice), part("What happens next", next)]
            .into_iter()
            .flatten()
            .collect();
    Paragraph::new(lines).wrap(Wrap { trim: true }).render(words, buffer);
    code_picture(buffer, picture, story, trouble);
}

fn next_words(story: &Story, now: Instant) -> String {
    match (story.next_try, &story.now) {
        (Some(at), _) => {
            let left = at.saturating_duration_since(now).as_secs();
            format!("It tries again by itself in {}. There is nothing to press.", duration(left))
        }
        (None, Some(step)) => format!("It is trying again: {}.", step.message),
        (None, None) => "It tries again by itself. There is nothing to press.".to_owned(),
    }
}

/// What support needs to know, for a camera: code, step, machine, attempt and version. Capitals and digits only, which a QR
/// code holds most of.
#[must_use]
pub fn for_support(story: &Story, trouble: &Trouble) -> String {
    let mac: String = story.mac.chars().filter(|c| *c != ':').collect();
    let code = story.claim_code().or(story.permit_number()).unwrap_or(&trouble.code);
    let attempt = first(&story.attempt, 8);
    format!("SB {code} {} {mac} {attempt} {}", trouble.step, story.version).to_uppercase()
}

/// Dark modules are black on a light ground, whatever the terminal's colours are.
fn code_picture(buffer: &mut Buffer, place: Rect, story: &Story, trouble: &Trouble) {
    let Ok(code) = QrCode::with_error_correction_level(for_support(story, trouble), EcLevel::L) else { return };
    let (width, (beside, above)) = (code.width() as i32, RIM);
    let colours = code.to_colors();
    let light = |x: i32, y: i32| {
        let inside = (0..width).contains(&x) && (0..width).contains(&y);
        !inside || colours[(y * width + x) as usize] == qrcode::Color::Light
    };
    let row =
        |y: i32| (-beside..width + beside).map(|x| big::half_block(light(x, y), light(x, y + 1))).collect::<String>();
    let lines: Vec<Line<'_>> = (-above..width + above).step_by(2).map(|y| Line::from(row(y))).collect();
    // Half a picture would only look like one.
    if lines.len() <= place.height.into() && lines[0].width() <= place.width.into() {
        let style = Style::new().fg(Color::White).bg(Color::Black);
        Paragraph::new(lines).right_aligned().style(style).render(place, buffer);
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=90 => format!("{seconds} s"),
        _ => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::story::tests::event, *};
    use contracts::event::StepStatus;
    use std::time::Duration;

    fn text(buffer: &Buffer) -> String {
        let width = usize::from(buffer.area.width);
        let rows = buffer.content.chunks(width).map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
        rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    fn story() -> Story {
        let mut story = Story::new("1.0.0", "a1b2c3d4-0000".into());
        story.reached("52:54:00:12:34:56", "http://10.77.0.2");
        story
    }

    #[test]
    fn installing_shows_step_bar_and_time() {
        let (mut story, at) = (story(), Instant::now());
        story.hear(at, &event(Step::Plan, StepStatus::Done, "vda", None));
        let mut progress = event(Step::Install, StepStatus::Progress, "210 of 500 MiB written", None);
        (progress.progress, progress.eta_seconds) = (Some(0.42), Some(35));
        story.hear(at, &progress);
        insta::assert_snapshot!(text(&draw(&story, at, (80, 25))));
    }

    #[test]
    fn a_refused_disk_says_what_why_and_what_next() {
        let (mut story, at) = (story(), Instant::now());
        let why = "disk vda (68 GB, serial DISK-machine) holds an NTFS file system; nothing was written. Use an empty \
                   disk, or ask support for a wipe permit. The number for a wipe permit is K7QM-2F9X";
        story.hear(at, &event(Step::Plan, StepStatus::Failed, why, Some("foreign-data")));
        story.next_try = Some(at + Duration::from_secs(35));
        insta::assert_snapshot!(text(&draw(&story, at, (80, 25))));
    }

    #[test]
    fn a_claim_shows_its_code_large() {
        let (mut story, at) = (story(), Instant::now());
        let words = "call support and read out the claim code ABCD-EF12 (templates of this kind need a person)";
        story.hear(at, &event(Step::Enroll, StepStatus::Waiting, words, Some("claim")));
        insta::assert_snapshot!(text(&draw(&story, at, (80, 25))));
    }

    #[test]
    fn any_size_and_any_words_are_survived() {
        let (mut story, at) = (story(), Instant::now());
        story.hear(at, &event(Step::Join, StepStatus::Failed, &"ä漢\u{301}".repeat(900), Some(&"x".repeat(900))));
        for size in [(0, 0), (80, 25), (1, 400), (400, 1), (240, 67)] {
            let _ = draw(&story, at, size);
        }
    }

    #[test]
    fn the_picture_is_there_with_the_longest_codes() {
        let (mut story, at) = (story(), Instant::now());
        story.hear(at, &event(Step::Partition, StepStatus::Failed, "x", Some("node-configuration")));
        let drawn = text(&draw(&story, at, (80, 25)));
        assert!(drawn.lines().any(|line| line.ends_with("█████")), "{drawn}");
    }
}
