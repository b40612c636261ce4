//! Beeps in a recording: when, how long, how high. Pure.

use std::time::Duration;

/// A recording of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Samples in a second.
    pub rate: u32,
    /// The samples.
    pub samples: Vec<i16>,
}

/// One tone.
#[derive(Debug, Clone, PartialEq)]
pub struct Beep {
    /// When it began, after the recording did.
    pub at: Duration,
    /// How long it was.
    pub length: Duration,
    /// How high, in hertz.
    pub hertz: f64,
}

impl Beep {
    fn end(&self) -> Duration {
        self.at + self.length
    }
}

/// Time is looked at in pieces of this length; two waves of the lowest pitch that is used fit into it.
const PIECE: Duration = Duration::from_millis(10);
/// From the lowest to the highest sample of a piece that is not silence: a tenth of what is possible.
const LOUD: i32 = 6500;
/// A shorter silence belongs to the tone: the recorder may have missed something.
const SHORTEST_PAUSE: Duration = Duration::from_millis(30);

/// Reads a file as QEMU writes it: RIFF, PCM, 16 bits, one channel. While QEMU runs, the lengths in it are 0 and everything to the end
/// counts. `None`: it is something else.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Recording> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let head = bytes.get(..44)?;
    let words = (&head[..4], &head[8..16], &head[36..40]);
    let (format, channels, bits) = (u16_at(20)?, u16_at(22)?, u16_at(34)?);
    if words != (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..]) || (format, channels, bits) != (1, 1, 16) {
        return None;
    }
    let data = &bytes[44..];
    let said = usize::try_from(u32_at(40)?).ok()?;
    let length = if said == 0 { data.len() } else { said.min(data.len()) };
    let samples = data[..length].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    Some(Recording { rate: u32_at(24).filter(|rate| (8000..=192_000).contains(rate))?, samples })
}

/// All beeps, oldest first.
#[must_use]
pub fn beeps(recording: &Recording) -> Vec<Beep> {
    let piece = (u64::from(recording.rate) * PIECE.as_millis() as u64 / 1000) as usize;
    let pause = (SHORTEST_PAUSE.as_millis() / PIECE.as_millis()) as usize;
    let loud: Vec<bool> = recording.samples.chunks(piece).map(is_loud).collect();
    let mut tones: Vec<(usize, usize)> = Vec::new();
    for (number, _) in loud.iter().enumerate().filter(|(_, loud)| **loud) {
        match tones.last_mut() {
            Some((_, end)) if number - *end < pause => *end = number + 1,
            _ => tones.push((number, number + 1)),
        }
    }
    let time = |pieces: usize| PIECE * u32::try_from(pieces).unwrap_or(u32::MAX);
    tones
        .into_iter()
        .map(|(begin, end)| {
            let samples = &recording.samples[begin * piece..(end * piece).min(recording.samples.len())];
            Beep { at: time(begin), length: time(end - begin), hertz: pitch(samples, recording.rate) }
        })
        .collect()
}

fn is_loud(samples: &[i16]) -> bool {
    let (low, high) = (samples.iter().min(), samples.iter().max());
    low.zip(high).is_some_and(|(low, high)| i32::from(*high) - i32::from(*low) >= LOUD)
}

/// How often the wave rises through its middle, in a second. The first and the last rise bound the time, so silence at the ends does not
/// count.
fn pitch(samples: &[i16], rate: u32) -> f64 {
    let (low, high) = (samples.iter().min().copied().unwrap_or(0), samples.iter().max().copied().unwrap_or(0));
    let middle = i32::midpoint(i32::from(low), i32::from(high));
    let rises: Vec<usize> = samples
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| i32::from(pair[0]) < middle && i32::from(pair[1]) >= middle)
        .map(|(at, _)| at)
        .collect();
    match rises.as_slice() {
        [first, .., last] => (rises.len() - 1) as f64 * f64::from(rate) / (last - first) as f64,
        _ => 0.0,
    }
}

/// Beeps that follow each other within this belong to one group.
const GROUP: Duration = Duration::from_millis(650);

/// The groups of beeps that are over: silence of more than a group's longest follows them, up to `end` of the recording.
#[must_use]
pub fn groups(beeps: &[Beep], end: Duration) -> Vec<&[Beep]> {
    let mut groups: Vec<&[Beep]> = beeps.chunk_by(|one, next| next.at.saturating_sub(one.end()) <= GROUP).collect();
    groups.pop_if(|last| last.last().is_some_and(|beep| end.saturating_sub(beep.end()) <= GROUP));
    groups
}

/// How much longer than asked for a tone or a pause may be besides.
const LATE: Duration = Duration::from_millis(200);

/// True when these are so many beeps, each about as long and as high as that, with about this silence between them: from three fifths of
/// it to two fifths more, and a moment, because timers of a busy host come late.
#[must_use]
pub fn is(beeps: &[Beep], count: usize, length: Duration, pause: Duration, hertz: f64) -> bool {
    let about = |found: Duration, wanted: Duration| found > wanted.mul_f64(0.6) && found < wanted.mul_f64(1.4) + LATE;
    beeps.len() == count
        && beeps.iter().all(|beep| about(beep.length, length) && (beep.hertz / hertz - 1.0).abs() < 0.1)
        && beeps.windows(2).all(|pair| about(pair[1].at.saturating_sub(pair[0].end()), pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 32_000;
    const LONG: Duration = Duration::from_millis(700);
    const PAUSE: Duration = Duration::from_millis(300);

    /// Tones and silences, in milliseconds and hertz: a square wave, as a speaker makes it.
    fn recording(parts: &[(u32, u32)]) -> Recording {
        let mut samples = Vec::new();
        for (ms, hertz) in parts {
            let wave = (0..RATE * ms / 1000).map(|n| match hertz {
                0 => 0,
                hertz if (n * hertz * 2 / RATE).is_multiple_of(2) => 8000,
                _ => -8000,
            });
            samples.extend(wave);
        }
        Recording { rate: RATE, samples }
    }

    fn file(recording: &Recording, said: u32) -> Vec<u8> {
        let mut out = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        out.extend(recording.rate.to_le_bytes());
        out.extend((recording.rate * 2).to_le_bytes());
        out.extend(b"\x02\0\x10\0data");
        out.extend(said.to_le_bytes());
        out.extend(recording.samples.iter().flat_map(|sample| sample.to_le_bytes()));
        out
    }

    fn end(recording: &Recording) -> Duration {
        Duration::from_secs_f64(recording.samples.len() as f64 / f64::from(recording.rate))
    }

    fn trouble() -> Recording {
        recording(&[(1000, 0), (700, 1000), (300, 0), (700, 1000), (300, 0), (700, 1000), (1000, 0)])
    }

    #[test]
    fn three_long_beeps_are_found_with_length_and_pitch() {
        let recording = trouble();
        let beeps = beeps(&recording);
        assert_eq!(beeps.iter().map(|beep| beep.at.as_millis()).collect::<Vec<_>>(), [1000, 2000, 3000]);
        let groups = groups(&beeps, end(&recording));
        assert_eq!(groups.len(), 1);
        assert!(is(groups[0], 3, LONG, PAUSE, 1000.0), "{beeps:?}");
    }

    #[test]
    fn nothing_passes_but_the_pattern() {
        for (what, parts) in [
            ("silence", &[(5000, 0)][..]),
            ("two", &[(700, 1000), (300, 0), (700, 1000), (1000, 0)]),
            ("four", &[(700, 1000), (300, 0), (700, 1000), (300, 0), (700, 1000), (300, 0), (700, 1000), (1000, 0)]),
            ("short ones", &[(120, 1000), (300, 0), (120, 1000), (300, 0), (120, 1000), (1000, 0)]),
            ("one that does not end", &[(5000, 1000), (1000, 0)]),
            ("another pitch", &[(700, 500), (300, 0), (700, 500), (300, 0), (700, 500), (1000, 0)]),
            ("too far apart", &[(700, 1000), (640, 0), (700, 1000), (640, 0), (700, 1000), (1000, 0)]),
        ] {
            let recording = recording(parts);
            let beeps = beeps(&recording);
            let found = groups(&beeps, end(&recording));
            assert!(!found.iter().any(|group| is(group, 3, LONG, PAUSE, 1000.0)), "{what}: {found:?}");
        }
    }

    #[test]
    fn a_group_is_over_when_it_is_silent_behind_it() {
        let mut cut = trouble();
        let beeps_of = |recording: &Recording| groups(&beeps(recording), end(recording)).len();
        assert_eq!(beeps_of(&cut), 1);
        cut.samples.truncate((RATE * 4) as usize);
        assert_eq!(beeps_of(&cut), 0, "the fourth may still come");
        assert_eq!(beeps_of(&recording(&[(100, 0)])), 0);
    }

    #[test]
    fn a_file_is_read_while_it_is_written_and_when_it_is_whole() {
        let recording = recording(&[(20, 1000)]);
        let length = u32::try_from(recording.samples.len() * 2).unwrap();
        for said in [0, length, u32::MAX] {
            assert_eq!(read(&file(&recording, said)), Some(recording.clone()), "{said}");
        }
        assert_eq!(read(&file(&recording, 10)).unwrap().samples.len(), 5);
        let whole = file(&recording, length);
        for bad in [&whole[..43], &b""[..], &[b"RIFX", &whole[4..]].concat()] {
            assert_eq!(read(bad), None);
        }
    }
}
