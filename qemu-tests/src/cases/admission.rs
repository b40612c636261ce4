//! Who is not let in: one client on the store's LAN speaks to the real registrar through netboot's relay, as the
//! agent does, and asks for what it must not get.

use crate::{
    journey::Plan,
    report::Report,
    world::{
        World, addresses as at,
        registrar::{self, Registrar},
    },
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::{
    enrollment::{Csr, Enrollment, EnrollmentState},
    voucher::Voucher,
};
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{net::SocketAddr, path::Path, time::Duration};

/// Where the forged registrar listens.
const FORGED_PORT: u16 = 7444;

/// Runs the case.
///
/// # Errors
/// When something was let in that must not be, or the other way round.
pub async fn run(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let ca = plan.image.registrar_state.join("ca.pem");
    let relay = address(at::NETBOOT, at::REGISTRAR_PORT)?;
    let first = Client::new(&ca, relay)?;
    let voucher = first.ask_for_voucher().await?;

    match first.enroll(&plan.image.template, &voucher, None).await? {
        EnrollmentState::Admitted(admission) if admission.name == at::NODE => {}
        other => bail!("the first key should have been admitted as {}, but: {other:?}", at::NODE),
    }
    report.line("check: a vouched machine is admitted under its inventory name: yes");

    let csr = first.csr("store-0001-node-1")?;
    expect_refusal(first.enroll(&plan.image.template, &voucher, Some(csr)).await?, "csr-subject")?;
    report.line("check: a certificate for another node's name is refused: yes");

    let second = Client::new(&ca, relay)?;
    let voucher = second.ask_for_voucher().await?;
    expect_refusal(second.enroll(&plan.image.template, &voucher, None).await?, "key-pinned")?;
    report.line("check: a second key for the same inventory entry is refused: yes");

    forged_registrar(plan, world, &ca, &voucher).await?;
    report.line("check: a registrar with another authority is refused: yes");
    world.check()
}

/// A real registrar with the right name and a certificate authority of its own, in place of the region's.
async fn forged_registrar(plan: &Plan, world: &mut World, ca: &Path, voucher: &Voucher) -> Result<()> {
    let folder = plan.run.join("forged");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    registrar::init(&plan.registrar, &folder.join("state"))?;
    let setup = registrar::Setup {
        program: &plan.registrar,
        folder: &folder,
        region: Some(&world.region),
        machines: &registrar::ANY,
        template: &plan.image.template,
        person: false,
        port: FORGED_PORT,
    };
    let forged = Registrar::start(&world.root, setup, "forged-registrar", &world.logs).await?;
    let there = address(at::REGION, FORGED_PORT)?;
    // It does answer those who trust its authority: what stops the others is the certificate alone.
    let fooled = Client::new(&folder.join("state/ca.pem"), there)?;
    fooled.enroll(&plan.image.template, voucher, None).await.context("the forged registrar does not answer at all")?;
    let Err(error) = Client::new(ca, there)?.enroll(&plan.image.template, voucher, None).await else {
        bail!("a client that trusts the region's authority talked to the forged registrar");
    };
    let text = format!("{error:#} {:?}", error.root_cause());
    ensure!(text.contains("UnknownIssuer") || text.contains("BadSignature"), "refused, but not for that: {text}");
    drop(forged);
    Ok(())
}

fn expect_refusal(state: EnrollmentState, wanted: &str) -> Result<()> {
    match state {
        EnrollmentState::Refused { code, .. } if code == wanted => Ok(()),
        other => bail!("the refusal {wanted} was expected, but: {other:?}"),
    }
}

fn address(ip: &str, port: u16) -> Result<SocketAddr> {
    format!("{ip}:{port}").parse().context("an address")
}

/// A machine's side of the conversation: its own key, self-signed.
struct Client {
    key: KeyPair,
    fingerprint: String,
    registrar: reqwest::Client,
    port: u16,
}

impl Client {
    fn new(ca: &Path, registrar: SocketAddr) -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::default().self_signed(&key)?;
        let ca = std::fs::read(ca).with_context(|| format!("reading {}", ca.display()))?;
        let pem = certificate.pem() + &key.serialize_pem();
        let client = reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca).context("reading the registrar's CA")?)
            .identity(reqwest::Identity::from_pem(pem.as_bytes()).context("making a machine's certificate")?)
            .resolve(at::REGISTRAR_NAME, registrar)
            .timeout(Duration::from_secs(60))
            .build()
            .context("making a client")?;
        let fingerprint = hex::encode(Sha256::digest(key.subject_public_key_info()));
        Ok(Self { key, fingerprint, registrar: client, port: registrar.port() })
    }

    async fn ask_for_voucher(&self) -> Result<Voucher> {
        let url = format!("http://{}/v1/vouchers", at::NETBOOT);
        let body = json!({"fingerprint": self.fingerprint});
        let answer = reqwest::Client::new().post(url).json(&body).send().await.context("asking for a voucher")?;
        answer.error_for_status().context("asking for a voucher")?.json().await.context("reading the voucher")
    }

    fn csr(&self, node: &str) -> Result<Csr> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.remove(DnType::CommonName);
        parameters.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        parameters.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        let pem = parameters.serialize_request(&self.key)?.pem()?;
        Ok(Csr { purpose: "kubelet-client".into(), pem })
    }

    async fn enroll(&self, template: &str, voucher: &Voucher, csr: Option<Csr>) -> Result<EnrollmentState> {
        // Every request is another attempt, so none is taken for the repeat of an earlier one.
        let id = uuid::Uuid::new_v4();
        let request = json!({
            "version": contracts::VERSION,
            "attempt": id,
            "nonce": id.simple().to_string(),
            "template": template,
            "image_version": "1",
            "boot_id": id,
            "facts": {
                "version": contracts::VERSION,
                "firmware": "uefi",
                "smbios": {"manufacturer": "", "product": "", "serial": "", "uuid": ""},
                "cpus": 1,
                "memory_bytes": 1_u64 << 30,
                "disks": [],
                "nics": [],
            },
            "vouchers": [voucher],
            "csrs": csr.into_iter().collect::<Vec<_>>(),
        });
        let url = format!("https://{}:{}/v1/enrollments", at::REGISTRAR_NAME, self.port);
        let answer = self.registrar.post(url).json(&request).send().await.context("asking the registrar")?;
        let status = answer.status();
        let bytes = answer.bytes().await.context("reading the registrar's answer")?;
        ensure!(status.is_success(), "the registrar answered {status}: {}", String::from_utf8_lossy(&bytes));
        let enrollment: Enrollment = contracts::read(&bytes).context("reading the registrar's answer")?;
        Ok(enrollment.state)
    }
}
