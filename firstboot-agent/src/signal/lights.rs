//! Lights that are there for people: what the kernel calls identify, locate, user, status or fault (Linux,
//! Documentation/leds/leds-class.rst), else the keyboard's scroll lock, which nothing uses. Lights of network cards, disks and the power
//! supply say something themselves and are left alone.

use super::doing::Doing;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most lights that are used.
const MOST: usize = 8;

/// What a light is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// To find a machine among others.
    Identify,
    /// To say how the machine is, or anything.
    Status,
    /// The keyboard's.
    ScrollLock,
    /// To say that something is wrong, and nothing else.
    Fault,
}

/// Words of the kernel's names (include/dt-bindings/leds/common.h, LED_FUNCTION), and of drivers that have words of their own.
const WORDS: [(&str, Kind); 12] = [
    ("identify", Kind::Identify),
    ("ident", Kind::Identify),
    ("id", Kind::Identify),
    ("uid", Kind::Identify),
    ("locate", Kind::Identify),
    ("user", Kind::Status),
    ("usr", Kind::Status),
    ("status", Kind::Status),
    ("indicator", Kind::Status),
    ("fault", Kind::Fault),
    ("alarm", Kind::Fault),
    ("scrolllock", Kind::ScrollLock),
];

/// Words in the name of a light that belongs to something else, whatever its function is called.
const OTHERS: [&str; 17] = [
    "activity", "ata", "battery", "charging", "disk", "fan", "hdd", "lan", "mmc", "nvme", "power", "psu", "pwr",
    "sata", "ssd", "wan", "wlan",
];
/// Folders on the way to the device of such a light.
const OTHER_DEVICES: [&str; 7] = ["/net/", "/block/", "/nvme/", "/ata", "/mmc_host/", "/ieee80211/", "/power_supply/"];

/// What a light is for that the kernel calls `name`, `device:colour:function` or a part of that, with a number behind the function where
/// there are several; `device` is the path of its device in sysfs. `None`: not for this.
#[must_use]
pub fn kind(name: &str, device: &str) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> =
        name.split(':').map(|part| part.trim_end_matches(|c| matches!(c, '0'..='9' | '-' | '_'))).collect();
    if words.iter().any(|word| OTHERS.contains(word)) || OTHER_DEVICES.iter().any(|other| device.contains(other)) {
        return None;
    }
    // The first part is the device when there are three.
    let functions = words.iter().skip(usize::from(words.len() > 2));
    functions.rev().find_map(|word| WORDS.iter().find(|(known, _)| known == word)).map(|(_, kind)| *kind)
}

/// Which of all lights are used: the best kind, and every fault light.
#[must_use]
pub fn choose(mut all: Vec<(String, Kind)>) -> Vec<(String, Kind)> {
    all.sort();
    let best = all.iter().map(|(_, kind)| *kind).filter(|kind| *kind != Kind::Fault).min();
    all.retain(|(_, kind)| *kind == Kind::Fault || Some(*kind) == best);
    all.truncate(MOST);
    all
}

/// What a light of this kind shows while the machine does that: on, off, or `None`, what it showed before.
fn shows(kind: Kind, light: Option<bool>, doing: Option<Doing>) -> Option<bool> {
    light.filter(|_| kind != Kind::Fault || doing == Some(Doing::Trouble))
}

/// The lights that are used. By default there is none.
#[derive(Debug, Default)]
pub struct Lights(Vec<Light>);

#[derive(Debug)]
struct Light {
    name: String,
    kind: Kind,
    folder: PathBuf,
    /// Brightness and trigger as they were, while they are not.
    before: Option<(String, Option<String>)>,
    shown: Option<bool>,
}

impl Lights {
    /// Looks for lights that were not there before: `class` is `/sys/class/leds`.
    pub fn look(&mut self, class: &Path) {
        let mut all = Vec::new();
        for entry in fs::read_dir(class).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let device = fs::canonicalize(entry.path()).unwrap_or_default();
            if let Some(kind) = kind(&name, &device.to_string_lossy()) {
                all.push((name, kind));
            }
        }
        let chosen = choose(all);
        self.0.retain_mut(|light| {
            let stays = chosen.iter().any(|(name, _)| *name == light.name);
            if !stays {
                light.show(None);
            }
            stays
        });
        for (name, kind) in chosen {
            if !self.0.iter().any(|light| light.name == name) {
                let folder = class.join(&name);
                self.0.push(Light { name, kind, folder, before: None, shown: None });
            }
        }
    }

    /// What the kernel calls them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|light| light.name.clone()).collect()
    }

    /// Switches them on or off; `None`: as they were before.
    pub fn show(&mut self, light: Option<bool>, doing: Option<Doing>) {
        self.0.iter_mut().for_each(|one| one.show(shows(one.kind, light, doing)));
    }

    /// As they were before.
    pub fn put_back(&mut self) {
        self.show(None, None);
    }
}

impl Light {
    /// A light that cannot be written to is nobody's trouble.
    fn show(&mut self, lit: Option<bool>) {
        if lit == self.shown {
            return;
        }
        self.shown = lit;
        match lit {
            Some(lit) => {
                if self.before.is_none() {
                    let trigger = self.read("trigger").as_deref().and_then(trigger_of);
                    self.before = Some((self.read("brightness").unwrap_or_else(|| "0".into()), trigger));
                    self.write("trigger", "none");
                }
                let full = self.read("max_brightness").unwrap_or_else(|| "1".into());
                self.write("brightness", if lit { &full } else { "0" });
            }
            None => {
                if let Some((brightness, trigger)) = self.before.take() {
                    self.write("brightness", &brightness);
                    if let Some(trigger) = trigger {
                        self.write("trigger", &trigger);
                    }
                }
            }
        }
    }

    fn read(&self, file: &str) -> Option<String> {
        Some(fs::read_to_string(self.folder.join(file)).ok()?.trim().to_owned())
    }

    fn write(&self, file: &str, value: &str) {
        let _ = fs::write(self.folder.join(file), value);
    }
}

/// The one in brackets of a list (Documentation/ABI/testing/sysfs-class-led); `None` where it is "none".
fn trigger_of(list: &str) -> Option<String> {
    let (_, rest) = list.split_once('[')?;
    let (name, _) = rest.split_once(']')?;
    (name != "none").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "/sys/devices/platform/box/leds/x";

    #[test]
    fn lights_for_people_are_used_and_others_are_not() {
        for (name, expected) in [
            ("red:status-1", Some(Kind::Status)),
            ("green:status-3", Some(Kind::Status)),
            ("mlxreg:uid:blue", Some(Kind::Identify)),
            ("board:green:user1", Some(Kind::Status)),
            ("pca9552:amber:fault", Some(Kind::Fault)),
            ("chassis::identify", Some(Kind::Identify)),
            ("input3::scrolllock", Some(Kind::ScrollLock)),
            ("input3::capslock", None),
            ("input3::numlock", None),
            ("enp1s0-0::lan", None),
            ("r8169-0-300::lan", None),
            ("igc-0300-led0", None),
            ("phy0-led", None),
            ("hdd1:blue:status", None),
            ("nvme0:amber:fault", None),
            ("mmc0::", None),
            ("ata1:green:status", None),
            ("power:green:status", None),
            ("status:green:power", None),
            ("platform::micmute", None),
            ("status", Some(Kind::Status)),
            ("", None),
            ("::", None),
        ] {
            assert_eq!(kind(name, DEVICE), expected, "{name}");
        }
        assert_eq!(kind("x::status", "/sys/devices/pci0000:00/0000:00:1f.6/net/eno1/leds/x"), None);
        assert_eq!(kind("x:amber:fault", "/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/x"), None);
    }

    #[test]
    fn the_best_kind_is_used_and_fault_lights_for_faults() {
        let all = |names: &[(&str, Kind)]| names.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        let chosen =
            choose(all(&[("k", Kind::ScrollLock), ("f", Kind::Fault), ("s", Kind::Status), ("t", Kind::Status)]));
        assert_eq!(chosen, all(&[("f", Kind::Fault), ("s", Kind::Status), ("t", Kind::Status)]));
        assert_eq!(choose(all(&[("k", Kind::ScrollLock)])), all(&[("k", Kind::ScrollLock)]));
        assert_eq!(choose(vec![]), vec![]);
        assert_eq!(shows(Kind::Fault, Some(true), Some(Doing::Finished)), None);
        assert_eq!(shows(Kind::Fault, Some(true), Some(Doing::Trouble)), Some(true));
        assert_eq!(shows(Kind::Status, Some(false), Some(Doing::Working)), Some(false));
    }

    /// Files in the place of sysfs.
    #[test]
    fn a_light_is_put_back_as_it_was() {
        let class = tempfile::tempdir().unwrap();
        let light = class.path().join("input3::scrolllock");
        fs::create_dir(&light).unwrap();
        let write = |file: &str, text: &str| fs::write(light.join(file), text).unwrap();
        let read = |file: &str| fs::read_to_string(light.join(file)).unwrap();
        write("brightness", "1\n");
        write("max_brightness", "255\n");
        write("trigger", "none kbd-capslock [kbd-scrolllock] timer\n");
        let mut lights = Lights::default();
        lights.look(class.path());
        assert_eq!(lights.names(), ["input3::scrolllock"]);
        lights.show(Some(false), Some(Doing::Working));
        assert_eq!((read("trigger"), read("brightness")), ("none".into(), "0".into()));
        lights.show(Some(true), Some(Doing::Working));
        lights.look(class.path());
        assert_eq!(read("brightness"), "255");
        lights.put_back();
        assert_eq!((read("trigger"), read("brightness")), ("kbd-scrolllock".into(), "1".into()));
        assert_eq!(trigger_of("[none] timer"), None);
    }
}
