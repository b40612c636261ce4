//! Who can talk at all.

use crate::world::{MAC, Machine, SERVER_NAME, World, request};
use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;

#[tokio::test]
async fn without_a_certificate_nobody_talks() {
    let world = World::new().await;
    let client = world.client_with(&world.ca(), None);
    assert!(client.get(world.url("/v1/store/assignments")).send().await.is_err());
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let world = World::new().await;
    let other = registrar::authority::new_ca("other.test", OffsetDateTime::now_utc()).unwrap();
    let store = registrar::authority::new_store(&other, "store-1", OffsetDateTime::now_utc()).unwrap();
    let client = world.client_with(&world.ca(), Some((&store.certificate, &store.key)));
    assert!(client.get(world.url("/v1/store/assignments")).send().await.is_err());
}

#[tokio::test]
async fn the_servers_own_certificate_is_no_store() {
    let world = World::new().await;
    let read = |name: &str| std::fs::read_to_string(world.folder.path().join("state").join(name)).unwrap();
    let client = world.client_with(&world.ca(), Some((&read("server.pem"), &read("server.key"))));
    assert!(client.get(world.url("/v1/store/assignments")).send().await.is_err());
}

#[tokio::test]
async fn another_curve_is_refused() {
    let world = World::new().await;
    let machine = Machine::with_key(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap());
    let client = world.machine_client(&machine);
    assert!(client.get(world.url("/v1/enrollments/x")).send().await.is_err());
}

/// Somebody shows a machine's certificate, which is public, but signs the handshake with another key.
#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let world = World::new().await;
    let (store, machine, thief) = (world.store("store-1").await, Machine::new(), Machine::new());
    let stolen = rustls_pki_types::CertificateDer::from(
        x509_parser::pem::parse_x509_pem(machine.certificate.as_bytes()).unwrap().1.contents,
    );
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let pem = thief.key.serialize_pem();
    let key = <rustls_pki_types::PrivateKeyDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(pem.as_bytes());
    let signer = provider.key_provider.load_private_key(key.unwrap()).unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![stolen], signer);
    let mut roots = rustls::RootCertStore::empty();
    let ca = x509_parser::pem::parse_x509_pem(world.ca().as_bytes()).unwrap().1.contents;
    roots.add(ca.into()).unwrap();
    let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_client_cert_resolver(std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .resolve(SERVER_NAME, world.address)
        .no_proxy()
        .build()
        .unwrap();
    let asked = request(store.vouch(&machine, MAC));
    assert!(client.post(world.url("/v1/enrollments")).json(&asked).send().await.is_err());
    // The same request with the real key passes: it was the handshake that failed.
    assert!(world.machine_client(&machine).post(world.url("/v1/enrollments")).json(&asked).send().await.is_ok());
}

/// A forged answer in place of the registrar's: a server with the right name, but from another CA.
#[tokio::test]
async fn a_machine_does_not_believe_a_registrar_of_another_ca() {
    let (region, forger) = (World::new().await, World::new().await);
    let machine = Machine::new();
    let key = machine.key.serialize_pem();
    let client = forger.client_with(&region.ca(), Some((&machine.certificate, &key)));
    let error = client.get(forger.url("/v1/enrollments/x")).send().await.unwrap_err();
    assert!(registrar::chain(&error).contains("certificate"), "{}", registrar::chain(&error));
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let world = World::new().await;
    let machine = Machine::new();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(x509_parser::pem::parse_x509_pem(world.ca().as_bytes()).unwrap().1.contents.into()).unwrap();
    let key = machine.key.serialize_pem();
    let chain = vec![x509_parser::pem::parse_x509_pem(machine.certificate.as_bytes()).unwrap().1.contents.into()];
    let config = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, rustls_pki_types::pem::PemObject::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(config).resolve(SERVER_NAME, world.address);
    let client = builder.no_proxy().build().unwrap();
    assert!(client.get(world.url("/v1/enrollments/x")).send().await.is_err());
}

/// A machine whose clock says 1975 makes a certificate that nobody should reject for its dates.
#[tokio::test]
async fn a_machines_wrong_clock_does_not_keep_it_out() {
    let world = World::new().await;
    let store = world.store("store-1").await;
    let mut machine = Machine::new();
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1975, 1, 1);
    params.not_after = rcgen::date_time_ymd(1976, 1, 1);
    machine.certificate = params.self_signed(&machine.key).unwrap().pem();
    let answer = world.enroll(&machine, &request(store.vouch(&machine, MAC))).await;
    assert!(matches!(answer.state, contracts::enrollment::EnrollmentState::Admitted(_)));
}
