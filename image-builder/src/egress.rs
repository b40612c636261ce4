//! What a machine may send, as a table of nftables.
//!
//! The agent calls netboot and, through its relay, the region: addresses that nobody knows when the image is built. So what the
//! agent's unit sends is allowed by its control group: systemd puts that into a set of the table whenever it starts the unit
//! (systemd.resource-control(5), `NFTSet=`). Only the machine's own packets are looked at: what it forwards for pods and
//! servers is ruled by their network policies.

use crate::files::{self, FileError};
use profiles::{Egress, EgressRule, MachineTemplate, Network, Protocol};
use std::{fmt::Write as _, path::Path};

/// Debian's unit that loads /etc/nftables.conf before the network comes up.
pub const UNIT: &str = "nftables.service";
const RULES: &str = "etc/nftables.conf";
const AGENT_PART: &str = "etc/systemd/system/shelfboot-agent.service.d/10-egress.conf";
const AGENT_PART_TEXT: &str = "[Service]\nNFTSet=cgroup:inet:shelfboot:agent\n";

/// Writes the rules, and what lets the agent through. Without a list in the template it writes nothing.
///
/// # Errors
/// [`FileError`].
pub fn write(tree: &Path, template: &MachineTemplate) -> Result<(), FileError> {
    let Some(egress) = &template.egress else { return Ok(()) };
    files::write(&tree.join(RULES), rules(egress).as_bytes(), 0o644)?;
    files::write(&tree.join(AGENT_PART), AGENT_PART_TEXT.as_bytes(), 0o644)
}

/// A table of our own and nothing else: containers have theirs.
#[must_use]
pub fn rules(egress: &Egress) -> String {
    let mut text = String::from(HEAD);
    if egress.dns {
        text += "    meta l4proto { tcp, udp } th dport 53 accept\n";
    }
    for rule in &egress.rules {
        for network in &rule.to {
            let _ = writeln!(text, "    {}", line(rule, network));
        }
    }
    text + TAIL
}

fn line(rule: &EgressRule, to: &Network) -> String {
    let (family, icmp) = if to.address.is_ipv4() { ("ip", "icmp") } else { ("ip6", "icmpv6") };
    let range = |(from, to): &(u16, u16)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    let ports = rule.ports.iter().map(range).collect::<Vec<_>>().join(", ");
    match rule.protocol {
        Protocol::Any => format!("{family} daddr {to} accept"),
        Protocol::Icmp => format!("{family} daddr {to} meta l4proto {icmp} accept"),
        Protocol::Tcp | Protocol::Udp => {
            format!("{family} daddr {to} {} dport {{ {ports} }} accept", rule.protocol.word())
        }
    }
}

/// The first line makes the table where there is none, so that the second one can always remove it.
const HEAD: &str = "\
#!/usr/sbin/nft -f
# Written by image-builder from the template's 'egress'.
table inet shelfboot
delete table inet shelfboot
table inet shelfboot {
  set agent {
    type cgroupsv2
  }
  chain output {
    type filter hook output priority filter; policy drop;
    oif lo accept
    ct state { established, related } accept
    socket cgroupv2 level 2 @agent accept
    # Addresses: DHCP, neighbours and routers, groups.
    meta nfproto ipv4 udp sport 68 udp dport 67 accept
    ip6 daddr { fe80::/10, ff02::/16 } udp sport 546 udp dport 547 accept
    icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept
    ip protocol igmp accept
";

/// A refusal is said at once, so that nothing waits for an answer that never comes.
const TAIL: &str = "    limit rate 6/minute log prefix \"egress refused: \"
    counter reject with icmpx admin-prohibited
  }
}
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write as _,
        path::PathBuf,
        process::{Command, Stdio},
    };

    fn example() -> Egress {
        let network = |text: &str, length| Network { address: text.parse().unwrap(), length };
        Egress {
            dns: true,
            rules: vec![
                EgressRule {
                    to: vec![network("10.20.0.0", 16), network("fd00:20::", 64)],
                    protocol: Protocol::Tcp,
                    ports: vec![(443, 443), (6800, 7300)],
                },
                EgressRule { to: vec![network("10.20.0.5", 32)], protocol: Protocol::Udp, ports: vec![(123, 123)] },
                EgressRule { to: vec![network("10.244.0.0", 24)], protocol: Protocol::Any, ports: vec![] },
                EgressRule {
                    to: vec![network("10.20.0.5", 32), network("::", 0)],
                    protocol: Protocol::Icmp,
                    ports: vec![],
                },
            ],
        }
    }

    #[test]
    fn lists_become_a_table_of_nftables() {
        insta::assert_snapshot!(rules(&example()));
    }

    /// The real nft takes it, with and without the table there, and lists what was meant. It comes from the host, or from the tree
    /// that `cargo xtask setup` has left in the cache, and needs a network namespace of its own; what is missing is said.
    #[test]
    fn nft_takes_the_table() {
        let Some(root) = root_with_nft() else { return left_out("no nft on this host, and no lab tree in the cache") };
        let script = "nft list ruleset >/dev/null || exit 77; cat >/dev/shm/egress.$$ && f=/dev/shm/egress.$$ && nft -c -f $f && \
                      nft -f $f && nft -f $f; code=$?; rm $f; nft list table inet shelfboot; exit $code";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c"]);
        command.arg("mount --rbind /dev \"$0/dev\" && exec chroot \"$0\" sh -c \"$1\"").arg(&root).arg(script);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Where the namespaces are refused nobody reads it.
        let _ = child.stdin.take().unwrap().write_all(rules(&example()).as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(77) || said.starts_with("unshare:") {
            return left_out(&said);
        }
        assert!(output.status.success(), "{said}");
        let listed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(listed.matches("policy drop").count(), 1, "{listed}");
        assert!(listed.contains("ip daddr 10.20.0.0/16 tcp dport { 443, 6800-7300 } accept"), "{listed}");
        assert!(listed.contains("socket cgroupv2 level 2 @agent accept"), "{listed}");
    }

    fn root_with_nft() -> Option<PathBuf> {
        let lab = crate::cache::default_folder(|name: &str| std::env::var(name).ok()).join("trees/lab");
        let trees = std::fs::read_dir(lab).into_iter().flatten().flatten().map(|entry| entry.path().join("root"));
        [PathBuf::from("/")].into_iter().chain(trees).find(|root| root.join("usr/sbin/nft").exists())
    }

    #[expect(clippy::print_stderr, reason = "a test that was left out says so")]
    fn left_out(why: &str) {
        eprintln!("left out: {why}");
    }
}
