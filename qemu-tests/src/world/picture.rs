//! What stands on a machine's screen: a picture for people, and the QR code on it as a camera reads it.

use super::machine::Machine;
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A picture of a screen.
#[derive(Debug)]
pub struct Picture {
    /// The same as PNG, to look at.
    pub png: PathBuf,
    width: usize,
    height: usize,
    /// One byte a pixel, 0 is black.
    pixels: Vec<u8>,
}

impl Picture {
    /// Takes one of what is shown now.
    ///
    /// # Errors
    /// When QEMU gives none.
    pub async fn take(machine: &Machine, folder: &Path, name: &str) -> Result<Self> {
        let (png, raw) = (folder.join(format!("{name}.png")), folder.join(format!("{name}.ppm")));
        for (path, format) in [(&png, "png"), (&raw, "ppm")] {
            let arguments = serde_json::json!({"filename": path, "format": format});
            machine.command("screendump", &arguments).await?;
        }
        let bytes = fs::read(&raw).with_context(|| format!("reading {}", raw.display()))?;
        let (width, height, pixels) = grey(&bytes).with_context(|| format!("{} is no PPM", raw.display()))?;
        fs::remove_file(&raw).with_context(|| format!("removing {}", raw.display()))?;
        ensure!(pixels.iter().any(|pixel| *pixel > 0), "the screen is black: {}", png.display());
        Ok(Self { png, width, height, pixels })
    }

    /// The texts of all QR codes on it.
    #[must_use]
    pub fn codes(&self) -> Vec<String> {
        let at = |x: usize, y: usize| self.pixels[y * self.width + x];
        let mut prepared = rqrr::PreparedImage::prepare_from_greyscale(self.width, self.height, at);
        prepared.detect_grids().iter().filter_map(|grid| grid.decode().ok()).map(|(_, text)| text).collect()
    }
}

/// Width, height and the green of every pixel of a binary PPM (netpbm's ppm(5), "P6").
fn grey(bytes: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let mut parts = bytes.splitn(4, |byte| byte.is_ascii_whitespace());
    let (magic, width, height, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let number = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<usize>().ok();
    let (width, height) = (number(width)?, number(height)?);
    let pixels = rest.strip_prefix(b"255")?.get(1..)?;
    let whole = magic == b"P6" && pixels.len() == width.checked_mul(height)?.checked_mul(3)?;
    whole.then(|| (width, height, pixels.chunks_exact(3).map(|pixel| pixel[1]).collect()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_picture_is_whole_or_none() {
        let whole = super::grey(b"P6\n2 1\n255\nabcdef").unwrap();
        assert_eq!(whole, (2, 1, b"be".to_vec()));
        for bad in [&b"P6\n2 1\n255\nabcde"[..], b"P5\n2 1\n255\nab", b"", b"P6\n99999999999999999999 9\n255\n"] {
            assert_eq!(super::grey(bad), None);
        }
    }
}
