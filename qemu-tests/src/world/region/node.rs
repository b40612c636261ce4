//! The node, as the cluster itself reports it.

use super::Member;
use crate::{journey::table, world::api::Api};
use anyhow::Result;
use serde_json::Value;

/// Asks the API server for a node; `None` while there is none.
///
/// # Errors
/// When the API server cannot be asked.
pub(super) async fn get(api: &Api, name: &str) -> Result<Option<Member>> {
    Ok(api.get(&format!("/api/v1/nodes/{name}")).await?.map(|object| read(&object, time::OffsetDateTime::now_utc())))
}

fn read(object: &Value, now: time::OffsetDateTime) -> Member {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |pointer: &str| object.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let condition = list("/status/conditions").into_iter().find(|c| c["type"] == "Ready").unwrap_or_default();
    let ready = condition["status"] == "True";
    let address = list("/status/addresses").into_iter().find(|a| a["type"] == "InternalIP").unwrap_or_default();
    let columns = vec![
        ("NAME", text("/metadata/name")),
        ("STATUS", if ready { "Ready".into() } else { "NotReady".into() }),
        ("AGE", age(&text("/metadata/creationTimestamp"), now)),
        ("VERSION", text("/status/nodeInfo/kubeletVersion")),
        ("INTERNAL-IP", address["address"].as_str().unwrap_or("<none>").to_owned()),
        ("OS-IMAGE", text("/status/nodeInfo/osImage")),
        ("KERNEL-VERSION", text("/status/nodeInfo/kernelVersion")),
        ("CONTAINER-RUNTIME", text("/status/nodeInfo/containerRuntimeVersion")),
    ];
    let reason = condition["message"].as_str().unwrap_or("the kubelet has not reported yet").to_owned();
    Member { ready, reason, boot_id: text("/status/nodeInfo/bootID"), words: table::row(&columns) }
}

fn age(created: &str, now: time::OffsetDateTime) -> String {
    match time::OffsetDateTime::parse(created, &time::format_description::well_known::Rfc3339) {
        Ok(created) => format!("{}s", (now - created).whole_seconds().max(0)),
        Err(_) => "<unknown>".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_read_as_the_cluster_shows_it() {
        let now = time::macros::datetime!(2026-01-01 00:01:00 UTC);
        let object = json!({
            "metadata": {"name": "n1", "creationTimestamp": "2026-01-01T00:00:18Z"},
            "status": {
                "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
                "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.77.0.104"}],
                "nodeInfo": {"bootID": "b-1", "kubeletVersion": "v1.20.2", "osImage": "Debian GNU/Linux 13 (trixie)"},
            },
        });
        let node = read(&object, now);
        assert!(node.ready && node.boot_id == "b-1");
        let line = node.words;
        assert!(line.contains("42s") && line.contains("10.77.0.104") && line.contains("Ready"), "{line}");
        assert!(!read(&json!({}), now).ready);
    }
}
