//! Whether to look for the next packet again and again, or to sleep until it comes. Falling asleep and waking up costs some thirty
//! microseconds on an idle processor, for each block of a client that acknowledges each. Where answers come within
//! [`Eager::LONGEST`], looking halves the time of a transfer; where they do not, it only burns the router's processor, and is
//! given up for a long while.

use std::time::Duration;

/// Vain looks in a row after which it is given up,
const VAIN: u32 = 3;
/// for so many packets.
const PAUSE: u32 = 512;

/// What is known of the client.
#[derive(Debug, Default)]
pub(super) struct Eager {
    vain: u32,
    pause: u32,
}

impl Eager {
    /// For how long a packet is looked for before the thread sleeps.
    pub(super) const LONGEST: Duration = Duration::from_micros(60);

    /// Whether to look for the next packet.
    pub(super) fn looks(&mut self) -> bool {
        self.pause = self.pause.saturating_sub(1);
        self.pause == 0
    }

    /// Whether it was there before [`Eager::LONGEST`] was over.
    pub(super) fn learn(&mut self, came: bool) {
        self.vain = if came { 0 } else { self.vain + 1 };
        if self.vain == VAIN {
            *self = Self { vain: 0, pause: PAUSE };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_clients_are_looked_for_seldom_and_quick_ones_always() {
        let looks = |came: fn(u32) -> bool| {
            let mut eager = Eager::default();
            (0..100_000)
                .filter(|packet| {
                    let looks = eager.looks();
                    if looks {
                        eager.learn(came(*packet));
                    }
                    looks
                })
                .count()
        };
        assert_eq!(looks(|_| true), 100_000);
        assert_eq!(looks(|packet| packet % 3 != 0), 100_000, "one that is late now and then");
        let slow = looks(|_| false);
        assert!(slow < 700, "{slow}");
    }
}
