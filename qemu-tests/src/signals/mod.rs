//! What a machine without a screen tells people: [`sound`] finds beeps in a recording, [`light`] flashes in QEMU's account of a
//! keyboard's lights. Both are pure; [`Recorder`] has QEMU make the recordings.

pub mod light;
pub mod sound;

use anyhow::{Context as _, Result};
use light::Flash;
use sound::Beep;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Samples in a second.
const RATE: u32 = 32_000;

/// Where the recordings of a machine lie.
#[derive(Debug, Clone)]
pub struct Recorder(PathBuf);

impl Recorder {
    /// In this folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn sound(&self) -> PathBuf {
        self.0.join("beeps.wav")
    }

    fn lights(&self) -> PathBuf {
        self.0.join("lights.log")
    }

    /// QEMU's arguments. It records only while a device plays, and pauses would be missing: a sound card that nobody uses plays silence
    /// all the time (QEMU, hw/audio/gus.c and hw/audio/pcspk.c).
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let wav =
            format!("wav,id=beeps,path={},out.frequency={RATE},out.channels=1,out.format=s16", self.sound().display());
        let lights = self.lights().display().to_string();
        [
            ["-audiodev", &wav],
            ["-machine", "pcspk-audiodev=beeps"],
            ["-device", &format!("gus,audiodev=beeps,freq={RATE}")],
            ["-trace", "enable=ps2_set_ledstate"],
            ["-msg", "timestamp=on"],
            ["-D", &lights],
        ]
        .concat()
        .iter()
        .map(|argument| (*argument).to_owned())
        .collect()
    }

    /// The beeps so far, oldest first, and how long the recording is.
    ///
    /// # Errors
    /// When there is no recording.
    pub fn beeps(&self) -> Result<(Vec<Beep>, Duration)> {
        let path = self.sound();
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let recording = sound::read(&bytes).with_context(|| format!("{} is no recording", path.display()))?;
        let length = recording.samples.len() as f64 / f64::from(recording.rate);
        Ok((sound::beeps(&recording), Duration::from_secs_f64(length)))
    }

    /// The flashes of the keyboard's scroll lock so far, oldest first.
    ///
    /// # Errors
    /// When there is no account of them.
    pub fn flashes(&self) -> Result<Vec<Flash>> {
        let path = self.lights();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(light::flashes(&text))
    }
}
