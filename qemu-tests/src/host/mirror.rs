//! Which Debian mirror to use: the setting, else what the host's own apt uses. So a host behind a company's
//! mirror works without being told twice.

use std::path::Path;

/// The setting that names the mirror.
pub const MIRROR_VARIABLE: &str = "SHELFBOOT_DEBIAN_MIRROR";
/// The setting that names the security mirror.
pub const SECURITY_MIRROR_VARIABLE: &str = "SHELFBOOT_DEBIAN_SECURITY_MIRROR";

/// The base URLs of a Debian mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// The archive.
    pub debian: String,
    /// The security archive, where one is known.
    pub security: Option<String>,
}

/// Why no mirror was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no Debian mirror is known: {MIRROR_VARIABLE} is not set and the host's apt sources name none")]
pub struct NoMirror;

/// One line or stanza of apt's sources, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

/// The mirrors to use on this host.
///
/// # Errors
/// [`NoMirror`] when neither the setting nor the host names one.
pub fn mirrors() -> Result<Mirrors, NoMirror> {
    let set = |name| std::env::var(name).ok().filter(|v: &String| !v.is_empty());
    choose(&read_sources(Path::new("/etc/apt")), set(MIRROR_VARIABLE), set(SECURITY_MIRROR_VARIABLE))
}

fn choose(sources: &[Source], debian: Option<String>, security: Option<String>) -> Result<Mirrors, NoMirror> {
    let find = |fits: fn(&str) -> bool| {
        sources
            .iter()
            .find(|s| s.components.iter().any(|c| c == "main") && s.suites.iter().any(|suite| fits(suite)))
            .map(|s| s.uri.trim_end_matches('/').to_owned())
    };
    Ok(Mirrors {
        debian: debian.or_else(|| find(is_release)).ok_or(NoMirror)?,
        security: security.or_else(|| find(is_security)),
    })
}

/// Debian's own suites; those of other vendors have other names (`cloud-sdk-bookworm`, `nodistro`).
fn is_release(suite: &str) -> bool {
    const NAMES: [&str; 8] = ["bookworm", "trixie", "forky", "duke", "stable", "oldstable", "testing", "sid"];
    NAMES.contains(&suite)
}

fn is_security(suite: &str) -> bool {
    suite.strip_suffix("-security").is_some_and(is_release)
}

fn read_sources(apt: &Path) -> Vec<Source> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = std::fs::read_dir(apt.join("sources.list.d")) {
        let mut more: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        more.sort();
        files.extend(more);
    }
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|e| e.to_str()) {
            Some("list") => sources.extend(one_line_style(&text)),
            Some("sources") => sources.extend(deb822_style(&text)),
            _ => {}
        }
    }
    sources
}

/// `deb [options] URI SUITE COMPONENT…` (sources.list(5)).
fn one_line_style(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim();
            let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
            if let Some(options) = rest.strip_prefix('[') {
                rest = options.split_once(']')?.1;
            }
            let mut words = rest.split_whitespace().map(str::to_owned);
            Some(Source { uri: words.next()?, suites: vec![words.next()?], components: words.collect() })
        })
        .collect()
}

/// Stanzas of `Field: values`, separated by empty lines; a value goes on in lines that begin with a space.
fn deb822_style(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).flat_map(stanza).collect()
}

fn stanza(lines: &[&str]) -> Vec<Source> {
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if line.starts_with([' ', '\t']) {
            if let Some((_, values)) = fields.last_mut() {
                values.extend(words(line));
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), words(value)));
        }
    }
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default();
    if !field("types").iter().any(|t| t == "deb") || field("enabled").iter().any(|v| v == "no") {
        return Vec::new();
    }
    let (suites, components) = (field("suites"), field("components"));
    field("uris")
        .into_iter()
        .map(|uri| Source { uri, suites: suites.clone(), components: components.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_sources() {
        let text = "# deb http://old.example/debian bookworm main\n\
                    deb [signed-by=/k arch=amd64] http://m.example/debian/ bookworm main contrib # ours\n\
                    deb-src http://m.example/debian bookworm main\n\
                    deb http://m.example/debian-security bookworm-security main\n";
        let mirrors = choose(&one_line_style(text), None, None).unwrap();
        assert_eq!(mirrors.debian, "http://m.example/debian");
        assert_eq!(mirrors.security.as_deref(), Some("http://m.example/debian-security"));
    }

    #[test]
    fn deb822_sources() {
        let text = "Types: deb\n# a comment inside\nURIs: http://m.example/debian\nSuites: trixie\n trixie-updates\n\
                    Components: main\n\nTypes: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: sid\n\
                    Components: main\n\nTypes: deb\nURIs: http://m.example/debian-security\nSuites: trixie-security\n\
                    Components: main\n";
        let sources = deb822_style(text);
        assert_eq!(sources.len(), 2);
        let mirrors = choose(&sources, None, None).unwrap();
        assert_eq!(mirrors.debian, "http://m.example/debian");
        assert_eq!(mirrors.security.as_deref(), Some("http://m.example/debian-security"));
    }

    #[test]
    fn other_vendors_are_not_debian() {
        let text = "deb http://v.example/apt tool-bookworm main\ndeb http://n.example/x nodistro main\n";
        assert_eq!(choose(&one_line_style(text), None, None), Err(NoMirror));
        let set = choose(&[], Some("http://set.example/debian".into()), None).unwrap();
        assert_eq!((set.debian.as_str(), set.security), ("http://set.example/debian", None));
    }
}
