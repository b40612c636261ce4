use super::*;
use proptest::prelude::*;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The longest group of all patterns, and the longest time in which one repeats its groups.
fn longest() -> (Duration, Duration) {
    let all = || Doing::ALL.into_iter().filter_map(pattern::beeps);
    let length = all().map(|beeps| beeps.length()).max().unwrap();
    (length, all().map(|beeps| beeps.every * beeps.times).max().unwrap())
}

/// Plays from `from` for `length`, as a thread would that wakes up when something changes; returns the tones: when, how long, which pitch.
fn play(player: &mut Player, from: Instant, length: Duration) -> Vec<(Instant, Duration, u16)> {
    let (mut tones, mut now, end) = (Vec::new(), from, from + length);
    let mut wakes = 0u64;
    while now < end {
        let signal = player.at(now);
        let until = signal.until.map_or(end, |until| (now + until).min(end));
        assert!(until > now, "it would spin at {:?}: {signal:?}", now - from);
        if let Some(hertz) = signal.tone {
            tones.push((now, until - now, hertz));
        }
        now = until;
        wakes += 1;
    }
    assert!(u128::from(wakes) <= 8 + length.as_millis() / 50, "it wakes too often: {wakes}");
    tones
}

#[test]
fn trouble_is_three_long_beeps_every_minute_for_ten_minutes() {
    let (mut player, begin) = (Player::default(), Instant::now());
    assert_eq!(player.at(begin).until, None, "nothing is known, nothing happens");
    player.hear(begin, Doing::Trouble);
    let tones = joined(&play(&mut player, begin, HOUR * 24));
    assert_eq!(tones.len(), 30);
    for (number, (at, length, hertz)) in tones.iter().enumerate() {
        let number = number as u64;
        assert_eq!((*length, *hertz), (ms(700), 1000));
        assert_eq!(*at - begin, ms(number / 3 * 60_000 + number % 3 * 1000));
    }
}

#[test]
fn a_group_that_has_begun_is_heard_to_its_end_and_the_next_comes_behind_a_pause() {
    let (mut player, begin) = (Player::default(), Instant::now());
    player.hear(begin, Doing::Trouble);
    let mut tones = play(&mut player, begin, ms(100));
    player.hear(begin + ms(100), Doing::Working);
    tones.extend(play(&mut player, begin + ms(100), HOUR));
    let tones: Vec<(u128, u128)> =
        joined(&tones).iter().map(|(at, length, _)| ((*at - begin).as_millis(), length.as_millis())).collect();
    assert_eq!(tones, [(0, 700), (1000, 700), (2000, 700), (3400, 120)]);
}

#[test]
fn who_asks_late_hears_a_group_late_and_whole() {
    let (mut player, begin) = (Player::default(), Instant::now());
    player.hear(begin, Doing::Restarting);
    let tones = play(&mut player, begin + ms(5000), HOUR);
    let lengths: Vec<u128> = joined(&tones).iter().map(|tone| tone.1.as_millis()).collect();
    assert_eq!(lengths, [120, 120]);
}

/// Tones that follow each other without silence are one: whoever plays looks in between, for the light.
fn joined(tones: &[(Instant, Duration, u16)]) -> Vec<(Instant, Duration, u16)> {
    let mut out: Vec<(Instant, Duration, u16)> = Vec::new();
    for (at, length, hertz) in tones {
        match out.last_mut() {
            Some(last) if last.0 + last.1 == *at && last.2 == *hertz => last.1 += *length,
            _ => out.push((*at, *length, *hertz)),
        }
    }
    out
}

fn doing() -> impl Strategy<Value = Doing> {
    proptest::sample::select(Doing::ALL.to_vec())
}

proptest! {
    #[test]
    fn whatever_happens_the_noise_is_bounded_and_ends(
        changes in proptest::collection::vec((doing(), prop_oneof![0u64..10_000, 0u64..400_000]), 0..80)
    ) {
        let (mut player, begin) = (Player::default(), Instant::now());
        let (mut now, mut tones) = (begin, Vec::new());
        for (doing, pause) in changes {
            player.hear(now, doing);
            tones.extend(play(&mut player, now, ms(pause)));
            now += ms(pause);
        }
        tones.extend(play(&mut player, now, HOUR * 3));
        let tones = joined(&tones);
        let (length, repeats) = longest();
        // It ends: what has changed last is heard for so long, behind what was being heard.
        if let Some((at, long, _)) = tones.last() {
            prop_assert!(*at + *long <= now + length + BETWEEN + repeats, "noise {:?} after the last change", *at - now);
        }
        // And no hour has more groups than that, whoever asks for them.
        let groups: Vec<Instant> = tones
            .chunk_by(|one, next| next.0.saturating_duration_since(one.0 + one.1) < BETWEEN)
            .map(|group| group[0].0)
            .collect();
        for first in &groups {
            let within = groups.iter().filter(|at| *at >= first && at.saturating_duration_since(*first) < HOUR).count();
            prop_assert!(within <= MOST_IN_AN_HOUR, "{within} groups of beeps in an hour");
        }
        // No beep is cut off or drawn out: each is as long as one of the patterns says.
        let lengths: Vec<Duration> = Doing::ALL.into_iter().filter_map(pattern::beeps).map(|beeps| beeps.on).collect();
        for (_, long, _) in &tones {
            prop_assert!(lengths.contains(long), "a beep of {long:?}");
        }
    }

    #[test]
    fn a_thread_that_is_late_makes_no_more_noise(
        changes in proptest::collection::vec((doing(), 0u64..100_000), 1..40), late in 1u64..5_000
    ) {
        let (mut player, begin) = (Player::default(), Instant::now());
        let (mut now, mut groups, mut last) = (begin, 0usize, None);
        for (doing, pause) in changes {
            player.hear(now, doing);
            let end = now + ms(pause);
            while now < end {
                let signal = player.at(now);
                if player.heard.back() != last.as_ref() {
                    groups += 1;
                    last = player.heard.back().copied();
                }
                now += signal.until.unwrap_or(HOUR) + ms(late);
            }
        }
        let hours = usize::try_from((now - begin).as_secs() / 3600).unwrap() + 1;
        prop_assert!(groups <= hours * MOST_IN_AN_HOUR, "{groups} groups in {hours} hours");
    }
}
