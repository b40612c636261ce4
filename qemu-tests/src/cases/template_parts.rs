//! A template's kernel arguments, users, egress list and what its store says, as they are on a joined machine; the last also as it is
//! at the next start, before anybody asks the region.

use super::{
    blank_machine,
    member::start,
    pods::{self, Task},
    until,
};
use crate::{
    journey::Plan,
    materials::site::{BUILT, HOME, KERNEL_ARGUMENT, STORE_FILE, UID, USER, reference},
    report::Report,
    world::{
        World, addresses as at,
        firmware::NetworkBoot,
        machine::Machine,
        registrar::{NUMBER, PLACE},
    },
};
use anyhow::{Context as _, Result, ensure};
use std::{net::TcpStream, time::Duration};

/// Runs the case. That the machine joins at all shows that the agent reaches netboot, which no list names.
///
/// # Errors
/// When something of the template is not there.
pub async fn run(plan: &Plan, world: &mut World, report: &Report, result: &Report) -> Result<()> {
    let hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    let arrived = start(plan, world, &hardware, 1, None, report).await?;
    result.line(arrived.member.words.trim_end());

    let try_port = |port: u16| {
        format!(
            "/bin/busybox echo port {port}; /bin/busybox nc -w 3 {} {port} </dev/null && /bin/busybox echo open\n",
            at::REGION
        )
    };
    let script = [
        "/bin/busybox cat /proc/cmdline\n".to_owned(),
        format!("/bin/busybox grep ^{USER}: /host/etc/passwd\n/bin/busybox ls -dn /host{HOME}\n"),
        format!("/bin/busybox cat /host{STORE_FILE}\n"),
        try_port(at::API_PORT),
        try_port(at::REGISTRY_PORT),
        try_port(at::REGISTRAR_PORT),
        // That the last one is refused is no reason to try again.
        "exit 0\n".to_owned(),
    ];
    let image = reference("greeter");
    let task = Task { name: "looker", image: &image, script: &script.concat(), on_the_host: true };
    let said = pods::run(&world.region.kubernetes()?.api, task).await?.said;
    report.line(format!("a pod with the machine's network and folders says:\n{}", said.trim()));
    let mut lines = said.lines();

    let command_line = lines.next().unwrap_or_default();
    ensure!(command_line.ends_with(&format!("quiet {KERNEL_ARGUMENT}")), "the kernel's arguments are {command_line}");
    report.line(format!("check: the template's argument is on the kernel's command line: yes ({KERNEL_ARGUMENT})"));

    let account = lines.next().unwrap_or_default();
    ensure!(account.starts_with(&format!("{USER}:x:{UID}:{UID}:")), "/etc/passwd says {account:?}");
    let home = lines.next().unwrap_or_default();
    let mut fields = home.split_whitespace().skip(2);
    let uid = UID.to_string();
    ensure!(fields.next() == Some(&uid) && fields.next() == Some(&uid), "the home is {home:?}");
    report.line(format!("check: the template's user has its number and its home: yes ({account})"));

    let store = lines.next().unwrap_or_default();
    ensure!(store == format!("{NUMBER} {PLACE}, {BUILT}"), "the store's file says {store:?}");
    let number_and_place = format!("{NUMBER} {PLACE}");
    report.line(format!("check: store, region and build each have their say in a file: yes ({store})"));

    let answer = |port: u16| {
        let after = said.split_once(&format!("port {port}\n")).map(|(_, after)| after);
        after.and_then(|after| after.split("port ").next()).with_context(|| format!("nothing about port {port}"))
    };
    ensure!(answer(at::API_PORT)?.contains("open"), "the API server is listed, and out of reach");
    ensure!(answer(at::REGISTRY_PORT)?.contains("refused"), "the registry's port is listed, and out of reach");
    let refused = answer(at::REGISTRAR_PORT)?;
    ensure!(
        refused.contains("can't connect") && !refused.contains("refused"),
        "the registrar's port is not listed, and the answer was {refused:?}"
    );
    let address = format!("{}:{}", at::REGION, at::REGISTRAR_PORT).parse().context("the registrar's address")?;
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).context("nobody reaches the registrar's port")?;
    report
        .line(format!("check: what the egress list does not name is refused on the machine: yes ({})", refused.trim()));
    arrived.machine.pull_the_plug().await?;

    let mut again = Machine::switch_on(&world.root, &hardware, &plan.run, 2)?;
    let said = until::serial(&mut again, &number_and_place).await?;
    ensure!(again.serial.first("asking the region to admit").is_none(), "the agent was first");
    report.line(format!(
        "check: at the next start the file is there before the agent asks anybody: yes ({})",
        said.trim()
    ));
    again.pull_the_plug().await?;
    world.check()
}
