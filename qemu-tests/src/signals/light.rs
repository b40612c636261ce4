//! Flashes in QEMU's account of a keyboard's lights (trace event `ps2_set_ledstate`, with timestamps). Pure.

/// The light is on for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flash {
    /// When it began, in seconds of the host's clock.
    pub at: f64,
    /// How many seconds it was on.
    pub length: f64,
}

/// The bit of the scroll lock in what a PS/2 keyboard is told (command 0xED).
const SCROLL_LOCK: u32 = 1;

/// Reads lines like `4711@1763798400.123456:ps2_set_ledstate 0x55d0 ledstate 1`; others are passed over. A light that is still on is no
/// flash yet.
#[must_use]
pub fn flashes(account: &str) -> Vec<Flash> {
    let (mut out, mut since) = (Vec::new(), None);
    for (at, lit) in account.lines().filter_map(change) {
        match (since, lit) {
            (None, true) => since = Some(at),
            (Some(begin), false) => {
                out.push(Flash { at: begin, length: at - begin });
                since = None;
            }
            _ => {}
        }
    }
    out
}

fn change(line: &str) -> Option<(f64, bool)> {
    let (head, state) = line.split_once(":ps2_set_ledstate ")?;
    let at = head.split_once('@')?.1.parse().ok()?;
    let state: u32 = state.split_once("ledstate ")?.1.trim().parse().ok()?;
    Some((at, state & SCROLL_LOCK != 0))
}

/// How many flashes there are between two dark times of more than a second, for each time this happens; what began before the first
/// dark time, or is not over, does not count.
#[must_use]
pub fn bursts(flashes: &[Flash]) -> Vec<usize> {
    let bursts: Vec<usize> =
        flashes.chunk_by(|one, next| next.at - (one.at + one.length) <= 1.0).map(<[Flash]>::len).collect();
    bursts.get(1..bursts.len().saturating_sub(1)).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(changes: &[(f64, u32)]) -> String {
        let line = |(at, state): &(f64, u32)| format!("4711@{at:.6}:ps2_set_ledstate 0x55d0 ledstate {state}\n");
        changes.iter().map(line).collect()
    }

    #[test]
    fn flashes_have_a_begin_and_an_end() {
        let text = account(&[(1.0, 2), (10.0, 3), (10.25, 2), (10.5, 1), (10.75, 0), (11.0, 1)]) + "QEMU: something\n";
        let found = flashes(&text);
        assert_eq!(found, [Flash { at: 10.0, length: 0.25 }, Flash { at: 10.5, length: 0.25 }]);
        assert_eq!(flashes(""), []);
    }

    #[test]
    fn bursts_are_counted_between_dark_times() {
        let of =
            |begin: f64, count: u32| (0..count).map(move |n| Flash { at: begin + f64::from(n) / 2.0, length: 0.25 });
        let even: Vec<Flash> = (0..9).map(|n| Flash { at: f64::from(n), length: 0.5 }).collect();
        assert!(bursts(&even).is_empty());
        let trouble: Vec<Flash> = even.into_iter().chain(of(20.0, 3)).chain(of(23.0, 3)).chain(of(26.0, 2)).collect();
        assert_eq!(bursts(&trouble), [3, 3]);
        assert!(bursts(&[]).is_empty());
    }
}
