//! The line to the region: a TLS server with a CA of its own stands in for the registrar.

use crate::common::{MAC, World, assignments, until};
use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::{get, post},
};
use contracts::{event::Event, store::StoreCredential};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const NAME: &str = "registrar.region.test";

/// A region with its certificates.
pub(crate) struct Region {
    ca: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

impl Region {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = key();
        let ca = params.self_signed(&key).unwrap();
        Self { ca, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = key();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key)
    }

    pub(crate) fn credential(&self, port: u16) -> StoreCredential {
        let (certificate, key) = self.issue("store-17", ExtendedKeyUsagePurpose::ClientAuth);
        StoreCredential {
            version: 1,
            store: "store-17".into(),
            key: key.serialize_pem(),
            certificate,
            registrar_ca: self.ca.pem(),
            server_name: NAME.into(),
            registrars: vec![format!("127.0.0.1:{port}")],
        }
    }

    /// Accepts store certificates of this region, with the given versions of TLS.
    pub(crate) fn acceptor(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What the region has heard.
#[derive(Default)]
pub(crate) struct Heard {
    events: Mutex<Vec<Event>>,
    /// Answers of `POST /v1/events` that fail first.
    failures: Mutex<u32>,
}

pub(crate) fn router(heard: Arc<Heard>) -> Router {
    let poll = |Query(query): Query<HashMap<String, String>>| async move {
        if query.get("after").is_some_and(|n| n == "7") {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        Json(assignments(7, 1))
    };
    let events = |State(heard): State<Arc<Heard>>, Json(batch): Json<Vec<Event>>| async move {
        let mut failures = heard.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        heard.events.lock().unwrap().extend(batch);
        StatusCode::NO_CONTENT
    };
    Router::new().route("/v1/store/assignments", get(poll)).route("/v1/events", post(events)).with_state(heard)
}

pub(crate) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            if let Ok(tls) = acceptor.accept(stream).await {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
            }
        });
    }
}

fn verified() -> Event {
    let data = serde_json::json!({ "step": "verify", "status": "done", "message": "verified" });
    let time = time::OffsetDateTime::now_utc();
    Event::new(uuid::Uuid::new_v4(), "agent", MAC, time, serde_json::from_value(data).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn assignments_come_and_events_go_with_the_stores_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let region = Region::new();
    let mut world = World::new();
    world.credential = region.credential(listener.local_addr().unwrap().port());
    let heard = Arc::new(Heard { failures: Mutex::new(1), ..Heard::default() });
    tokio::spawn(serve(listener, region.acceptor(&[&TLS13]), router(Arc::clone(&heard))));

    let netboot = world.start().await;
    netboot.loaded().await;
    assert!(netboot.running.shared.status().region_reachable);
    let event = verified();
    let sent = netboot.client.post(netboot.url("/v1/events")).json(&[&event, &event]).send().await.unwrap();
    assert_eq!(sent.status(), 204);
    until(|| netboot.running.shared.status().events_waiting == 0).await;
    let ids: Vec<_> = heard.events.lock().unwrap().iter().map(|e| e.id).collect();
    assert_eq!(ids, [event.id], "a repeat is dropped, a failed call is repeated");
    netboot.stop().await;

    let store = netboot::store::Store::open(&world.state()).unwrap();
    assert_eq!(store.with(|r| r.assignments.clone()), Some(assignments(7, 1)), "they outlive the line");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registrar_of_another_ca_or_with_old_tls_is_not_believed() {
    let region = Region::new();
    for (acceptor, name) in [(Region::new().acceptor(&[&TLS13]), "another CA"), (region.acceptor(&[&TLS12]), "TLS 1.2")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let credential = region.credential(listener.local_addr().unwrap().port());
        let server = tokio::spawn(serve(listener, acceptor, router(Arc::default())));
        let line = netboot::region::client::Region::new(&credential, &Arc::default()).unwrap();
        let called = line.call(|client, base| client.get(format!("{base}/v1/store/assignments"))).await;
        assert!(called.is_err(), "{name}");
        server.abort();
    }
}

/// A DNS server that knows one name: its address is the loopback's.
fn name_server() -> std::net::SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            let known = answer[12..].starts_with(b"\x09registrar\x04host\x04test\0\0\x01");
            answer[2..4].copy_from_slice(if known { &[0x81, 0x80] } else { &[0x81, 0x83] });
            if known {
                answer[7] = 1;
                answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01");
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_confined_program_finds_a_registrar_by_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let region = Region::new();
    let mut world = World::new();
    let port = listener.local_addr().unwrap().port();
    world.credential = region.credential(port);
    world.credential.registrars = vec![format!("nobody.host.test:{port}"), format!("registrar.host.test:{port}")];
    tokio::spawn(serve(listener, region.acceptor(&[&TLS13]), router(Arc::default())));
    let dns = format!("dns: [\"{}\"]\n", name_server());
    let program = crate::running::Program::start(&world, &dns).await;
    program.says("assignments of generation 7").await;
    program.end().await;
}
