//! The kernel's first virtual terminal, the one that a screen shows after power on. It knows sixteen colours and no more
//! sequences than console_codes(4) lists, so little is written that is not text.

use super::{
    story::Story,
    view::{self, SMALLEST},
};
use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};
use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::Write as _,
    time::{Duration, Instant},
};

const DEVICE: &str = "/dev/tty1";
/// How often it is looked whether there is something new.
const LOOK: Duration = Duration::from_millis(250);
/// The kernel writes over the picture now and then, and a driver for the screen may make it larger.
const ANEW: Duration = Duration::from_secs(5);

/// The terminal.
#[derive(Debug)]
pub(super) struct Terminal(File);

impl Terminal {
    pub(super) fn open() -> Option<Self> {
        OpenOptions::new().write(true).open(DEVICE).ok().map(Self)
    }

    /// Shows what `story` returns, until it returns nothing.
    pub(super) fn run(mut self, story: impl Fn(Instant) -> Option<(Story, Instant)>) {
        let (mut shown, mut since) = (Buffer::default(), Instant::now());
        while let Some((story, now)) = story(Instant::now()) {
            let buffer = view::draw(&story, now, self.size());
            if buffer != shown || since.elapsed() > ANEW {
                // A screen that cannot be written to must not stop an install.
                let _ = self.0.write_all(sequences(&buffer).as_bytes());
                (shown, since) = (buffer, Instant::now());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn size(&self) -> (u16, u16) {
        match rustix::termios::tcgetwinsize(&self.0) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
            _ => SMALLEST,
        }
    }
}

/// The cells as a terminal wants them: from the upper left corner, row by row, the cursor hidden, no line wrap.
fn sequences(buffer: &Buffer) -> String {
    let mut out = String::from("\x1b[?25l\x1b[?7l");
    let width = usize::from(buffer.area.width.max(1));
    for (row, cells) in buffer.content.chunks(width).enumerate() {
        let _ = write!(out, "\x1b[{};1H", row + 1);
        let mut style = None;
        for cell in cells {
            let wanted = (cell.fg, cell.bg, cell.modifier);
            if style != Some(wanted) {
                select(&mut out, cell);
                style = Some(wanted);
            }
            out.push_str(cell.symbol());
        }
        out.push_str("\x1b[0m");
    }
    out
}

/// Select Graphic Rendition.
fn select(out: &mut String, cell: &Cell) {
    let bold = if cell.modifier.contains(Modifier::BOLD) { ";1" } else { "" };
    let reverse = if cell.modifier.contains(Modifier::REVERSED) { ";7" } else { "" };
    let _ = write!(out, "\x1b[0;{};{}{bold}{reverse}m", 30 + colour(cell.fg, 7), 40 + colour(cell.bg, 0));
}

const fn colour(colour: Color, default: u8) -> u8 {
    match colour {
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::White | Color::Gray => 7,
        _ => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{layout::Rect, style::Style};

    #[test]
    fn only_known_sequences_are_written() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 3, 2));
        buffer.set_string(0, 0, "ab", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        let expected =
            "\x1b[?25l\x1b[?7l\x1b[1;1H\x1b[0;31;40;1mab\x1b[0;37;40m \x1b[0m\x1b[2;1H\x1b[0;37;40m   \x1b[0m";
        assert_eq!(sequences(&buffer), expected);
    }
}
