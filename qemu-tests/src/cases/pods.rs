//! Pods on the joined machine. They are bound to it already, for the region has no scheduler, and have no business with the API
//! server. What one has to say comes back as the termination message of its first container: the region cannot call into a store.

use crate::world::{addresses as at, api::Api};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PODS: &str = "/api/v1/namespaces/default/pods";
const PATIENCE: Duration = Duration::from_secs(180);

/// What a pod is to do.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Its name.
    pub name: &'a str,
    /// A busybox.
    pub image: &'a str,
    /// A script of its shell, whose output is what the pod says; at most 4096 bytes.
    pub script: &'a str,
    /// With the machine's network, and its `/etc` and `/var` below `/host`.
    pub on_the_host: bool,
}

/// A pod that runs.
#[derive(Debug)]
pub struct Running {
    /// What it said.
    pub said: String,
    /// What it runs, in the words of the container runtime.
    pub image_id: String,
    /// From its creation.
    pub took: Duration,
}

/// Creates a pod.
///
/// # Errors
/// When the API server refuses.
pub async fn create(api: &Api, task: Task<'_>) -> Result<()> {
    api.post(PODS, &pod(task)).await.map(drop)
}

/// Creates a pod, and waits until it has said something and runs.
///
/// # Errors
/// When it does not in time.
pub async fn run(api: &Api, task: Task<'_>) -> Result<Running> {
    let begin = Instant::now();
    create(api, task).await?;
    loop {
        let status = status(api, task.name).await?;
        let said = status.pointer("/initContainerStatuses/0/state/terminated/message").and_then(Value::as_str);
        if let Some(said) = said.filter(|_| status["phase"] == "Running") {
            let id = status.pointer("/containerStatuses/0/imageID").and_then(Value::as_str).unwrap_or_default();
            return Ok(Running { said: said.to_owned(), image_id: id.to_owned(), took: begin.elapsed() });
        }
        ensure!(begin.elapsed() < PATIENCE, "the pod {} does not run: {status:#}", task.name);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until a pod's image could not be had because of this, and gives the runtime's words from `from` on.
///
/// # Errors
/// When it runs, or nothing is said about its image in time.
pub async fn without_image(api: &Api, name: &str, from: &str, because: &str) -> Result<String> {
    let begin = Instant::now();
    loop {
        let status = status(api, name).await?;
        ensure!(status["phase"] == "Pending", "a pod without an image is {}", status["phase"]);
        let waiting = &status["initContainerStatuses"][0]["state"]["waiting"];
        let message = waiting["message"].as_str().unwrap_or_default();
        if let Some(end) = message.find(because).filter(|_| waiting["reason"] == "ErrImagePull") {
            let start = message[..end].rfind(from).unwrap_or(0);
            return Ok(message[start..end + because.len()].to_owned());
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

fn pod(task: Task<'_>) -> Value {
    let say = format!("exec >/dev/termination-log 2>&1\n{}", task.script);
    let folders: &[&str] = if task.on_the_host { &["etc", "var"] } else { &[] };
    let mounts: Vec<Value> = folders
        .iter()
        .map(|name| json!({"name": name, "mountPath": format!("/host/{name}"), "readOnly": true}))
        .collect();
    let volumes: Vec<Value> =
        folders.iter().map(|name| json!({"name": name, "hostPath": {"path": format!("/{name}")}})).collect();
    let busybox = "/bin/busybox";
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": task.name, "namespace": "default"},
        "spec": {
            "nodeName": at::NODE,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "hostNetwork": task.on_the_host,
            "volumes": volumes,
            "initContainers": [
                {"name": "say", "image": task.image, "command": [busybox, "sh", "-c", say], "volumeMounts": mounts},
            ],
            "containers": [{"name": "stay", "image": task.image, "command": [busybox, "tail", "-f", "/dev/null"]}],
        },
    })
}
