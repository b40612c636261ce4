//! What the DHCP server does when another one is on the LAN: two that do not know each other lend one address twice, so
//! this one falls silent.
//!
//! A client's word alone is not believed, since any device could silence this server by one forged REQUEST: it makes
//! this server ask, and another server that is there answers. Before it speaks again it asks as well.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// How long another server must not have been heard.
const QUIET: Duration = Duration::from_secs(600);
/// How long the answer to a question is waited for.
const ANSWER: Duration = Duration::from_secs(3);
/// Suspicions lead to a question at most this often.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Send a DISCOVER of a test client.
    Ask,
    /// Another server is there: say so, and fall silent.
    FallSilent(Ipv4Addr),
    /// It is gone: say so, and serve again.
    Resume(Ipv4Addr),
}

/// Whether another server is there.
#[derive(Debug, Default)]
pub struct Rival {
    /// The other server, until when its silence is waited for, and whether it was asked since.
    known: Option<(Ipv4Addr, Instant, bool)>,
    asked: Option<Instant>,
}

impl Rival {
    /// The server that makes this one silent.
    #[must_use]
    pub fn server(&self) -> Option<Ipv4Addr> {
        self.known.map(|(server, ..)| server)
    }

    /// Another server has offered or granted an address.
    pub fn heard(&mut self, now: Instant, server: Ipv4Addr) -> Option<Turn> {
        let news = self.known.is_none();
        self.known = Some((server, now + QUIET, false));
        news.then_some(Turn::FallSilent(server))
    }

    /// A client has named another server.
    pub fn suspected(&mut self, now: Instant) -> Option<Turn> {
        let lately = self.asked.is_some_and(|at| now.saturating_duration_since(at) < ASK_EVERY);
        if self.known.is_some() || lately {
            return None;
        }
        self.asked = Some(now);
        Some(Turn::Ask)
    }

    /// When [`Rival::due`] has something to say.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.known.map(|(_, until, _)| until)
    }

    /// Time has passed.
    pub fn due(&mut self, now: Instant) -> Option<Turn> {
        let (server, until, asked) = self.known?;
        if now < until {
            return None;
        }
        if asked {
            self.known = None;
            return Some(Turn::Resume(server));
        }
        self.known = Some((server, now + ANSWER, true));
        Some(Turn::Ask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

    #[test]
    fn a_clients_word_leads_to_a_question_and_a_servers_to_silence() {
        let (mut rival, now) = (Rival::default(), Instant::now());
        assert_eq!(rival.suspected(now), Some(Turn::Ask));
        assert_eq!((rival.suspected(now + ANSWER), rival.server()), (None, None));
        assert_eq!(rival.heard(now, OTHER), Some(Turn::FallSilent(OTHER)));
        assert_eq!((rival.heard(now, OTHER), rival.server()), (None, Some(OTHER)));
        assert_eq!(rival.suspected(now + ASK_EVERY), None, "that is known");
    }

    #[test]
    fn it_speaks_again_after_ten_minutes_and_a_question_without_an_answer() {
        let (mut rival, now) = (Rival::default(), Instant::now());
        assert_eq!(rival.due(now), None);
        let _ = rival.heard(now, OTHER);
        assert_eq!(rival.due(now + QUIET / 2), None);
        assert_eq!(rival.due(rival.next().unwrap()), Some(Turn::Ask));
        // It answers: silence goes on.
        let _ = rival.heard(now + QUIET + ANSWER / 2, OTHER);
        assert_eq!(rival.due(now + QUIET + ANSWER), None);
        let later = rival.next().unwrap();
        assert_eq!(rival.due(later), Some(Turn::Ask));
        assert_eq!(rival.due(later + ANSWER), Some(Turn::Resume(OTHER)));
        assert_eq!((rival.server(), rival.next()), (None, None));
    }
}
