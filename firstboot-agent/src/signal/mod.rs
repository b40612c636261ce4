//! Beeps and a light, for machines without a screen: whether it works, waits, needs somebody, or has finished. docs/signals.md has the
//! patterns in words for people.
//!
//! [`doing`] says what the machine is doing, [`pattern`] how that sounds and looks, [`player`] what is heard and seen at a moment; all
//! three are pure. [`speaker`] and [`lights`] are the hardware. A thread of its own plays: whoever reports does not wait for a lamp, and
//! a lamp that does not work stops no install.

pub mod doing;
pub mod lights;
pub mod pattern;
pub mod player;
pub mod speaker;

use crate::{boot::modules, console};
use contracts::event::StepEvent;
use doing::{Doing, Follower};
use lights::Lights;
use player::Player;
use speaker::Speaker;
use std::{
    path::Path,
    sync::{
        OnceLock,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

/// `shelfboot.beeps=0` on the kernel's command line: only the light. It is signed with the boot image.
const BEEPS_WORD: &str = "shelfboot.beeps=";
/// What the kernel calls the speaker's driver, and what gives programs a way to it.
const DRIVERS: [&str; 2] = ["evdev", "pcspkr"];
/// How long a restart waits for beeps that have begun.
const END_LIMIT: Duration = Duration::from_secs(1);
/// Nothing changes for longer than this without somebody looking again.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// What the thread is told.
#[derive(Debug)]
enum Word {
    Heard(Instant, Box<StepEvent>),
    End(Sender<()>),
}

static WORDS: OnceLock<Sender<Word>> = OnceLock::new();

/// Begins to play what [`hear`] hears.
pub fn begin() {
    begin_after(0, true);
}

/// The same where so many starts before this one ended badly; without `may_beep` there is only the light.
pub fn begin_after(starts: u32, may_beep: bool) {
    let (sender, receiver) = mpsc::channel();
    if WORDS.set(sender).is_ok() {
        std::thread::spawn(move || run(&receiver, starts, may_beep));
    }
}

/// Takes up what happened. Nothing happens before [`begin`].
pub fn hear(event: &StepEvent) {
    if let Some(words) = WORDS.get() {
        let _ = words.send(Word::Heard(Instant::now(), Box::new(event.clone())));
    }
}

/// Before a restart: beeps that have begun come to their end, in a second at most, and the lights are as they were.
pub fn end() {
    let (sender, ended) = mpsc::channel();
    if WORDS.get().is_some_and(|words| words.send(Word::End(sender)).is_ok()) {
        let _ = ended.recv_timeout(END_LIMIT);
    }
}

fn run(words: &Receiver<Word>, starts: u32, may_beep: bool) {
    let wanted = are_beeps_wanted(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let mut hardware = Hardware::new(may_beep && wanted);
    let (mut follower, mut player) = (Follower::new(starts), Player::default());
    let mut shown: Option<Doing> = None;
    let mut ending: Option<Sender<()>> = None;
    loop {
        let signal = player.at(Instant::now());
        hardware.play(&signal);
        if let Some(ended) = ending.take_if(|_| signal.tone.is_none() && !player.is_playing()) {
            hardware.put_back();
            let _ = ended.send(());
            return;
        }
        match words.recv_timeout(signal.until.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)) {
            Ok(Word::Heard(at, event)) => {
                let doing = follower.hear(at, &event);
                if shown != Some(doing) {
                    shown = Some(doing);
                    // A keyboard that was plugged in since then has a light.
                    hardware.look();
                    player.hear(Instant::now(), doing);
                }
            }
            Ok(Word::End(sender)) => ending = Some(sender),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The kernel takes the last word of a kind; so does this.
fn are_beeps_wanted(command_line: &str) -> bool {
    let last = command_line.split_whitespace().rev().find_map(|word| word.strip_prefix(BEEPS_WORD));
    last != Some("0")
}

/// What this machine has.
#[derive(Debug)]
struct Hardware {
    may_beep: bool,
    speaker: Speaker,
    lights: Lights,
    said: String,
}

impl Hardware {
    fn new(may_beep: bool) -> Self {
        if may_beep {
            for driver in DRIVERS {
                // A machine may do without it.
                let _ = modules::load(driver);
            }
        }
        let mut new = Self { may_beep, speaker: Speaker::default(), lights: Lights::default(), said: String::new() };
        new.look();
        new
    }

    /// Looks for what has appeared, and says what there is when that has changed.
    fn look(&mut self) {
        if self.may_beep {
            self.speaker.look(Path::new("/sys/class/input"), Path::new("/dev/input"));
        }
        self.lights.look(Path::new("/sys/class/leds"));
        let words = words(self.may_beep, self.speaker.is_there(), &self.lights.names());
        if words != self.said {
            console::line(&words);
            self.said = words;
        }
    }

    fn play(&mut self, signal: &player::Signal) {
        self.speaker.sound(signal.tone.filter(|_| self.may_beep));
        self.lights.show(signal.light, signal.doing);
    }

    fn put_back(&mut self) {
        self.speaker.sound(None);
        self.lights.put_back();
    }
}

fn words(may_beep: bool, speaker: bool, lights: &[String]) -> String {
    match (may_beep && speaker, lights) {
        (false, []) => "signals: this machine has no speaker and no light for them, or may not use them".into(),
        (true, []) => "signals: beeps; there is no light for them".into(),
        (true, names) => format!("signals: beeps, and light of {}", names.join(", ")),
        (false, names) => format!("signals: no beeps; light of {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_switches_beeps_off() {
        for (line, wanted) in [
            ("roothash=ab quiet", true),
            ("quiet shelfboot.beeps=0", false),
            ("shelfboot.beeps=0 shelfboot.beeps=1", true),
            ("shelfboot.beeps=", true),
            ("xshelfboot.beeps=0", true),
        ] {
            assert_eq!(are_beeps_wanted(line), wanted, "{line}");
        }
    }

    #[test]
    fn it_is_said_what_there_is() {
        let light = ["input3::scrolllock".to_owned()];
        let said =
            [words(true, true, &light), words(false, true, &light), words(true, false, &[]), words(true, true, &[])];
        insta::assert_debug_snapshot!(said);
    }

    #[test]
    fn who_never_began_hears_nothing_and_waits_for_nothing() {
        let begin = Instant::now();
        end();
        assert!(begin.elapsed() < END_LIMIT);
    }
}
