//! `netboot survey`: who serves the LAN behind an interface, and whether netboot's answers arrive there. Works without a running
//! service, from any machine on the LAN.

use super::probe::{self, Answer};
use crate::proto::dhcp::ask::Guise;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// Servers that a report names; anybody can forge more.
const MOST: usize = 64;

/// What to do.
#[derive(Debug, Clone)]
pub struct Task {
    /// Where.
    pub interface: String,
    /// How long.
    pub time: Duration,
    /// Whether to ask, as a test client.
    pub probe: bool,
    /// The netboot that should be heard, with its HTTP port.
    pub expected: Option<(Ipv4Addr, u16)>,
    /// Whether that one serves on this very interface: what it sends does not come back to it.
    pub on_its_own_interface: bool,
}

/// A server on the LAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its address.
    pub address: Ipv4Addr,
    /// The card that its answers came from; none when only a client named it.
    pub card: Option<String>,
    /// It lends addresses.
    pub lends_addresses: bool,
    /// It says something about booting.
    pub boots: bool,
    /// It answered the test client.
    pub answered: bool,
    /// Its base URL, if it is a netboot.
    pub netboot: Option<String>,
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A word for machines.
    pub code: String,
    /// What is the case.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub interface: String,
    /// How long, in seconds.
    pub seconds: u64,
    /// Whether questions were asked.
    pub probed: bool,
    /// Who was heard.
    pub servers: Vec<Server>,
    /// What that means.
    pub findings: Vec<Finding>,
}

/// Whether the expected netboot can be reached by TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It accepts connections.
    Yes,
    /// It does not.
    No,
}

/// Listens, and asks if that is wanted. Blocks for the whole time.
///
/// # Errors
/// The kernel's: without CAP_NET_RAW there is no packet socket.
pub fn run(task: &Task) -> io::Result<Report> {
    let mut servers = BTreeMap::new();
    let mut chosen = Vec::new();
    let guises: &[Guise] = if task.probe { &Guise::ALL } else { &[] };
    let heard = |answer: Answer| {
        note(&mut servers, &answer);
        true
    };
    let named = |server| {
        if chosen.len() < MOST && !chosen.contains(&server) {
            chosen.push(server);
        }
    };
    probe::listen(&task.interface, guises, task.time, heard, named)?;
    for address in chosen {
        entry(&mut servers, address).lends_addresses = true;
    }
    let servers: Vec<_> = servers.into_values().collect();
    let missing = task.expected.filter(|_| task.probe && !task.on_its_own_interface);
    let missing = missing.filter(|(address, _)| !servers.iter().any(|s| s.address == *address && s.netboot.is_some()));
    let reach = missing.map(|(address, port)| {
        let to = SocketAddr::from((address, port));
        if TcpStream::connect_timeout(&to, Duration::from_secs(3)).is_ok() { Reach::Yes } else { Reach::No }
    });
    let findings = findings(task, &servers, reach);
    let (interface, seconds) = (task.interface.clone(), task.time.as_secs());
    Ok(Report { interface, seconds, probed: task.probe, servers, findings })
}

fn entry(servers: &mut BTreeMap<Ipv4Addr, Server>, address: Ipv4Addr) -> &mut Server {
    servers.entry(address).or_insert(Server {
        address,
        card: None,
        lends_addresses: false,
        boots: false,
        answered: false,
        netboot: None,
    })
}

fn note(servers: &mut BTreeMap<Ipv4Addr, Server>, answer: &Answer) {
    if servers.len() >= MOST && !servers.contains_key(&answer.spoken.server) {
        return;
    }
    let server = entry(servers, answer.spoken.server);
    server.card.get_or_insert_with(|| answer.card.to_string());
    server.lends_addresses |= answer.spoken.lends.is_some();
    server.boots |= answer.spoken.boots;
    server.answered |= answer.guise.is_some();
    if let Some(url) = &answer.netboot {
        server.netboot.get_or_insert_with(|| url.clone());
    }
}

/// What the servers that were heard mean. `reach` is known where the expected netboot was not heard.
fn findings(task: &Task, servers: &[Server], reach: Option<Reach>) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut say = |code: &str, message: String, hint: &str| {
        all.push(Finding { code: code.to_owned(), message, hint: hint.to_owned() });
    };
    let list = |wanted: &dyn Fn(&&Server) -> bool| -> Vec<String> {
        servers.iter().filter(|server| wanted(server)).map(|server| server.address.to_string()).collect()
    };
    let lending = list(&|s| s.lends_addresses);
    if lending.is_empty() && task.probe {
        say(
            "no-dhcp-server",
            "no DHCP server answered the test client".into(),
            "netboot in mode `proxy` needs one on the LAN; check its pool, this cable's VLAN, and DHCP snooping on the switch",
        );
    }
    if lending.len() > 1 {
        say(
            "several-dhcp-servers",
            format!("several DHCP servers lend addresses here: {}", lending.join(", ")),
            "switch off all but one, unless they are meant as a pair",
        );
    }
    let silent = list(&|s| s.lends_addresses && !s.answered);
    if task.probe && !silent.is_empty() {
        say(
            "dhcp-server-silent",
            format!("{} serves others and did not answer the test client", silent.join(", ")),
            "its pool may be empty, or it may know only listed machines: a blank machine gets no address then",
        );
    }
    let strangers = list(&|s| s.boots && s.netboot.is_none());
    if !strangers.is_empty() {
        say(
            "other-boot-server",
            format!("another boot server answers here: {}", strangers.join(", ")),
            "machines may start from it instead: take the store's machines out of it, or switch it off",
        );
    }
    match (task.expected, reach) {
        (Some((address, port)), Some(Reach::Yes)) => say(
            "answers-lost",
            format!(
                "netboot at {address}:{port} can be reached, and its DHCP answers do not arrive on {}",
                task.interface
            ),
            "the switch drops them: with DHCP snooping make netboot's port trusted, with port isolation or a private VLAN \
             let its port speak to all; else set `mode: 4011-only` and see docs/pxe.md",
        ),
        (Some((address, port)), Some(Reach::No)) => say(
            "netboot-unreachable",
            format!("netboot at {address}:{port} answers neither the test client nor a connection"),
            "check that it runs, that this port is in the same VLAN, and that ports are not isolated from each other",
        ),
        (Some(_), None) if task.probe && task.on_its_own_interface => say(
            "own-interface",
            format!("netboot serves on {}: its answers cannot come back to the port that they leave", task.interface),
            "run `netboot survey --probe` on another machine, or on another interface that is plugged into the same switch",
        ),
        (None, None) if task.probe && !servers.iter().any(|s| s.netboot.is_some()) => say(
            "no-netboot",
            "no netboot answered the test client".into(),
            "name the one that should with --netboot ADDRESS, to learn whether its answers are lost on the way",
        ),
        _ => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{dhcp::survey::Spoken, mac::Mac};

    const DHCP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    const NETBOOT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    fn task(probe: bool) -> Task {
        let time = Duration::from_secs(1);
        Task { interface: "eth0".into(), time, probe, expected: Some((NETBOOT, 80)), on_its_own_interface: false }
    }

    fn heard(answers: &[(Ipv4Addr, bool, bool, Option<Guise>, bool)]) -> Vec<Server> {
        let mut servers = BTreeMap::new();
        for (server, lends, boots, guise, netboot) in answers {
            let lends = lends.then_some(Ipv4Addr::new(10, 77, 0, 50));
            let spoken = Spoken { server: *server, lends, boots: *boots };
            let netboot = netboot.then(|| "http://10.77.0.2".to_owned());
            note(&mut servers, &Answer { spoken, guise: *guise, netboot, card: Mac([2, 0, 0, 0, 0, 1]) });
        }
        servers.into_values().collect()
    }

    fn codes(task: &Task, servers: &[Server], reach: Option<Reach>) -> Vec<String> {
        findings(task, servers, reach).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_lan_as_it_should_be_has_no_findings() {
        let servers = heard(&[
            (DHCP, true, false, Some(Guise::Device), false),
            (NETBOOT, false, true, Some(Guise::Firmware), false),
            (NETBOOT, false, false, Some(Guise::Agent), true),
        ]);
        assert_eq!(servers.len(), 2);
        assert_eq!(codes(&task(true), &servers, None), [""; 0]);
        assert_eq!(codes(&task(false), &[], None), [""; 0], "who only listens may hear nothing");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let stranger = (DHCP, true, true, None, false);
        assert_eq!(codes(&task(false), &heard(&[stranger]), None), ["other-boot-server"]);
        let both = heard(&[stranger, (NETBOOT, true, false, Some(Guise::Device), true)]);
        let found = codes(&task(true), &both, None);
        assert_eq!(found, ["several-dhcp-servers", "dhcp-server-silent", "other-boot-server"]);
        let only_dhcp = heard(&[(DHCP, true, false, Some(Guise::Device), false)]);
        assert_eq!(codes(&task(true), &only_dhcp, Some(Reach::Yes)), ["answers-lost"]);
        assert_eq!(codes(&task(true), &only_dhcp, Some(Reach::No)), ["netboot-unreachable"]);
        let here = Task { on_its_own_interface: true, ..task(true) };
        assert_eq!(codes(&here, &only_dhcp, None), ["own-interface"]);
        let nobody = Task { expected: None, ..task(true) };
        assert_eq!(codes(&nobody, &[], None), ["no-dhcp-server", "no-netboot"]);
    }
}
