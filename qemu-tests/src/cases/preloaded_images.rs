//! Container images that came with the machine's own: pods start although no registry answers, also after a power cut while they
//! were given to containerd, and later starts find them in place.

use super::{blank_machine, member::start, until};
use crate::{
    journey::Plan,
    materials::{
        container::{Containers, WORD_FILE},
        site::reference,
    },
    report::Report,
    world::{World, addresses as at, api::Api, firmware::NetworkBoot, machine::Machine},
};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PODS: &str = "/api/v1/namespaces/default/pods";
const PATIENCE: Duration = Duration::from_secs(180);
/// Two images with three names each.
const NAMES: &str = "6 names";

/// Runs the case.
///
/// # Errors
/// When a pod does not start, or one starts that cannot.
pub async fn run(plan: &Plan, world: &mut World, report: &Report, result: &Report) -> Result<()> {
    let containers = plan.containers.as_ref().context("the image carries no container images")?;
    let hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;

    let mut cut = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    until::serial(&mut cut, "Starting shelfboot-images.service").await?;
    // Some way into the import; wherever that is, the next start has to cope with it.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let far = if cut.serial.first("names were missing").is_some() { "after" } else { "during" };
    report.line(format!("machine: the plug is pulled {far} its first import"));
    cut.pull_the_plug().await?;

    let mut first = start(plan, world, &hardware, 2, None, report).await?;
    result.line(first.member.words.trim_end());
    let said = until::serial(&mut first.machine, NAMES).await?;
    report.line(format!("machine: {}", words(&said)));
    let api = &world.region.kubernetes()?.api;
    api.post(PODS, &pod("stranger", &reference("stranger"))).await?;
    runs(api, "greeter", containers, report).await?;
    let why = refused(api, "stranger").await?;
    report.line(format!("check: a pod whose image is not there stays away, for no registry answers: yes ({why})"));
    first.machine.pull_the_plug().await?;

    let mut second = start(plan, world, &hardware, 3, Some(&first.member.boot_id), report).await?;
    let said = until::serial(&mut second.machine, &format!("all {NAMES} are there")).await?;
    report.line(format!("check: a later start imports nothing: yes ({})", words(&said)));
    let api = &world.region.kubernetes()?.api;
    runs(api, "greeter-again", containers, report).await?;
    second.machine.pull_the_plug().await?;
    world.check()
}

/// Starts a pod and waits until it runs and has said the word that only its image knows.
async fn runs(api: &Api, name: &str, containers: &Containers, report: &Report) -> Result<()> {
    let begin = Instant::now();
    api.post(PODS, &pod(name, &reference("greeter"))).await?;
    loop {
        let status = status(api, name).await?;
        let said = status.pointer("/initContainerStatuses/0/state/terminated/message").and_then(Value::as_str);
        let id = status.pointer("/containerStatuses/0/imageID").and_then(Value::as_str).unwrap_or_default();
        if status["phase"] == "Running" && said.is_some() {
            ensure!(said == Some(&containers.word), "the pod said {said:?}, its image knows {}", containers.word);
            ensure!(id.ends_with(&containers.greeter), "it runs {id}, and not {}", containers.greeter);
            report.line(format!(
                "check: the pod {name} is Running, and says what only its image knows: yes ({} after {:.0} s)",
                containers.word,
                begin.elapsed().as_secs_f64()
            ));
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "the pod {name} does not run: {status:#}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until a pod's image could not be had, and gives the reason.
async fn refused(api: &Api, name: &str) -> Result<String> {
    let begin = Instant::now();
    loop {
        let status = status(api, name).await?;
        ensure!(status["phase"] == "Pending", "a pod without an image is {}", status["phase"]);
        let waiting = &status["initContainerStatuses"][0]["state"]["waiting"];
        let message = waiting["message"].as_str().unwrap_or_default();
        if let Some(at) = message.find("connection refused").filter(|_| waiting["reason"] == "ErrImagePull") {
            let from = message[..at].rfind("dial").unwrap_or(0);
            return Ok(message[from..at + "connection refused".len()].to_owned());
        }
        if begin.elapsed() > PATIENCE {
            bail!("nothing was said about the image of the pod {name}: {status:#}");
        }
        // Between two attempts another reason is given; this one lasts some seconds.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn status(api: &Api, name: &str) -> Result<Value> {
    let pod = api.get(&format!("{PODS}/{name}")).await?;
    Ok(pod.with_context(|| format!("the pod {name} is gone"))?["status"].take())
}

/// A pod that is bound to the node already: the region has no scheduler. It has no business with the API server.
fn pod(name: &str, image: &str) -> Value {
    let say = format!("exec /bin/busybox cat {WORD_FILE} >/dev/termination-log");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": at::NODE,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{"name": "say", "image": image, "command": ["/bin/busybox", "sh", "-c", say]}],
            "containers": [{"name": "stay", "image": image, "command": ["/bin/busybox", "tail", "-f", "/dev/null"]}],
        },
    })
}

/// What the unit said, without time and name.
fn words(line: &str) -> &str {
    line.rsplit("]: ").next().unwrap_or(line).trim()
}
