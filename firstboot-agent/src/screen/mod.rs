//! The attached screen: which step, how far, how long still; and when something is wrong: what, why, what to do, and what
//! happens next. No key press is ever needed, and none is read.
//!
//! [`story`] is what there is to tell, [`view`] puts it on so many columns and rows; both are pure. `terminal` writes to
//! the kernel's first virtual terminal. Serial lines get plain lines instead: see [`crate::console`].

pub mod advice;
mod big;
pub mod story;
mod terminal;
pub mod view;

use contracts::event::StepEvent;
use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use story::Story;

/// There is one screen, and everything that runs in this process tells its part to it.
static SCREEN: OnceLock<Mutex<Story>> = OnceLock::new();

/// Begins to show. Where there is no virtual terminal nothing happens, and [`is_on`] stays false.
pub fn begin(story: Story) {
    if let Some(terminal) = terminal::Terminal::open()
        && SCREEN.set(Mutex::new(story)).is_ok()
    {
        std::thread::spawn(move || terminal.run(|now| with(|story| story.clone()).map(|story| (story, now))));
    }
}

/// True when what happens is on a screen.
#[must_use]
pub fn is_on() -> bool {
    SCREEN.get().is_some()
}

/// Takes up what happened.
pub fn hear(event: &StepEvent) {
    with(|story| story.hear(Instant::now(), event));
}

/// Takes up a line that is no step.
pub fn line(text: &str) {
    with(|story| story.line(text));
}

/// Says when the next try begins.
pub fn next_try(wait: Duration) {
    with(|story| story.next_try = Some(Instant::now() + wait));
}

/// Says which network card of this machine reaches which boot service.
pub fn reached(mac: &str, service: &str) {
    with(|story| story.reached(mac, service));
}

fn with<T>(work: impl FnOnce(&mut Story) -> T) -> Option<T> {
    SCREEN.get().map(|story| work(&mut story.lock().unwrap_or_else(PoisonError::into_inner)))
}
