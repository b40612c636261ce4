//! How a build says what it does. The library never prints: a [`Reporter`] does.

use serde::Serialize;
use std::{collections::BTreeMap, time::Instant};

/// Shows the progress of a build.
pub trait Reporter {
    /// A step began.
    fn started(&mut self, number: usize, total: usize, title: &str);
    /// A line of a program's output.
    fn line(&mut self, line: &str);
    /// The step ended well.
    fn done(&mut self, title: &str, seconds: f64, detail: &str);
}

/// Says nothing: for work beside other work that is reported.
#[derive(Debug)]
pub struct Silent;

impl Reporter for Silent {
    fn started(&mut self, _: usize, _: usize, _: &str) {}
    fn line(&mut self, _: &str) {}
    fn done(&mut self, _: &str, _: f64, _: &str) {}
}

/// Numbers, times and reports the steps of a build.
pub struct Steps<'a> {
    reporter: &'a mut dyn Reporter,
    titles: &'static [(&'static str, &'static str)],
    seconds: BTreeMap<String, f64>,
    number: usize,
    started: Instant,
}

impl std::fmt::Debug for Steps<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<'a> Steps<'a> {
    /// `titles` are names and titles, in order.
    pub fn new(reporter: &'a mut dyn Reporter, titles: &'static [(&'static str, &'static str)]) -> Self {
        Self { reporter, titles, seconds: BTreeMap::new(), number: 0, started: Instant::now() }
    }

    /// Begins the next step.
    pub fn begin(&mut self) -> &mut dyn Reporter {
        self.number += 1;
        self.started = Instant::now();
        self.reporter.started(self.number, self.titles.len(), self.titles[self.number - 1].1);
        self.reporter
    }

    /// Ends the step under way; `detail` is what came out of it, or that the cache had it.
    pub fn done(&mut self, detail: &str) {
        let (name, title) = self.titles[self.number - 1];
        let seconds = (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        self.seconds.insert(name.to_owned(), seconds);
        self.reporter.done(title, seconds, detail);
    }

    /// Seconds by step name.
    #[must_use]
    pub fn seconds(self) -> BTreeMap<String, f64> {
        self.seconds
    }
}

/// What a build made; `--json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// TUF target name of the manifest.
    pub manifest: String,
    /// The template.
    pub template: String,
    /// The image's version.
    pub image_version: String,
    /// The dm-verity root hash.
    pub root_hash: String,
    /// Bytes of the signed UKI.
    pub uki_bytes: u64,
    /// Bytes of the compressed initrd.
    pub initrd_bytes: u64,
    /// Bytes of the unpacked initrd.
    pub initrd_unpacked_bytes: u64,
    /// Bytes of the EROFS image.
    pub root_bytes: u64,
    /// Bytes of the hash tree.
    pub hash_bytes: u64,
    /// Bytes of the chunked archive.
    pub archive_bytes: u64,
    /// Bytes of the archive's header and dictionary.
    pub archive_header_bytes: u64,
    /// Where the tree with the image tools is, on this machine.
    pub tools: std::path::PathBuf,
    /// Seconds by step.
    pub seconds: BTreeMap<String, f64>,
}

/// A number of bytes for people.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
