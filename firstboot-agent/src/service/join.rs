//! The steps `join` and `ready`, as the template describes them: certificates to ask the region for, files to write from
//! what it answers, units to start, and how the machine itself tells that this works. No product is known here by name.

use super::{
    Machine, data_disks,
    enroll::{Enrolled, request_join},
    region::Region,
};
use crate::{
    boot::installed::STATE,
    console, durable,
    failure::{Coded, Failure},
    report::Reporter,
};
use anyhow::{Context, Result, bail};
use contracts::{
    enrollment::{Csr, EnrollmentState, JoinMaterial},
    fill::{self, Values},
    join::MACHINE_NAME,
    machine::{CertificateConfig, JoinConfig, ReadyCheck},
    step::Step,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use uuid::Uuid;

/// How often readiness is asked for, and for how long before the service starts over.
const READY_EVERY: Duration = Duration::from_secs(2);
const READY_TRIES: u32 = 300;
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// A program may have to start an interpreter on a machine that has just begun.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Gets what the template asks of the region, writes it and starts the units. Returns the enrollment whose readiness counts.
///
/// # Errors
/// `join` when a file or a unit does not work, otherwise as [`request_join`].
pub async fn join(machine: &Machine, region: &Region, enrolled: Enrolled) -> Result<(Uuid, String), Failure> {
    let config = &machine.config.join;
    let name = enrolled.admission.name.clone();
    let (id, words) = if has_joined(config) {
        (enrolled.id, format!("{name} has joined before"))
    } else {
        let csrs = config.certificates.iter().map(|certificate| request(certificate, &name));
        let csrs = csrs.collect::<Result<Vec<_>>>().code("join")?;
        let (id, admission) = request_join(machine, region, &enrolled, csrs).await?;
        let material = admission.join.context("no join material").code("join")?;
        write(config, &name, &material).code("join")?;
        (id, format!("{name} has what it needs"))
    };
    let disks = match &machine.config.data_disks {
        Some(policy) => format!("{}; ", data_disks::choose(policy, Path::new(STATE))?),
        None => String::new(),
    };
    let started = config.units.iter().try_for_each(|unit| start(unit));
    started.map_err(|error| if disks.is_empty() { error } else { error.context(disks.clone()) }).code("join")?;
    Ok((id, format!("{disks}{words}, {} is started", config.units.join(", "))))
}

/// Everything that the region is asked for is here. The last file is written last, and whole.
#[must_use]
pub fn has_joined(config: &JoinConfig) -> bool {
    let certificates = config.certificates.iter().map(|certificate| &certificate.certificate);
    certificates.chain(config.files.iter().map(|file| &file.path)).all(|path| Path::new(path).exists())
}

/// Waits until the machine's own check passes and the cluster reports this boot of this machine ready.
///
/// # Errors
/// `not-ready` with the last reason, after ten minutes.
pub async fn ready(
    machine: &Machine,
    region: &Region,
    id: &Uuid,
    reporter: &Reporter,
) -> Result<((), String), Failure> {
    let mut last = String::from("nothing was heard yet");
    for _ in 0..READY_TRIES {
        let reason = match check(&machine.config.join, region, *id).await {
            Ok(None) => return Ok(((), "the cluster reports this machine ready".into())),
            Ok(Some(reason)) => reason,
            Err(error) => format!("{error:#}"),
        };
        if reason != last {
            reporter.waiting(Step::Ready, "not-ready", reason.clone());
            last = reason;
        }
        tokio::time::sleep(READY_EVERY).await;
    }
    Err(Failure::new("not-ready", last))
}

/// `None` when ready, otherwise why not.
async fn check(config: &JoinConfig, region: &Region, id: Uuid) -> Result<Option<String>> {
    if let Err(error) = own_check(config).await {
        return Ok(Some(format!("{} is not healthy yet: {error:#}", config.units.join(", "))));
    }
    match region.enrollment(id).await?.state {
        EnrollmentState::Admitted(admission) if admission.ready => Ok(None),
        EnrollmentState::Admitted(admission) => Ok(Some(
            admission.ready_reason.unwrap_or_else(|| "the cluster does not report this machine ready yet".into()),
        )),
        EnrollmentState::Pending { reason, .. } | EnrollmentState::Refused { reason, .. } => Ok(Some(reason)),
    }
}

/// The template's own check, without the region's word.
///
/// # Errors
/// Why the machine is not healthy.
pub async fn own_check(config: &JoinConfig) -> Result<()> {
    match &config.ready {
        ReadyCheck::Http(url) => answers(url).await,
        ReadyCheck::Command(words) => succeeds(words).await,
    }
}

async fn answers(url: &str) -> Result<()> {
    let tls =
        rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(HEALTH_TIMEOUT).build()?;
    client.get(url).send().await?.error_for_status()?;
    Ok(())
}

async fn succeeds(words: &[String]) -> Result<()> {
    let (program, arguments) = words.split_first().context("the check names no program")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_TIMEOUT, command.output());
    let output = output.await.with_context(|| format!("{program} did not end in {} s", COMMAND_TIMEOUT.as_secs()))?;
    let output = output.with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.trim().lines().next_back().unwrap_or("it does not say why"));
    }
    Ok(())
}

/// A certificate signing request for a key that never leaves the machine.
fn request(config: &CertificateConfig, name: &str) -> Result<Csr> {
    let key = load_or_make_key(Path::new(&config.key))?;
    let values = Values::from([(MACHINE_NAME.to_owned(), Some(name.to_owned()))]);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = &config.organization {
        params.distinguished_name.push(DnType::OrganizationName, fill::substitute(organization, &values)?);
    }
    params.distinguished_name.push(DnType::CommonName, fill::substitute(&config.common_name, &values)?);
    let pem = params.serialize_request(&key).context("making a certificate request")?.pem()?;
    Ok(Csr { purpose: config.purpose.clone(), pem })
}

/// Made once, so that a join that was cut off goes on with it.
fn load_or_make_key(path: &Path) -> Result<KeyPair> {
    if let Ok(pem) = fs::read_to_string(path) {
        return KeyPair::from_pem(&pem).with_context(|| format!("reading {}", path.display()));
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making a key")?;
    durable::write(path, key.serialize_pem().as_bytes(), 0o600)?;
    Ok(key)
}

/// Certificates first, then the files in the template's order. Everything is looked at before anything is written.
fn write(config: &JoinConfig, name: &str, material: &JoinMaterial) -> Result<()> {
    let mut values = Values::from([(MACHINE_NAME.to_owned(), Some(name.to_owned()))]);
    values.extend(material.values.iter().map(|(key, value)| (format!("region.{key}"), Some(value.clone()))));
    let mut files = Vec::new();
    for certificate in &config.certificates {
        let pem = material.certificates.get(&certificate.purpose);
        let pem = pem.with_context(|| format!("the region gave no certificate for {}", certificate.purpose))?;
        files.push((&certificate.certificate, pem.clone(), 0o600));
    }
    for file in &config.files {
        let mode = u32::from_str_radix(&file.mode, 8).with_context(|| format!("the mode of {}", file.path))?;
        let content = fill::substitute(&file.content, &values).with_context(|| format!("filling in {}", file.path))?;
        files.push((&file.path, content, mode));
    }
    files.iter().try_for_each(|(path, content, mode)| durable::write(Path::new(path), content.as_bytes(), *mode))
}

/// Stops what a revoked machine is not to run any more, and removes what it was given: its credentials are refused, and
/// trying them again and again only troubles the region. Should its entry be opened again, it asks anew.
pub fn leave(config: &JoinConfig) {
    let stopped = Command::new("systemctl").arg("stop").args(config.units.iter().rev()).output();
    match stopped {
        Ok(output) if output.status.success() => console::line(&format!("{} stopped", config.units.join(", "))),
        Ok(output) => console::line(String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => console::line(&format!("systemctl cannot be started: {error}")),
    }
    let given = config.certificates.iter().map(|certificate| &certificate.certificate);
    for path in given.chain(config.files.iter().map(|file| &file.path)) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                console::line(&format!("{path} cannot be removed: {error}"));
            }
            _ => {}
        }
    }
}

fn start(unit: &str) -> Result<()> {
    let output = Command::new("systemctl").args(["start", unit]).output().context("starting systemctl")?;
    if output.status.success() {
        return Ok(());
    }
    // systemctl only says where to look; nobody is there to do so.
    let journal = Command::new("journalctl").args(["--unit", unit, "--lines", "4", "--output", "cat"]).output();
    let journal = journal.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let own = journal.lines().rfind(|line| !line.is_empty() && !line.contains(unit));
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{unit} did not start: {}", own.unwrap_or(said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::machine::JoinFile;
    use std::os::unix::fs::PermissionsExt;

    fn config(folder: &Path) -> JoinConfig {
        let path = |name: &str| folder.join(name).display().to_string();
        JoinConfig {
            driver: "kubernetes".into(),
            certificates: vec![CertificateConfig {
                purpose: "client".into(),
                organization: Some("nodes".into()),
                common_name: "node:${machine.name}".into(),
                key: path("pki/client.key"),
                certificate: path("pki/client.crt"),
            }],
            files: vec![JoinFile {
                path: path("etc/conf"),
                mode: "0640".into(),
                content: "${machine.name} at ${region.endpoint}, $${literal}".into(),
            }],
            units: vec![],
            ready: ReadyCheck::Http(String::new()),
        }
    }

    #[test]
    fn what_the_region_gives_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        assert!(!has_joined(&config));
        let mut material = JoinMaterial::default();
        material.certificates.insert("client".into(), "PEM".into());
        let error = format!("{:#}", write(&config, "w1", &material).unwrap_err());
        assert!(error.contains("etc/conf") && error.contains("region.endpoint"), "{error}");
        assert!(
            !Path::new(&config.certificates[0].certificate).exists(),
            "nothing is written when something is missing"
        );
        material.values.insert("endpoint".into(), "https://${x}".into());
        write(&config, "w1", &material).unwrap();
        assert!(has_joined(&config));
        let path = &config.files[0].path;
        assert_eq!(fs::read_to_string(path).unwrap(), "w1 at https://${x}, ${literal}");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_request_names_the_machine_and_its_key_stays() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = &config(folder.path()).certificates[0];
        let first = request(certificate, "w1").unwrap();
        let key = fs::read(&certificate.key).unwrap();
        assert!(first.pem.contains("CERTIFICATE REQUEST") && first.purpose == "client");
        request(certificate, "w1").unwrap();
        assert_eq!(fs::read(&certificate.key).unwrap(), key);
        assert_eq!(fs::metadata(&certificate.key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
