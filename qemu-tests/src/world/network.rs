//! The wires: the store's LAN is a bridge in this process' namespace; router, netboot, region and a till have
//! namespaces of their own.

use super::{addresses as at, root::Root};
use crate::process;
use anyhow::{Context as _, Result};
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// Namespaces by what is in them.
pub const ROUTER: &str = "router";
/// See [`ROUTER`].
pub const NETBOOT: &str = "netboot";
/// See [`ROUTER`].
pub const REGION: &str = "region";
/// See [`ROUTER`].
pub const TILL: &str = "till";

/// The LAN's bridge.
pub const BRIDGE: &str = "br0";
/// The tap of the machine that is installed.
pub const MACHINE_TAP: &str = "machine0";
/// The tap of the plain guest.
pub const PLAIN_TAP: &str = "plain0";

/// Makes all namespaces, links and addresses.
///
/// # Errors
/// When a command fails.
pub fn make(root: &Root) -> Result<()> {
    for namespace in [ROUTER, NETBOOT, REGION, TILL] {
        process::output(root.command("ip").args(["netns", "add", namespace]))
            .with_context(|| format!("making the network namespace {namespace}"))?;
    }
    feed(root.command("ip").args(["-batch", "-"]), &lan()).context("making the store's LAN")?;
    for (namespace, lines) in [(ROUTER, router()), (NETBOOT, netboot()), (REGION, region()), (TILL, till())] {
        feed(root.command("ip").args(["-n", namespace, "-batch", "-"]), &lines)
            .with_context(|| format!("setting up the network of {namespace}"))?;
    }
    feed(root.command_in(ROUTER, "tee").arg("/proc/sys/net/ipv4/ip_forward"), "1")
        .context("making the router route")?;
    feed(root.command_in(ROUTER, "nft").args(["-f", "-"]), MASQUERADE).context("making the router masquerade")
}

/// What makes a router hide its store, for nft.
pub const MASQUERADE: &str = "table ip wan {
  chain out {
    type nat hook postrouting priority srcnat;
    oifname wan0 masquerade
  }
}
";

fn lan() -> String {
    // Without spanning tree and with no forward delay a port forwards at once; edk2 would otherwise give up on
    // DHCP while the bridge is still listening.
    let mut lines = format!(
        "link set lo up\n\
         link add {BRIDGE} type bridge stp_state 0 forward_delay 0\n\
         link add wan0 netns {ROUTER} type veth peer name eth0 netns {REGION}\n"
    );
    for (port, namespace) in [("router0", ROUTER), ("netboot0", NETBOOT), ("till0", TILL)] {
        lines += &format!("link add {port} type veth peer name eth0 netns {namespace}\n");
        lines += &format!("link set {port} master {BRIDGE} up\n");
    }
    for tap in [MACHINE_TAP, PLAIN_TAP] {
        lines += &format!("tuntap add {tap} mode tap\nlink set {tap} master {BRIDGE} up\n");
    }
    lines
        + &format!(
            "address add {}/24 dev {BRIDGE}\nlink set {BRIDGE} up\nroute add default via {}\n",
            at::OBSERVER,
            at::ROUTER
        )
}

fn router() -> String {
    format!(
        "link set lo up\naddress add {}/24 dev eth0\nlink set eth0 up\naddress add {}/24 dev wan0\nlink set wan0 up\n",
        at::ROUTER,
        at::WAN
    )
}

fn netboot() -> String {
    format!(
        "link set lo up\naddress add {}/24 dev eth0\nlink set eth0 up\nroute add default via {}\n",
        at::NETBOOT,
        at::ROUTER
    )
}

fn region() -> String {
    // No route: the region cannot reach into a store, it only answers.
    format!("link set lo up\naddress add {}/24 dev eth0\nlink set eth0 up\n", at::REGION)
}

fn till() -> String {
    "link set lo up\nlink set eth0 up\n".to_owned()
}

/// Runs a command with this text on its stdin.
///
/// # Errors
/// When it fails.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting it")?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes()).context("writing to it")?;
    let output = child.wait_with_output().context("waiting for it")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
