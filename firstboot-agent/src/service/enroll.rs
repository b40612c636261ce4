//! The step `enroll`: with the store's voucher for the machine's key, the registrar admits the machine and names it.

use super::{Machine, identity::Identity, region::Region};
use crate::{
    boot::installed::{Node, STATE, write_node_file},
    console, durable, facts,
    failure::{Coded, Failure},
    net::client::Netboot,
};
use anyhow::{Context, Result};
use contracts::{
    VERSION, claim,
    enrollment::{Admission, Csr, Enrollment, EnrollmentRequest, EnrollmentState, NodeFile},
    voucher::Voucher,
};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use uuid::Uuid;

/// An admitted machine, and what it takes to ask on.
#[derive(Debug)]
pub struct Enrolled {
    /// The enrollment's id.
    pub id: Uuid,
    /// Name and configuration.
    pub admission: Admission,
    voucher: Voucher,
    fingerprint: String,
}

/// The registrar's code for a machine that is to stay out.
pub const REVOKED: &str = "revoked";

/// Asks to be admitted, keeps name and configuration, and takes the name.
///
/// # Errors
/// `no-voucher`, `region`, or the registrar's own code when it refuses; `claim` when a person has to decide first,
/// `pending` when something else has.
pub async fn enroll(
    machine: &Machine,
    netboot: &Netboot,
    region: &Region,
    key: &Identity,
) -> Result<Enrolled, Failure> {
    let fingerprint = key.fingerprint();
    let voucher =
        netboot.voucher(&fingerprint).await.context("asking the store to vouch for this machine").code("no-voucher")?;
    let answer = region.enroll(&request(machine, &voucher, None)).await.code("region")?;
    let (id, admission) = admitted(answer, &fingerprint)?;
    apply(machine, &admission).code("node-configuration")?;
    Ok(Enrolled { id, admission, voucher, fingerprint })
}

/// Asks for what the join needs, until it is there.
///
/// # Errors
/// As [`enroll`]; `join-material` when the region does not deliver within five minutes.
pub async fn request_join(
    machine: &Machine,
    region: &Region,
    enrolled: &Enrolled,
    csrs: Vec<Csr>,
) -> Result<(Uuid, Admission), Failure> {
    let mut answer = region.enroll(&request(machine, &enrolled.voucher, Some(csrs))).await.code("region")?;
    // The region's control plane may be busy; after this the service starts over with its own backoff.
    for _ in 0..100 {
        match &answer.state {
            EnrollmentState::Admitted(admission) if admission.join.is_some() => {
                return Ok((answer.id, admission.clone()));
            }
            EnrollmentState::Refused { .. } => break,
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(2000 + rand::random::<u64>() % 1000)).await;
        answer = region.enrollment(answer.id).await.code("region")?;
    }
    admitted(answer, &enrolled.fingerprint)?;
    Err(Failure::new("join-material", "the region admitted this machine but delivered no join material"))
}

/// With `csrs`, be they none, it asks for join material.
fn request(machine: &Machine, voucher: &Voucher, csrs: Option<Vec<Csr>>) -> EnrollmentRequest {
    EnrollmentRequest {
        version: VERSION,
        attempt: machine.attempt,
        nonce: Uuid::new_v4().simple().to_string(),
        template: machine.config.template.clone(),
        image_version: machine.config.image_version.clone(),
        boot_id: machine.boot_id.clone(),
        facts: facts::gather(false),
        vouchers: vec![voucher.clone()],
        join: csrs.is_some(),
        csrs: csrs.unwrap_or_default(),
    }
}

fn admitted(answer: Enrollment, fingerprint: &str) -> Result<(Uuid, Admission), Failure> {
    match answer.state {
        EnrollmentState::Admitted(admission) => Ok((answer.id, admission)),
        // What is read out here must stand for this machine's key, or it would let in another one.
        EnrollmentState::Pending { claim_code: Some(code), .. } if code != claim::code(fingerprint, answer.id) => {
            let words = "the region sent a claim code that does not stand for this machine's key; nothing was read out";
            Err(Failure::new("claim-forged", words))
        }
        EnrollmentState::Pending { claim_code: Some(code), reason } => {
            Err(Failure::wait("claim", format!("call support and read out the claim code {code} ({reason})")))
        }
        EnrollmentState::Pending { claim_code: None, reason } => Err(Failure::wait("pending", reason)),
        EnrollmentState::Refused { code, reason } if code == REVOKED => Err(Failure::new(REVOKED, reason)),
        EnrollmentState::Refused { code, reason } => Err(Failure::new("refused", format!("{reason} ({code})"))),
    }
}

/// Takes the name and writes the node configuration: on the state partition for later boots, and here and now.
fn apply(machine: &Machine, admission: &Admission) -> Result<()> {
    let node =
        Node { name: admission.name.clone(), files: admission.files.clone(), parameters: admission.parameters.clone() };
    let (files, wrong) = node.all_files(&machine.config);
    let path = Path::new(STATE).join("node.json");
    let bytes = serde_json::to_vec_pretty(&node)?;
    if fs::read(&path).ok().as_deref() != Some(&bytes) {
        durable::write(&path, &bytes, 0o600)?;
    }
    nix::unistd::sethostname(&node.name).context("setting the host name")?;
    fs::write("/etc/hostname", format!("{}\n", node.name)).context("writing /etc/hostname")?;
    let network = |file: &&NodeFile| file.path.starts_with("/etc/systemd/network/");
    let is_new = |file: &NodeFile| fs::read(&file.path).ok().as_deref() != Some(file.content.as_bytes());
    let new_network = files.iter().filter(network).any(is_new);
    files.iter().try_for_each(|file| write_node_file(Path::new("/"), file))?;
    if new_network {
        reload_network();
    }
    match wrong.into_iter().next() {
        Some(error) => {
            Err(anyhow::Error::new(error)
                .context("name the value in the region's inventory, for the region or this store"))
        }
        None => Ok(()),
    }
}

/// systemd-networkd takes up what has changed (networkctl(1)). If it does not, the next start does.
fn reload_network() {
    let output = Command::new("networkctl").arg("reload").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => console::line("the region has set up the network of this machine"),
        Ok(output) => console::line(&format!("networkctl reload: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => console::line(&format!("networkctl cannot be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(claim_code: Option<String>) -> Enrollment {
        let state = EnrollmentState::Pending { claim_code, reason: "a person decides".into() };
        Enrollment { version: VERSION, id: Uuid::from_u128(7), state }
    }

    #[test]
    fn only_a_code_of_its_own_key_is_shown() {
        let own = claim::code("ab", Uuid::from_u128(7));
        let shown = admitted(pending(Some(own.clone())), "ab").unwrap_err();
        assert!(shown.waits && shown.code == "claim" && shown.to_string().contains(&own), "{shown}");
        let forged = admitted(pending(Some(own.clone())), "ac").unwrap_err();
        assert!(!forged.waits && forged.code == "claim-forged" && !forged.to_string().contains(&own), "{forged}");
        assert_eq!(admitted(pending(None), "ab").unwrap_err().code, "pending");
    }
}
