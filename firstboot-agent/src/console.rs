//! The machine's own words: one plain line per happening, on every console that the kernel uses. Where the screen shows more
//! than lines ([`crate::screen`]), the line is a part of its picture.

use crate::{logs, screen};
use std::{
    fs::{self, OpenOptions},
    io::Write,
};

/// Writes one line to every active console (screen and serial port), and keeps it for the log of this attempt.
pub fn line(text: &str) {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let names: Vec<&str> = if active.trim().is_empty() { vec!["console"] } else { active.split_whitespace().collect() };
    // A terminal in raw mode needs the carriage return; one in cooked mode does not mind it.
    let line = format!("shelfboot: {}\r\n", printable(text));
    screen::line(text);
    logs::line(text);
    for name in names.into_iter().filter(|name| !screen::is_on() || !is_screen(name)) {
        // A console that cannot be written to must not stop an install.
        if let Ok(mut console) = OpenOptions::new().write(true).open(format!("/dev/{name}")) {
            let _ = console.write_all(line.as_bytes());
        }
    }
}

/// A virtual terminal: `tty0`, `tty1`. Serial lines are `ttyS0`, `ttyAMA0`.
fn is_screen(name: &str) -> bool {
    name.strip_prefix("tty").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// What arrives from the network may end up here: no escape sequence may reach a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(super::printable("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }

    #[test]
    fn serial_lines_are_no_screens() {
        assert_eq!(["tty0", "tty1", "ttyS0", "ttyAMA0"].map(super::is_screen), [true, true, false, false]);
    }
}
