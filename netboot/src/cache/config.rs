//! The part of the configuration that is about the cache: as written ([`RawCache`]) and as validated ([`CacheConfig`]).

use super::bandwidth::{Hours, Schedule};
use serde::Deserialize;
use std::time::Duration;
use url::Url;

/// More upstreams than this are a mistake.
const MOST_UPSTREAMS: usize = 16;
const MOST_HOURS: usize = 24;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// `bandwidth:` as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct RawBandwidth {
    utc_offset: Option<String>,
    limit: Option<String>,
    schedule: Vec<RawHours>,
    waiting: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHours {
    from: String,
    to: String,
    limit: String,
}

/// `staleMetadata:` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RawStale {
    max_age: String,
}

/// `prefetch:` as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPrefetch {
    lead: Option<String>,
    spread: Option<String>,
}

/// The fields of the configuration file that are about the cache.
#[derive(Debug, Clone, Default)]
pub struct RawCache {
    /// `upstreams:`
    pub upstreams: Vec<String>,
    /// `checkEvery:`
    pub check_every: Option<String>,
    /// `bandwidth:`
    pub bandwidth: RawBandwidth,
    /// `cacheSize:`
    pub cache_size: Option<String>,
    /// `staleMetadata:`
    pub stale_metadata: Option<RawStale>,
    /// `prefetch:`
    pub prefetch: RawPrefetch,
}

/// How the repository gets here, and how long it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// Where it is mirrored from, in order of preference. Empty: something else puts it into the folder.
    pub upstreams: Vec<Url>,
    /// False when there is no `repository`: nothing large is kept.
    pub on_disk: bool,
    /// How often upstreams are asked for news. The real pause is between half of this and all of it.
    pub check_every: Duration,
    /// How fast things are fetched when.
    pub bandwidth: Schedule,
    /// The most bytes that the folder may take; `None` is as many as its disk has.
    pub size: Option<u64>,
    /// How long timestamp and snapshot are served after their expiry.
    pub stale: Duration,
    /// How long before its start in this store an announced version is to be here.
    pub lead: Duration,
    /// Over how long a time before that the stores of a region spread their fetching.
    pub spread: Duration,
}

/// What is wrong with one field: its name, and a sentence.
pub type Wrong = (&'static str, String);

impl RawCache {
    /// Validates.
    ///
    /// # Errors
    /// The first field that cannot work.
    pub fn validate(self) -> Result<CacheConfig, Wrong> {
        if self.upstreams.len() > MOST_UPSTREAMS {
            return Err(("upstreams", format!("more than {MOST_UPSTREAMS} make no sense")));
        }
        let upstreams = self.upstreams.iter().map(|text| upstream(text)).collect::<Result<_, _>>()?;
        let time = |field, text: Option<String>, default| match text {
            None => Ok(default),
            Some(text) => {
                duration(&text).ok_or((field, format!("`{text}` is no time such as `90s`, `5m`, `12h`, `7d`")))
            }
        };
        let check_every = time("checkEvery", self.check_every, Duration::from_secs(300))?;
        if check_every < Duration::from_secs(1) {
            return Err(("checkEvery", "must be at least `1s`".into()));
        }
        let size = match self.cache_size {
            None => None,
            Some(text) => Some(bytes(&text).ok_or(("cacheSize", format!("`{text}` is no size such as `20GiB`")))?),
        };
        Ok(CacheConfig {
            upstreams,
            on_disk: true,
            check_every,
            bandwidth: self.bandwidth.validate()?,
            size,
            stale: time("staleMetadata.maxAge", self.stale_metadata.map(|stale| stale.max_age), Duration::ZERO)?,
            lead: time("prefetch.lead", self.prefetch.lead, DAY)?,
            spread: time("prefetch.spread", self.prefetch.spread, DAY)?,
        })
    }
}

impl CacheConfig {
    /// What a machine may ask itself when this store's netboot fails it in the middle of an install: upstreams that want neither a
    /// certificate nor a name looked up.
    #[must_use]
    pub fn mirrors(&self) -> Vec<String> {
        let plain = |url: &&Url| url.scheme() == "http" && !matches!(url.host(), None | Some(url::Host::Domain(_)));
        self.upstreams.iter().filter(plain).map(Url::to_string).collect()
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        RawCache::default().validate().unwrap_or_else(|(field, problem)| unreachable!("{field}: {problem}"))
    }
}

fn upstream(text: &str) -> Result<Url, Wrong> {
    let wrong = || ("upstreams", format!("`{text}` is no http or https URL of a repository"));
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).map_err(|_| wrong())?;
    let plain =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let web = matches!(url.scheme(), "http" | "https") && url.has_host();
    if plain && web { Ok(url) } else { Err(wrong()) }
}

impl RawBandwidth {
    fn validate(self) -> Result<Schedule, Wrong> {
        let limit = |field, text: String| {
            rate(&text).ok_or((field, format!("`{text}` is no rate such as `2Mbit/s`, or `none`")))
        };
        let one = |field, text: Option<String>| text.map_or(Ok(None), |text| limit(field, text));
        if self.schedule.len() > MOST_HOURS {
            return Err(("bandwidth.schedule", format!("more than {MOST_HOURS} entries make no sense")));
        }
        if !self.schedule.is_empty() && self.utc_offset.is_none() {
            let problem = "a schedule needs to know whose hours these are: for example `utcOffset: \"+01:00\"`";
            return Err(("bandwidth.utcOffset", problem.into()));
        }
        let hours = self.schedule.into_iter().map(|hours| {
            let clock = |text: &str| {
                minute(text).ok_or(("bandwidth.schedule", format!("`{text}` is no time of day such as `08:00`")))
            };
            Ok(Hours {
                from: clock(&hours.from)?,
                to: clock(&hours.to)?,
                limit: limit("bandwidth.schedule", hours.limit)?,
            })
        });
        let hours = hours.collect::<Result<_, Wrong>>()?;
        let offset = match &self.utc_offset {
            None => 0,
            Some(text) => offset(text).ok_or(("bandwidth.utcOffset", format!("`{text}` is not like `+01:00`")))?,
        };
        let otherwise = one("bandwidth.limit", self.limit)?;
        Ok(Schedule { offset_minutes: offset, hours, otherwise, waiting: one("bandwidth.waiting", self.waiting)? })
    }
}

/// A number and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// `20GiB`, `500MB`, `1000`: bytes.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text.trim())?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor).filter(|bytes| *bytes > 0)
}

/// `2Mbit/s`, `500kbit/s`, `1MB/s`: bytes per second. `none` is no limit.
#[expect(clippy::option_option, reason = "not a rate, no limit, a limit")]
pub(crate) fn rate(text: &str) -> Option<Option<u64>> {
    if text.trim() == "none" {
        return Some(None);
    }
    let (number, unit) = split(text.trim())?;
    let bits = match unit {
        "bit/s" => number,
        "kbit/s" => number.checked_mul(1000)?,
        "Mbit/s" => number.checked_mul(1_000_000)?,
        "Gbit/s" => number.checked_mul(1_000_000_000)?,
        _ => bytes(text.trim().strip_suffix("/s")?)?.checked_mul(8)?,
    };
    // Less than that is no line but an outage, and no request would end before its time is up.
    Some(Some((bits / 8).max(1024)))
}

/// `90s`, `5m`, `12h`, `7d`; at most a year.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text.trim())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    let all = Duration::from_secs(number.checked_mul(seconds)?);
    (all <= DAY * 366).then_some(all)
}

/// `08:00`: minutes after midnight. `24:00` is midnight too.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two =
        |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()));
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= 24 * 60).then_some((hours * 60 + minutes) % (24 * 60))
}

/// `+01:00`: minutes east of Greenwich, at most fourteen hours.
fn offset(text: &str) -> Option<i16> {
    let (sign, rest) = (text.chars().next()?, text.get(1..)?);
    let minutes = i16::try_from(minute(rest)?).ok().filter(|minutes| *minutes <= 14 * 60)?;
    match sign {
        '+' => Some(minutes),
        '-' => Some(-minutes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn machines_hear_of_upstreams_that_they_can_use() {
        let upstreams = ["http://198.51.100.7/repo/", "https://198.51.100.8/repo/", "http://cdn.example/repo/"];
        let raw = RawCache { upstreams: upstreams.map(String::from).into(), ..RawCache::default() };
        assert_eq!(raw.validate().unwrap().mirrors(), ["http://198.51.100.7/repo/"]);
    }

    #[test]
    fn units() {
        assert_eq!(
            (bytes("20GiB"), bytes("500 MB"), bytes("7"), bytes("7x"), bytes("0")),
            (Some(20 << 30), Some(500_000_000), Some(7), None, None)
        );
        assert_eq!(
            (rate("2Mbit/s"), rate("1MB/s"), rate("none"), rate("2")),
            (Some(Some(250_000)), Some(Some(1_000_000)), Some(None), None)
        );
        assert_eq!(
            (duration("7d"), duration("5m"), duration("5"), duration("999d")),
            (Some(DAY * 7), Some(Duration::from_secs(300)), None, None)
        );
        assert_eq!(
            (minute("08:30"), minute("24:00"), minute("8:00"), minute("08:60"), minute("25:00")),
            (Some(510), Some(0), None, None, None)
        );
        assert_eq!(
            (offset("+01:00"), offset("-03:30"), offset("01:00"), offset("+15:00")),
            (Some(60), Some(-210), None, None)
        );
    }

    fn wrong(raw: RawCache) -> Wrong {
        raw.validate().unwrap_err()
    }

    #[test]
    fn mistakes_are_named() {
        let raw = |upstream: &str| RawCache { upstreams: vec![upstream.into()], ..RawCache::default() };
        for bad in ["ftp://a/b", "http://u:p@a/", "/folder", "http://a/?x", "https:///x#y"] {
            assert_eq!(wrong(raw(bad)).0, "upstreams", "{bad}");
        }
        assert_eq!(raw("http://a/repo//").validate().unwrap().upstreams[0].as_str(), "http://a/repo/");
        assert_eq!(wrong(RawCache { cache_size: Some("much".into()), ..RawCache::default() }).0, "cacheSize");
        let hours = RawHours { from: "08:00".into(), to: "20:00".into(), limit: "2Mbit/s".into() };
        let bandwidth = RawBandwidth { schedule: vec![hours], ..RawBandwidth::default() };
        assert_eq!(wrong(RawCache { bandwidth, ..RawCache::default() }).0, "bandwidth.utcOffset");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,12}") {
            let _ = (bytes(&text), rate(&text), duration(&text), minute(&text), offset(&text), upstream(&text));
        }
    }
}
