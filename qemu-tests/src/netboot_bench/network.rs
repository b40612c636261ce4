//! The wires: a bridge in this process's namespace, with a server and all its clients behind a port each; and a line from
//! the server to the region.

use crate::{process, world::root::Root};
use anyhow::{Context as _, Result};
use std::{
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

/// The namespace of the server.
pub const SERVER: &str = "server";
/// The namespace of all clients.
pub const CLIENTS: &str = "clients";
/// The namespace of the region.
pub const REGION: &str = "region";

/// The server's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
/// Addresses of other servers in the same namespace, for those that run beside netboot.
pub const OTHERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 60, 0, 2), Ipv4Addr::new(10, 60, 0, 3)];
/// The first client's address; the others follow.
pub const FIRST: Ipv4Addr = Ipv4Addr::new(10, 60, 1, 0);
/// What every client hears.
pub const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 60, 255, 255);
/// The server's own address towards the region.
const WAN: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// Clients that there are addresses for.
pub const CLIENTS_AT_MOST: u32 = 300;

/// A shaped line, bits each second.
pub const GIGABIT: f64 = 1e9;

/// Makes namespaces, links and addresses.
///
/// # Errors
/// When a command fails.
pub fn make(root: &Root) -> Result<()> {
    for namespace in [SERVER, CLIENTS, REGION] {
        process::output(root.command("ip").args(["netns", "add", namespace])).context("making a namespace")?;
    }
    let mut lan = "link set lo up\nlink add br0 type bridge stp_state 0 forward_delay 0\n".to_owned();
    for (port, namespace) in [("server0", SERVER), ("clients0", CLIENTS)] {
        lan += &format!("link add {port} type veth peer name eth0 netns {namespace}\nlink set {port} master br0 up\n");
    }
    lan += &format!("link set br0 up\nlink add wan0 netns {SERVER} type veth peer name eth0 netns {REGION}\n");
    feed(root.command("ip").args(["-batch", "-"]), &lan).context("making the bridge")?;
    let own = "link set lo up\nlink set eth0 up\n";
    let mut server = format!("{own}address add {WAN}/24 dev wan0\nlink set wan0 up\n");
    for address in [ADDRESS].into_iter().chain(OTHERS) {
        server += &format!("address add {address}/16 brd + dev eth0\n");
    }
    let region = format!("{own}address add {}/24 dev eth0\n", crate::world::addresses::REGION);
    let mut clients = own.to_owned();
    for number in 0..CLIENTS_AT_MOST {
        clients += &format!("address add {}/16 brd + dev eth0\n", Ipv4Addr::from_bits(FIRST.to_bits() + number));
    }
    for (namespace, lines) in [(SERVER, server), (REGION, region), (CLIENTS, clients)] {
        feed(root.command("ip").args(["-n", namespace, "-batch", "-"]), &lines)
            .with_context(|| format!("setting up the network of {namespace}"))?;
    }
    // On a real wire packets are no longer than the MTU, whoever cuts them. TCP keeps its offloads: network cards have them.
    let mut cut = root.command_in(SERVER, "ethtool");
    process::output(cut.args(["-K", "eth0", "tx-udp-segmentation", "off"])).context("preparing the server's port")?;
    Ok(())
}

/// Loses this share of the UDP packets between server and clients, in both directions, by chance. (nftables: kernels without
/// netem have it, too.)
///
/// # Errors
/// When a command fails.
pub fn lose(root: &Root, percent: u8) -> Result<()> {
    let _ = process::output(root.command("nft").args(["delete", "table", "bridge", "loss"]));
    if percent == 0 {
        return Ok(());
    }
    let rules = format!(
        "table bridge loss {{\n chain forward {{\n  type filter hook forward priority 0;\n  ip protocol udp numgen random mod \
         100 < {percent} drop\n }}\n}}\n"
    );
    feed(root.command("nft").args(["-f", "-"]), &rules).context("losing packets")
}

/// Makes the server's line towards its clients that fast, or as fast as it goes.
///
/// # Errors
/// When a command fails.
pub fn shape(root: &Root, bits: Option<f64>) -> Result<()> {
    let _ = process::output(root.command_in(SERVER, "tc").args(["qdisc", "del", "dev", "eth0", "root"]));
    let Some(bits) = bits else { return Ok(()) };
    let mut command = root.command_in(SERVER, "tc");
    command.args(["qdisc", "add", "dev", "eth0", "root", "tbf", "rate", &format!("{bits:.0}bit")]);
    // A burst of two milliseconds, a queue as long as a network card's.
    process::output(command.args(["burst", "256kb", "limit", "1500kb"])).context("shaping the line")?;
    Ok(())
}

fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting it")?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes()).context("writing to it")?;
    let output = child.wait_with_output().context("waiting for it")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
