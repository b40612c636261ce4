use super::*;
use contracts::assignment::ImageRef;
use contracts::facts::{Firmware, MachineFacts};
use contracts::voucher::Voucher;
use time::Duration;
use uuid::Uuid;

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-21 10:00 UTC);
const MAC: &str = "52:54:00:00:00:01";

struct Store {
    name: &'static str,
    key: aws_lc_rs::signature::EcdsaKeyPair,
    public: Vec<u8>,
}

fn store(name: &'static str) -> Store {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    use rcgen::PublicKeyData;
    let made = rcgen::KeyPair::generate().unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &made.serialize_der()).unwrap();
    Store { name, key, public: made.subject_public_key_info() }
}

impl Store {
    fn vouch(&self, fingerprint: &str, mac: &str, time: OffsetDateTime) -> Voucher {
        self.vouch_for(fingerprint, mac, None, time)
    }

    fn vouch_for(&self, fingerprint: &str, mac: &str, entry: Option<&str>, time: OffsetDateTime) -> Voucher {
        self.sign(&VoucherStatement {
            version: 1,
            store: self.name.into(),
            fingerprint: fingerprint.into(),
            mac: mac.into(),
            entry: entry.map(str::to_owned),
            relay: None,
            time,
        })
    }

    fn sign(&self, statement: &VoucherStatement) -> Voucher {
        use base64::Engine;
        let statement = serde_json::to_string(statement).unwrap();
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature = self.key.sign(&random, &Voucher::signed_bytes(&statement)).unwrap();
        Voucher { statement, signature: base64::engine::general_purpose::STANDARD.encode(signature) }
    }
}

fn key(digit: &str) -> String {
    digit.repeat(64)
}

fn machine(name: &str, selector: MachineSelector, template: &str) -> Machine {
    let image = ImageRef { template: template.into(), channel: "stable".into(), version: None };
    Machine { name: name.into(), selector, image }
}

fn request(voucher: Voucher) -> EnrollmentRequest {
    EnrollmentRequest {
        version: 1,
        attempt: Uuid::nil(),
        nonce: "0".repeat(32),
        template: "k8s-worker".into(),
        image_version: "1".into(),
        boot_id: Uuid::nil().to_string(),
        facts: MachineFacts {
            version: 1,
            firmware: Firmware::Uefi,
            cpus: 1,
            memory_bytes: 1,
            ..MachineFacts::default()
        },
        vouchers: vec![voucher],
        join: false,
        csrs: vec![],
    }
}

struct World {
    inventory: Inventory,
    pins: Pins,
    keys: StoreKeys,
    store: Store,
}

/// One store with an entry by MAC address and two for spares, one of another template.
fn world() -> World {
    let store = store("store-1");
    let mut inventory = Inventory::default();
    let machines = vec![
        machine("by-mac", MachineSelector::Mac(MAC.into()), "k8s-worker"),
        machine("osd", MachineSelector::Any, "storage-node"),
        machine("spare", MachineSelector::Any, "k8s-worker"),
    ];
    inventory.stores.insert("store-1".into(), machines);
    inventory.stores.insert("store-2".into(), vec![]);
    let keys = StoreKeys::from([("store-1".to_owned(), store.public.clone())]);
    World { inventory, pins: Pins::default(), keys, store }
}

impl World {
    fn decide(&self, request: &EnrollmentRequest, fingerprint: &str) -> Decision {
        admit(request, fingerprint, &self.inventory, &self.pins, &self.keys, &Brokers::default(), NOW)
    }

    fn admitted(&self, mac: &str, fingerprint: &str) -> Admitted {
        match self.decide(&request(self.store.vouch(fingerprint, mac, NOW)), fingerprint) {
            Decision::Admit(admitted) => admitted,
            Decision::Refuse(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    fn code(&self, request: &EnrollmentRequest, fingerprint: &str) -> &'static str {
        match self.decide(request, fingerprint) {
            Decision::Admit(admitted) => panic!("admitted: {admitted:?}"),
            Decision::Refuse(refusal) => refusal.code,
        }
    }
}

#[test]
fn a_mac_address_comes_before_the_spares() {
    let world = world();
    let admitted = world.admitted(MAC, &key("a"));
    assert_eq!((admitted.name.as_str(), admitted.first_key), ("by-mac", true));
}

#[test]
fn a_store_that_knows_a_machine_by_a_relay_only_says_so() {
    let world = world();
    assert_eq!(world.admitted(MAC, &key("a")).relay, None);
    let relay = contracts::voucher::VouchedRelay { address: "10.78.0.1".into(), information: "0102".into() };
    let vouched = VoucherStatement {
        version: 1,
        store: world.store.name.into(),
        fingerprint: key("a"),
        mac: MAC.into(),
        entry: None,
        relay: Some(relay),
        time: NOW,
    };
    let voucher = world.store.sign(&vouched);
    match world.decide(&request(voucher), &key("a")) {
        Decision::Admit(admitted) => assert_eq!(admitted.relay.as_deref(), Some("10.78.0.1")),
        Decision::Refuse(refusal) => panic!("refused: {refusal:?}"),
    }
}

#[test]
fn a_spare_gets_the_free_entry_of_its_template_and_keeps_it() {
    let mut world = world();
    let other = "52:54:00:00:00:99";
    assert_eq!(world.admitted(other, &key("a")).name, "spare");
    world.pins.insert("spare", &key("a"));
    let again = world.admitted(other, &key("a"));
    assert_eq!((again.name.as_str(), again.first_key), ("spare", false));
}

#[test]
fn a_place_in_a_window_is_the_machines_to_which_the_store_has_given_it() {
    let mut world = world();
    let places =
        ["refit-1", "refit-2"].map(|name| machine(name, MachineSelector::Window("refit".into()), "k8s-worker"));
    world.inventory.stores.insert("store-1".into(), places.to_vec());
    let stranger = "52:54:00:00:00:99";
    let asked = |entry: Option<&str>| request(world.store.vouch_for(&key("a"), stranger, entry, NOW));
    assert_eq!(world.code(&asked(None), &key("a")), "not-in-inventory", "seen, and not let in");
    assert_eq!(world.code(&asked(Some("refit-3")), &key("a")), "not-in-inventory");
    let Decision::Admit(admitted) = world.decide(&asked(Some("refit-2")), &key("a")) else { panic!("refused") };
    assert_eq!((admitted.name.as_str(), admitted.first_key), ("refit-2", true));
    world.pins.insert("refit-2", &key("b"));
    let again = request(world.store.vouch_for(&key("a"), stranger, Some("refit-2"), NOW));
    assert_eq!(world.code(&again, &key("a")), "key-pinned");
}

#[test]
fn a_second_key_for_an_entry_is_refused() {
    let mut world = world();
    world.pins.insert("by-mac", &key("a"));
    assert_eq!(world.code(&request(world.store.vouch(&key("b"), MAC, NOW)), &key("b")), "key-pinned");
    world.pins.insert("spare", &key("c"));
    world.pins.insert("osd", &key("d"));
    let other = request(world.store.vouch(&key("b"), "52:54:00:00:00:99", NOW));
    assert_eq!(world.code(&other, &key("b")), "key-pinned");
}

#[test]
fn one_key_has_one_entry_unless_the_old_one_left_the_inventory() {
    let mut world = world();
    world.pins.insert("spare", &key("a"));
    assert_eq!(world.code(&request(world.store.vouch(&key("a"), MAC, NOW)), &key("a")), "key-elsewhere");
    world.inventory.stores.get_mut("store-1").unwrap().retain(|m| m.name != "spare");
    assert_eq!(world.admitted(MAC, &key("a")).releases.as_deref(), Some("spare"));
}

#[test]
fn only_the_stores_own_fresh_word_about_this_key_counts() {
    let world = world();
    let me = key("a");
    let stranger = store("store-1");
    let good = world.store.vouch(&me, MAC, NOW);
    let mut tampered = good.clone();
    tampered.statement = tampered.statement.replace("00:01", "00:02");
    let mut unreadable = good.clone();
    unreadable.statement = "{}".into();
    let cases = [
        (stranger.vouch(&me, MAC, NOW), "voucher-signature"),
        (tampered, "voucher-signature"),
        (unreadable, "voucher-unreadable"),
        (store("store-9").vouch(&me, MAC, NOW), "voucher-unknown-store"),
        (world.store.vouch(&key("b"), MAC, NOW), "voucher-fingerprint"),
        (world.store.vouch(&me, MAC, NOW - Duration::hours(25)), "voucher-stale"),
        (world.store.vouch(&me, MAC, NOW + Duration::minutes(11)), "voucher-future"),
        (world.store.vouch(&me, "ff:ff:ff:ff:ff:ff", NOW), "voucher-mac"),
    ];
    for (voucher, code) in cases {
        assert_eq!(world.code(&request(voucher), &me), code);
    }
    let mut none = request(good);
    none.vouchers.clear();
    assert_eq!(world.code(&none, &me), "voucher-missing");
}

#[test]
fn a_good_voucher_behind_a_bad_one_counts() {
    let world = world();
    let mut both = request(world.store.vouch(&key("b"), MAC, NOW));
    both.vouchers.push(world.store.vouch(&key("a"), MAC, NOW));
    assert!(matches!(world.decide(&both, &key("a")), Decision::Admit(_)));
}

#[test]
fn another_store_cannot_claim_this_stores_entries() {
    let mut world = world();
    let second = store("store-2");
    world.keys.insert("store-2".into(), second.public.clone());
    assert_eq!(world.code(&request(second.vouch(&key("a"), MAC, NOW)), &key("a")), "not-in-inventory");
}

#[test]
fn another_template_is_refused() {
    let world = world();
    let mut wrong = request(world.store.vouch(&key("a"), MAC, NOW));
    wrong.template = "hypervisor".into();
    assert_eq!(world.code(&wrong, &key("a")), "template-mismatch");
}

#[test]
fn requests_without_end_are_refused() {
    let world = world();
    let mut odd = request(world.store.vouch(&key("a"), MAC, NOW));
    odd.csrs = vec![Csr { purpose: "admin".into(), pem: String::new() }; MAX_CSRS + 1];
    assert_eq!(world.code(&odd, &key("a")), "csr-invalid");
}

#[test]
fn storage_needs_a_person_until_its_key_is_pinned() {
    let mut world = world();
    let other = "52:54:00:00:00:99";
    let asks = |world: &World| {
        let storage =
            EnrollmentRequest { template: "storage-node".into(), ..request(world.store.vouch(&key("a"), other, NOW)) };
        match world.decide(&storage, &key("a")) {
            Decision::Admit(admitted) => (admitted.name, admitted.needs_person),
            Decision::Refuse(refusal) => panic!("refused: {refusal:?}"),
        }
    };
    assert_eq!(asks(&world), ("osd".into(), true));
    world.pins.insert("osd", &key("a"));
    assert_eq!(asks(&world), ("osd".into(), false));
    assert!(!world.admitted(MAC, &key("b")).needs_person);
}
