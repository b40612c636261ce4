//! A hypervisor of OpenStack Nova: a server with a kernel of its own is started on it by Nova, and once the machine is revoked
//! its credentials are good for nothing.

use super::{blank_machine, member::start};
use crate::{
    journey::{DISK_GIB, Plan},
    process,
    report::Report,
    world::{World, addresses as at, firmware::NetworkBoot, machine, plain::SmallGuest, region::nova::Nova},
};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// What the server says on its console.
const WORD: &str = "the shop is open";
/// Emulation inside emulation is slow.
const SERVER_PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Runs the case.
///
/// # Errors
/// When the machine is no good hypervisor, or still is one after it was revoked.
pub async fn run(plan: &Plan, world: &mut World, report: &Report, result: &Report) -> Result<()> {
    let hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;
    let mut first = start(plan, world, &hardware, 1, None, report).await?;
    result.line(first.member.words.trim_end());
    inventory_is_plausible(plan, world.region.nova()?).await?;
    report.line("check: Placement's inventory is that of the machine: yes");

    let small = SmallGuest::make(&world.root, &plan.image.uki, &plan.run.join("server"))?;
    let initrd = small.speaker(&world.root, WORD)?;
    let begin = Instant::now();
    let server = make_server(world.region.nova()?, small.kernel(), &initrd).await.context("making a server")?;
    let line = loop {
        first.machine.check()?;
        world.check()?;
        if let Some(line) = console_line(world.region.nova()?, &server).await? {
            break line;
        }
        ensure!(begin.elapsed() < SERVER_PATIENCE, "the server said nothing in {} s", SERVER_PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    report.line(format!(
        "check: a server with a small kernel, started by Nova, speaks on its console: yes ({:?} after {:.0} s)",
        line,
        begin.elapsed().as_secs_f64()
    ));

    first.machine.pull_the_plug().await?;

    // The machine is dead: a spare with a blank disk takes its place.
    let mut spare = hardware;
    spare.disk = plan.run.join("spare.raw");
    machine::blank_disk(&spare.disk, DISK_GIB)?;
    world.registrar.reopen(&world.root, at::NODE)?;
    let second = start(plan, world, &spare, 2, Some(&first.member.boot_id), report).await?;
    report.line("check: a spare takes the place of the dead machine, in Nova too: yes");

    revoked(plan, world, report).await?;
    second.machine.pull_the_plug().await?;
    world.check()
}

/// Two processors; memory and disk a little less than what the machine has.
async fn inventory_is_plausible(plan: &Plan, nova: &Nova) -> Result<()> {
    let found = nova.ask("GET", "placement", &format!("/resource_providers?name={}", at::NODE), None).await?;
    let provider =
        found.pointer("/resource_providers/0/uuid").and_then(Value::as_str).context("no resource provider")?;
    let all = nova.ask("GET", "placement", &format!("/resource_providers/{provider}/inventories"), None).await?;
    let total = |class: &str| all["inventories"][class]["total"].as_u64().unwrap_or(0);
    let memory = u64::from(plan.shape.memory_mib);
    ensure!(total("VCPU") == 2, "VCPU: {all}");
    ensure!((memory * 8 / 10..=memory).contains(&total("MEMORY_MB")), "MEMORY_MB: {all}");
    ensure!((20..64).contains(&total("DISK_GB")), "DISK_GB: {all}");
    Ok(())
}

/// Kernel, initrd and a blank disk as images, a flavor, a server without networks. Gives the server's id.
async fn make_server(nova: &Nova, kernel: &Path, initrd: &Path) -> Result<String> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let kernel = nova.image("kernel", "aki", &json!({}), read(kernel)?).await?;
    let initrd = nova.image("initrd", "ari", &json!({}), read(initrd)?).await?;
    let started_by = json!({
        "kernel_id": kernel,
        "ramdisk_id": initrd,
        "os_command_line": "console=ttyS0 quiet",
        "hw_machine_type": "pc",
    });
    let disk = nova.image("disk", "raw", &started_by, vec![0; 1 << 20]).await?;
    let flavor = json!({"flavor": {"id": "small", "name": "small", "vcpus": 1, "ram": 256, "disk": 0}});
    nova.ask("POST", "compute", "/flavors", Some(&flavor)).await?;
    let server = json!({"server": {"name": "shop", "imageRef": disk, "flavorRef": "small", "networks": "none"}});
    let made = nova.ask("POST", "compute", "/servers", Some(&server)).await?;
    Ok(made.pointer("/server/id").and_then(Value::as_str).context("no id of the server")?.to_owned())
}

async fn console_line(nova: &Nova, server: &str) -> Result<Option<String>> {
    let shown = nova.ask("GET", "compute", &format!("/servers/{server}"), None).await?;
    match shown.pointer("/server/status").and_then(Value::as_str) {
        Some("ERROR") => bail!("Nova could not start the server: {}", shown["server"]["fault"]),
        Some("ACTIVE") => {}
        _ => return Ok(None),
    }
    let question = json!({"os-getConsoleOutput": {"length": 50}});
    let answer = nova.ask("POST", "compute", &format!("/servers/{server}/action"), Some(&question)).await?;
    let output = answer["output"].as_str().unwrap_or_default();
    Ok(output.lines().find(|line| line.contains(WORD)).map(|line| line.trim().to_owned()))
}

/// The credentials that the machine was given, as somebody would have them who stole its disk.
struct Stolen {
    user: String,
    password: String,
}

async fn revoked(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let stolen = steal(plan, world)?;
    let nova = world.region.nova()?;
    nova.token(&stolen.user, "hypervisors", &stolen.password, "service").await.context("Keystone, before")?;
    message_bus(nova, &stolen).context("the message bus, before")?;

    let said = world.registrar.revoke(world.region.root(&world.root), at::NODE)?;
    report.line(format!("registrar machine revoke: {}", said.trim().replace('\n', "; ")));
    let nova = world.region.nova()?;
    let Err(refused) = nova.token(&stolen.user, "hypervisors", &stolen.password, "service").await else {
        bail!("Keystone still takes the password of a revoked machine");
    };
    ensure!(refused.to_string().contains("401"), "refused, but not for that: {refused:#}");
    report.line("check: Keystone refuses the machine's user: yes");
    let Err(refused) = message_bus(nova, &stolen) else {
        bail!("the message bus still takes the password of a revoked machine");
    };
    ensure!(format!("{refused:#}").contains("ACCESS_REFUSED"), "refused, but not for that: {refused:#}");
    report.line("check: the message bus refuses the machine's user: yes");
    let begin = Instant::now();
    loop {
        let service = nova.service(at::NODE).await?.context("Nova has forgotten the service")?;
        if service["status"] == "disabled" && service["state"] == "down" {
            report.line(format!("check: Nova's service is disabled, and down: yes ({})", service["disabled_reason"]));
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(180), "Nova still counts on a revoked machine: {service}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

fn steal(plan: &Plan, world: &World) -> Result<Stolen> {
    let script = "import json, sqlite3, sys\n\
        row = sqlite3.connect(sys.argv[1]).execute('SELECT join_material FROM enrollments WHERE join_material NOT NULL')\n\
        print(json.dumps(json.loads(row.fetchone()[0])['values']))";
    let mut command = world.root.command("python3");
    let text = process::output(command.args(["-c", script]).arg(plan.run.join("registrar/state/registrar.db")))?;
    let values: Value = serde_json::from_str(&text).context("reading the join material")?;
    let value = |name: &str| values[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in it"));
    Ok(Stolen { user: value("user")?, password: value("password")? })
}

/// Opens a connection to the message bus, as nova-compute does.
fn message_bus(nova: &Nova, stolen: &Stolen) -> Result<String> {
    let script =
        "import amqp, sys\namqp.Connection(host=sys.argv[1], userid=sys.argv[2], password=sys.argv[3]).connect()";
    let mut command = nova.root.command("python3");
    command.args(["-c", script, &format!("{}:5672", at::REGION), &stolen.user, &stolen.password]);
    process::output(&mut command)
}
