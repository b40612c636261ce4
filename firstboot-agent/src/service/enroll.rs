//! The step `enroll`: with the store's voucher for the machine's key, the registrar admits the machine and names it.

use super::{Machine, identity::Identity, region::Region};
use crate::{
    boot::installed::{Node, STATE},
    durable, facts,
    failure::{Coded, Failure},
    net::client::Netboot,
};
use anyhow::{Context, Result};
use contracts::{
    VERSION,
    enrollment::{Admission, Csr, Enrollment, EnrollmentRequest, EnrollmentState},
    voucher::Voucher,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use uuid::Uuid;

/// An admitted machine, and what it takes to ask on.
#[derive(Debug)]
pub struct Enrolled {
    /// The enrollment's id.
    pub id: Uuid,
    /// Name and configuration.
    pub admission: Admission,
    voucher: Voucher,
}

/// Asks to be admitted, keeps name and configuration, and takes the name.
///
/// # Errors
/// `no-voucher`, `region`, or the registrar's own code when it refuses; `pending` when somebody has to decide first.
pub async fn enroll(
    machine: &Machine,
    netboot: &Netboot,
    region: &Region,
    key: &Identity,
) -> Result<Enrolled, Failure> {
    let voucher = netboot
        .voucher(&key.fingerprint())
        .await
        .context("asking the store to vouch for this machine")
        .code("no-voucher")?;
    let answer = region.enroll(&request(machine, &voucher, Vec::new())).await.code("region")?;
    let (id, admission) = admitted(answer)?;
    apply(&admission).code("node-configuration")?;
    Ok(Enrolled { id, admission, voucher })
}

/// Asks for the certificates of the join driver, until they are there.
///
/// # Errors
/// As [`enroll`]; `join-material` when the region does not deliver within five minutes.
pub async fn request_join(
    machine: &Machine,
    region: &Region,
    enrolled: &Enrolled,
    csrs: Vec<Csr>,
) -> Result<(Uuid, Admission), Failure> {
    let mut answer = region.enroll(&request(machine, &enrolled.voucher, csrs)).await.code("region")?;
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
    admitted(answer)?;
    Err(Failure::new("join-material", "the region admitted this machine but delivered no join material"))
}

fn request(machine: &Machine, voucher: &Voucher, csrs: Vec<Csr>) -> EnrollmentRequest {
    EnrollmentRequest {
        version: VERSION,
        attempt: machine.attempt,
        nonce: Uuid::new_v4().simple().to_string(),
        template: machine.config.template.clone(),
        image_version: machine.config.image_version.clone(),
        boot_id: machine.boot_id.clone(),
        facts: facts::gather(false),
        vouchers: vec![voucher.clone()],
        csrs,
    }
}

fn admitted(answer: Enrollment) -> Result<(Uuid, Admission), Failure> {
    match answer.state {
        EnrollmentState::Admitted(admission) => Ok((answer.id, admission)),
        EnrollmentState::Pending { claim_code, reason } => {
            let code = claim_code.map_or(String::new(), |code| format!("; the code to read out is {code}"));
            Err(Failure::wait("pending", format!("{reason}{code}")))
        }
        EnrollmentState::Refused { code, reason } => Err(Failure::new("refused", format!("{reason} ({code})"))),
    }
}

/// Takes the name and writes the node configuration: on the state partition for later boots, and here and now.
fn apply(admission: &Admission) -> Result<()> {
    let node = Node { name: admission.name.clone(), files: admission.files.clone() };
    let path = Path::new(STATE).join("node.json");
    let bytes = serde_json::to_vec_pretty(&node)?;
    if fs::read(&path).ok().as_deref() != Some(&bytes) {
        durable::write(&path, &bytes, 0o600)?;
    }
    nix::unistd::sethostname(&node.name).context("setting the host name")?;
    fs::write("/etc/hostname", format!("{}\n", node.name)).context("writing /etc/hostname")?;
    for file in &node.files {
        let mode = u32::from_str_radix(&file.mode, 8).with_context(|| format!("the mode of {}", file.path))?;
        let path = Path::new(&file.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, &file.content).with_context(|| format!("writing {}", file.path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
