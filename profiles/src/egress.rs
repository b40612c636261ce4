//! What a machine may send, and where to: allow-lists, merged over all profiles.

use crate::{
    compose::{Checked, fill},
    error::Problems,
    parameters::Parameters,
    shapes::{EgressRuleSpec, EgressSpec},
    template::{Egress, EgressRule, Network, Protocol},
    yaml::{Placed, Source},
};
use std::net::IpAddr;

/// Adds a profile's list. An entry whose parameters are all empty is left out: this site has no such place.
pub(crate) fn add(
    source: &Source,
    spec: &EgressSpec,
    values: &Parameters,
    egress: &mut Egress,
    problems: &mut Problems,
) {
    egress.dns |= spec.dns;
    for spec in &spec.allow {
        let rule = EgressRule {
            to: spec.to.iter().flat_map(|at| problems.keep(networks(source, at, values)).unwrap_or_default()).collect(),
            protocol: spec.protocol.as_ref().map_or(Protocol::Tcp, |at| at.value),
            ports: merged(spec.ports.iter().filter_map(|at| problems.keep(ports(source, at, values))).collect()),
        };
        problems.keep(check_ports(source, spec, rule.protocol));
        if !rule.to.is_empty() && !egress.rules.contains(&rule) {
            egress.rules.push(rule);
        }
    }
}

/// A parameter of the type networks may hold several.
fn networks(source: &Source, at: &Placed<String>, values: &Parameters) -> Checked<Vec<Network>> {
    let text = fill(source, at, values)?;
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let one = |part: &str| {
        network(part).ok_or_else(|| {
            let message = format!("'{part}' is neither a network nor an address");
            let fix = "write for example 10.20.0.0/16 or 10.20.0.7; names are not known when rules are loaded";
            source.problem(at, "bad-egress", message, fix)
        })
    };
    parts.map(one).collect()
}

fn ports(source: &Source, at: &Placed<String>, values: &Parameters) -> Checked<(u16, u16)> {
    let text = fill(source, at, values)?;
    port_range(&text).ok_or_else(|| {
        let message = format!("'{text}' is neither a port nor a range of ports");
        source.problem(at, "bad-egress", message, "write for example \"443\" or \"6800-7300\"")
    })
}

fn check_ports(source: &Source, spec: &EgressRuleSpec, protocol: Protocol) -> Checked<()> {
    let Some(first) = spec.to.first() else { return Ok(()) };
    let wrong = |message: &str, fix: &str| Err(source.problem(first, "bad-egress", message, fix));
    match (protocol, spec.ports.is_empty()) {
        (Protocol::Tcp | Protocol::Udp, true) => wrong("no port is named", "write for example ports: [\"443\"]"),
        (Protocol::Icmp | Protocol::Any, false) => {
            wrong("only TCP and UDP have ports", "leave 'ports' out, or write protocol: tcp")
        }
        _ => Ok(()),
    }
}

fn network(text: &str) -> Option<Network> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address.parse().ok()?, Some(length.parse::<u8>().ok()?)),
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(most);
    (length <= most).then_some(Network { address, length })
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let port =
        |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    let (from, to) = (port(from)?, port(to)?);
    (from <= to).then_some((from, to))
}

/// Sorted, and without overlaps: nftables refuses sets with two ranges that share a port.
fn merged(mut ports: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ports.sort_unstable();
    let mut out: Vec<(u16, u16)> = Vec::new();
    for (from, to) in ports {
        match out.last_mut() {
            Some(last) if u32::from(from) <= u32::from(last.1) + 1 => last.1 = last.1.max(to),
            _ => out.push((from, to)),
        }
    }
    out
}

/// The protocol, as it is written.
pub(crate) fn word(at: Option<&Placed<Protocol>>) -> &'static str {
    at.map_or(Protocol::Tcp, |at| at.value).word()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_are_numbers() {
        let text = |text: &str| network(text).map(|network| network.to_string());
        assert_eq!(text("10.0.0.7").as_deref(), Some("10.0.0.7"));
        assert_eq!(text("10.0.0.0/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(text("fd00::/64").as_deref(), Some("fd00::/64"));
        for bad in ["region.example", "10.0.0.0/33", "10.0.0", "", "::1/129", "10.0.0.0/-1"] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn merged_ports_are_the_same_ports(ranges in prop::collection::vec((1u16..300, 0u16..40), 1..12)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(from, more)| (from, from + more)).collect();
            let has = |ranges: &[(u16, u16)], port: u16| ranges.iter().any(|(from, to)| (*from..=*to).contains(&port));
            let merged = merged(ranges.clone());
            for port in 1..400 {
                prop_assert_eq!(has(&ranges, port), has(&merged, port));
            }
            prop_assert!(merged.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }

        #[test]
        fn any_text_is_survived(text in ".{0,20}") {
            let _ = (network(&text), port_range(&text));
        }
    }
}
