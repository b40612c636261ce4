//! The speaker: an input device of the kernel that takes tones (Linux, Documentation/input/event-codes.rst, EV_SND). On PCs the driver
//! `pcspkr` makes one for the speaker that the interval timer drives; whether anything is connected to it, nobody knows.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
};

/// Linux, include/uapi/linux/input-event-codes.h.
const EV_SND: u16 = 0x12;
const SND_TONE: u16 = 0x02;

/// `struct input_event` of 64-bit machines (include/uapi/linux/input.h): seconds and microseconds, which the kernel fills in itself, each
/// of eight bytes; type and code, each of two; the value, four.
fn tone(hertz: u16) -> [u8; 24] {
    let mut event = [0; 24];
    event[16..18].copy_from_slice(&EV_SND.to_ne_bytes());
    event[18..20].copy_from_slice(&SND_TONE.to_ne_bytes());
    event[20..].copy_from_slice(&i32::from(hertz).to_ne_bytes());
    event
}

/// Every device that takes tones. By default there is none.
#[derive(Debug, Default)]
pub struct Speaker {
    devices: Vec<(String, File)>,
    /// The pitch that was asked for last, in hertz.
    sounding: Option<u16>,
}

impl Speaker {
    /// Looks for devices that were not there before: `class` is `/sys/class/input`, `nodes` is `/dev/input`.
    pub fn look(&mut self, class: &Path, nodes: &Path) {
        for entry in fs::read_dir(class).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let known = self.devices.iter().any(|(known, _)| *known == name);
            if known || !name.starts_with("event") {
                continue;
            }
            let sounds = fs::read_to_string(entry.path().join("device/capabilities/snd")).unwrap_or_default();
            if !takes_tones(&sounds) {
                continue;
            }
            if let Ok(mut device) = OpenOptions::new().write(true).open(nodes.join(&name)) {
                // Whoever had it before may have been killed in the middle of a tone.
                let _ = device.write_all(&tone(self.sounding.unwrap_or(0)));
                self.devices.push((name, device));
            }
        }
    }

    /// True when there is one.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        !self.devices.is_empty()
    }

    /// Sounds at this pitch in hertz from now on, or is silent. A device that does not take it is looked for anew.
    pub fn sound(&mut self, hertz: Option<u16>) {
        if self.sounding != hertz {
            self.sounding = hertz;
            self.devices.retain_mut(|(_, device)| device.write_all(&tone(hertz.unwrap_or(0))).is_ok());
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.sound(None);
    }
}

/// Reads a list of capabilities: words in hexadecimal, the lowest last (Linux, drivers/input/input.c, input_print_bitmap).
fn takes_tones(sounds: &str) -> bool {
    let lowest = sounds.split_whitespace().next_back().and_then(|word| u64::from_str_radix(word, 16).ok());
    lowest.is_some_and(|bits| bits & (1 << SND_TONE) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_as_the_kernel_wants_it() {
        let event = tone(1000);
        assert_eq!(event[..16], [0; 16]);
        assert_eq!(event[16..], [0x12, 0, 2, 0, 0xe8, 0x03, 0, 0]);
    }

    #[test]
    fn capabilities_are_read_from_their_lowest_word() {
        for (text, takes) in [("6\n", true), ("4", true), ("2\n", false), ("0", false), ("", false), ("x", false)] {
            assert_eq!(takes_tones(text), takes, "{text:?}");
        }
        assert!(!takes_tones("4 0\n"));
    }

    /// Files in the place of devices.
    #[test]
    fn only_devices_that_take_tones_hear_any_and_silence_comes_last() {
        let folder = tempfile::tempdir().unwrap();
        let (class, nodes) = (folder.path().join("class"), folder.path().join("dev"));
        fs::create_dir_all(&nodes).unwrap();
        for (name, sounds) in [("event0", "0"), ("event1", "6"), ("input1", "6")] {
            fs::create_dir_all(class.join(name).join("device/capabilities")).unwrap();
            fs::write(class.join(name).join("device/capabilities/snd"), sounds).unwrap();
            fs::write(nodes.join(name), "").unwrap();
        }
        let mut speaker = Speaker::default();
        speaker.sound(Some(5));
        assert!(!speaker.is_there());
        speaker.sound(None);
        speaker.look(&class, &nodes);
        speaker.look(&class, &nodes);
        speaker.sound(Some(1000));
        speaker.sound(Some(1000));
        drop(speaker);
        assert_eq!(fs::read(nodes.join("event1")).unwrap(), [tone(0), tone(1000), tone(0)].concat());
        assert_eq!(fs::read(nodes.join("event0")).unwrap(), b"");
    }
}
