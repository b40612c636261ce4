//! Every document against its golden file: what was written once can be read for ever. A change of a golden file
//! is a change of the interface, and shows in review.

use contracts::{
    VERSION, Versioned,
    assignment::{Action, Assignment, BootMode, ImageRef, MachineReport, RegistrarEndpoint, TimeReply},
    disks::{DiskPolicy, DiskSelector, Several},
    enrollment::{Admission, Csr, Enrollment, EnrollmentRequest, EnrollmentState, JoinMaterial, NodeFile},
    event::{Event, StepEvent, StepStatus},
    facts::{
        Clock, ClockVerdict, Cpu, Disk, DiskContent, DiskHealth, Firmware, FirmwareCertificate, MachineFacts,
        MemoryModule, Neighbour, Nic, Owner, Signature, Smbios, Tpm, Transport, Uefi,
    },
    fleet::{self, Addressed, Envelope, Order, PAYLOAD_TYPE, RetireOrder, WipePermit},
    install::InstallRecord,
    logs::{LogBundle, LogEnd, LogPart},
    machine::{CertificateConfig, JoinConfig, JoinFile, MachineConfig, ReadyCheck, StateFormat},
    manifest::{Archive, Bios, Channel, ImageManifest, RoleVersions, Root, Staleness, TrustFloor},
    medium::Medium,
    network::NetworkConfig,
    rollout::{Ring, Rollout, Window},
    staging::{Finding, Passes, StageRecord, StagedDisk, StagedNic, StagedTpm, StagingWindow},
    state::{Encryption, RecoveryKey, StatePolicy, WithoutTpm, recovery_key},
    status::{
        CacheState, CacheStatus, CachedImage, Fetching, Health, MachineStatus, Reason, Remaining, StepLine,
        StoreStatus, UpstreamStatus,
    },
    step::Step,
    store::{MachineSelector, RetiredMachine, StoreAssignments, StoreCredential, StoreMachine},
    voucher::{VouchedRelay, Voucher, VoucherRequest, VoucherStatement},
    window::{AdmissionWindow, Opening, WindowAction, WindowChange, WindowEvent, WindowRequest, WindowStatus},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, fs, path::PathBuf};
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

const NOW: OffsetDateTime = datetime!(2026-11-21 02:00:00 UTC);
const ATTEMPT: Uuid = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);

/// Holds `value` against its golden file (written with `UPDATE_GOLDEN=1`), reads the file back, and reads it once
/// more with a field that does not exist yet.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    let written = format!("{}\n", serde_json::to_string_pretty(value).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &written).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(kept, written, "{name} is written differently than before");
    assert_eq!(&serde_json::from_str::<T>(&kept).unwrap(), value, "{name} does not come back");

    let mut future: serde_json::Value = serde_json::from_str(&kept).unwrap();
    future.as_object_mut().unwrap().insert("a_future_field".into(), serde_json::json!({"deep": [1]}));
    assert_eq!(&serde_json::from_value::<T>(future).unwrap(), value, "{name} does not tolerate a future field");
}

fn facts() -> MachineFacts {
    let disk = |kernel_name: &str, content| Disk {
        kernel_name: kernel_name.into(),
        bytes: 64_000_000_000,
        sector_bytes: 512,
        path: "pci-0000:00:04.0".into(),
        wwn: Some("naa.5000c500a1b2c3d4".into()),
        serial: Some("SHELF0001".into()),
        model: None,
        removable: false,
        read_only: false,
        content,
        ..Disk::default()
    };
    MachineFacts {
        version: VERSION,
        firmware: Firmware::Uefi,
        secure_boot: Some(false),
        smbios: Smbios {
            manufacturer: "QEMU".into(),
            product: "Standard PC".into(),
            serial: String::new(),
            uuid: "00112233-4455-6677-8899-aabbccddeeff".into(),
            ..Smbios::default()
        },
        cpus: 2,
        memory_bytes: 1 << 30,
        disks: vec![
            disk("vda", DiskContent::Blank),
            disk("vdb", DiskContent::Foreign { what: "a ntfs file system".into() }),
            disk("vdc", DiskContent::HalfInstall { owner: None }),
            disk(
                "vdd",
                DiskContent::Installed {
                    root_hashes: vec!["ab".repeat(32)],
                    owner: Some(contracts::facts::Owner {
                        store: "store-0042".into(),
                        machine: "52:54:00:12:34:56".into(),
                    }),
                },
            ),
        ],
        nics: vec![Nic {
            kernel_name: "eth0".into(),
            mac: "52:54:00:12:34:56".into(),
            driver: "virtio_net".into(),
            carrier: true,
            ..Nic::default()
        }],
        ..MachineFacts::default()
    }
}

/// Everything that a machine can say of itself.
fn all_facts() -> MachineFacts {
    let disk = Disk {
        kernel_name: "nvme0n1".into(),
        bytes: 1_000_204_886_016,
        sector_bytes: 512,
        path: "pci-0000:01:00.0".into(),
        wwn: Some("eui.0025385b21404321".into()),
        serial: Some("S5GXNX0T123456".into()),
        model: Some("Samsung SSD 980 PRO 1TB".into()),
        content: DiskContent::Foreign { what: "an LVM volume".into() },
        physical_sector_bytes: Some(4096),
        rotational: Some(false),
        transport: Transport::Nvme,
        vendor: Some("0x144d".into()),
        revision: Some("5B2QGXA7".into()),
        boot_medium: true,
        used_by: Some("/run/medium".into()),
        zoned: true,
        health: Some(DiskHealth { wear_percent: Some(3), failing: Some("says that it is worn out".into()) }),
        signatures: vec![Signature { kind: "lvm2".into(), at: 512, label: Some("vg0".into()) }],
        ..Disk::default()
    };
    let nic = Nic {
        permanent_mac: Some("52:54:00:12:34:57".into()),
        path: "pci-0000:00:03.0".into(),
        speed: Some(1000),
        neighbour: Some(Neighbour {
            chassis: "00:1b:21:00:00:01".into(),
            port: "Gi1/0/7".into(),
            system: "store-switch".into(),
            port_description: "server".into(),
            vlan: Some(20),
        }),
        ..facts().nics.remove(0)
    };
    MachineFacts {
        smbios: Smbios {
            sku: "NUC11".into(),
            board: "Intel Corporation NUC11TNBi5".into(),
            board_serial: "GETN123".into(),
            chassis: "mini PC".into(),
            asset_tag: "0042".into(),
            firmware_version: "Intel Corp. TNTGL357.0064 08/30/2022".into(),
            ..facts().smbios
        },
        disks: vec![disk],
        nics: vec![nic],
        cpu: Some(Cpu {
            vendor: "GenuineIntel".into(),
            model: "11th Gen Intel(R) Core(TM) i5-1135G7".into(),
            sockets: 1,
            cores: 4,
            virtualization: true,
            virtual_machine: true,
        }),
        memory: vec![MemoryModule {
            slot: "SODIMM1".into(),
            bytes: 16 << 30,
            speed: 3200,
            part: "Kingston 9905744".into(),
            serial: "12345678".into(),
        }],
        uefi: Some(Uefi {
            setup_mode: Some(false),
            certificates: vec![FirmwareCertificate {
                list: "db".into(),
                subject: "Microsoft UEFI CA 2023".into(),
                sha256: "ab".repeat(32),
            }],
        }),
        tpm: Some(Tpm { version: 2, manufacturer: "IFX".into() }),
        clock: Some(Clock {
            rtc: Some(datetime!(1970-01-01 00:00:07 UTC)),
            floor: Some(NOW),
            verdict: ClockVerdict::TooEarly,
        }),
        ..facts()
    }
}

fn image() -> ImageRef {
    ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None }
}

#[test]
fn machine_facts() {
    golden("machine-facts", &facts());
    golden("machine-facts-all", &all_facts());
}

/// What an agent of before wrote is read; what one of tomorrow writes is read too, as far as it is known today.
#[test]
fn facts_of_other_versions_are_read() {
    let mut facts: serde_json::Value = serde_json::to_value(all_facts()).unwrap();
    facts["disks"][0]["transport"] = "telepathy".into();
    facts["disks"][0]["health"]["mood"] = "fine".into();
    facts["clock"]["verdict"] = "sideways".into();
    facts["nics"][0]["neighbour"]["colour"] = "red".into();
    let read: MachineFacts = serde_json::from_value(facts).unwrap();
    assert_eq!(read.disks[0].transport, Transport::Unknown);
    assert_eq!(read.clock.unwrap().verdict, ClockVerdict::Other);
}

#[test]
fn disk_policies_have_no_room_for_what_is_not_known() {
    let policy = DiskPolicy {
        system: vec![DiskSelector {
            model: Some("Samsung*".into()),
            transport: vec![Transport::Nvme],
            at_least_bytes: Some(200_000_000_000),
            ..DiskSelector::default()
        }],
        never: vec![DiskSelector { rotational: Some(true), ..DiskSelector::default() }],
        smallest_bytes: Some(128_000_000_000),
        several: Several::Stop,
    };
    let text = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<DiskPolicy>(&text).unwrap(), policy);
    assert_eq!(serde_json::from_str::<DiskPolicy>("{}").unwrap(), DiskPolicy::default());
    for unknown in [r#"{"slot": 3}"#, r#"{"system": [{"slot": 3}]}"#, r#"{"several": "all"}"#] {
        assert!(serde_json::from_str::<DiskPolicy>(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn assignment_documents() {
    golden(
        "machine-report",
        &MachineReport {
            version: VERSION,
            attempt: ATTEMPT,
            boot_mode: BootMode::Installer,
            mac: "52:54:00:12:34:56".into(),
            boot_id: "9f1c".into(),
            facts: facts(),
        },
    );
    golden(
        "assignment",
        &Assignment {
            version: VERSION,
            action: Action::Install,
            reason: "this store needs a k8s-worker".into(),
            store: Some("store-0042".into()),
            image: Some(image()),
            mirrors: vec!["http://198.51.100.7/repo/".into()],
            registrars: vec![RegistrarEndpoint {
                relay: "10.77.0.2:7443".into(),
                server_name: "registrar.region.example".into(),
            }],
            fleet: vec![],
            stage: false,
        },
    );
    golden("time", &TimeReply { utc: NOW, source: "system-clock".into() });
}

#[test]
fn image_documents() {
    golden(
        "image-manifest",
        &ImageManifest {
            version: VERSION,
            template: "k8s-worker".into(),
            image_version: "2026.11.1".into(),
            architecture: "x86_64".into(),
            root: Root { data_bytes: 4096, hash_bytes: 8192, root_hash: "ab".repeat(32) },
            archive: Archive {
                path: "archives/cd.bita".into(),
                header_bytes: 1000,
                header_sha256: "cd".repeat(32),
                bytes: 100_000,
            },
            uki: "images/k8s-worker/2026.11.1/uki.efi".into(),
            boot_loader: "boot/x86_64/systemd-bootx64.efi".into(),
            registrar_ca: "region/registrar-ca.pem".into(),
            bios: Some(Bios {
                network_loader: "boot/bios/undionly.kpxe".into(),
                boot_sector: "boot/bios/boot.img".into(),
                core: "boot/bios/core.img".into(),
            }),
            disks: contracts::disks::DiskPolicy::default(),
            state: StatePolicy { encryption: Encryption::Tpm, without_tpm: WithoutTpm::Refuse },
        },
    );
    golden("channel", &Channel { version: VERSION, image_version: "2026.11.1".into() });
    let roles = RoleVersions { targets: 1, snapshot: 2, timestamp: 3 };
    golden(
        "trust-floor",
        &TrustFloor { version: VERSION, built_at: NOW, roles, staleness: Staleness { max_age_days: 7 } },
    );
    let strict: TrustFloor = contracts::read(
        br#"{"version": 1, "built_at": "2026-11-21T02:00:00Z", "roles": {"targets": 1, "snapshot": 2, "timestamp": 3}}"#,
    )
    .unwrap();
    assert!(strict.staleness.is_none(), "boot images from before this field believe nothing that has expired");
    golden(
        "install-record",
        &InstallRecord {
            version: VERSION,
            template: "k8s-worker".into(),
            image_version: "2026.11.1".into(),
            attempt: Some(ATTEMPT),
            roles,
            owner: Some(Owner { store: "store-0042".into(), machine: "52:54:00:12:34:56".into() }),
            state: StatePolicy::default(),
        },
    );
    golden("recovery-key", &RecoveryKey { version: VERSION, volume: ATTEMPT, key: recovery_key(&[7; 32]) });
    golden(
        "medium",
        &Medium {
            version: VERSION,
            image: ImageRef { version: Some("2026.11.1".into()), ..image() },
            root_hash: "ab".repeat(32),
            offline: true,
            netboot: Some("http://10.77.0.2".into()),
            network: Some(NetworkConfig {
                ports: vec!["52:54:00:12:34:56".into()],
                vlan: Some(20),
                addresses: vec!["10.77.0.7/24".into()],
                ..NetworkConfig::default()
            }),
        },
    );
    golden(
        "machine-configuration",
        &MachineConfig {
            version: VERSION,
            template: "k8s-worker".into(),
            image_version: "2026.11.1".into(),
            persist: vec!["/var".into()],
            data_disks: None,
            state: StatePolicy { encryption: Encryption::Tpm, without_tpm: WithoutTpm::Clear },
            state_formats: vec![StateFormat {
                path: "/var/lib/kubelet".into(),
                format: "kubelet-1.33".into(),
                going_back_safe: false,
                snapshot: vec!["/usr/bin/cp".into(), "-a".into()],
            }],
            late_files: vec![NodeFile {
                path: "/etc/till.conf".into(),
                mode: "0644".into(),
                content: "number = ${store.number}\n".into(),
            }],
            late_parameters: std::collections::BTreeMap::from([
                ("store.number".into(), None),
                ("store.word".into(), Some("x".into())),
            ]),
            join: JoinConfig {
                driver: "kubernetes".into(),
                certificates: vec![CertificateConfig {
                    purpose: "kubelet-client".into(),
                    organization: Some("system:nodes".into()),
                    common_name: "system:node:${machine.name}".into(),
                    key: "/var/lib/kubelet/pki/kubelet-client.key".into(),
                    certificate: "/var/lib/kubelet/pki/kubelet-client.crt".into(),
                }],
                files: vec![JoinFile {
                    path: "/etc/kubernetes/pki/ca.crt".into(),
                    mode: "0644".into(),
                    content: "${region.ca}".into(),
                }],
                units: vec!["kubelet.service".into()],
                ready: ReadyCheck::Http("http://127.0.0.1:10248/healthz".into()),
            },
        },
    );
}

#[test]
fn enrollment_documents() {
    let voucher = Voucher { statement: "{}".into(), signature: "AAAA".into() };
    golden("voucher", &voucher);
    golden("voucher-request", &VoucherRequest { fingerprint: "ef".repeat(32) });
    golden(
        "voucher-statement",
        &VoucherStatement {
            version: VERSION,
            store: "S0042".into(),
            fingerprint: "ef".repeat(32),
            mac: "52:54:00:12:34:56".into(),
            entry: Some("s0042-worker-1".into()),
            relay: None,
            time: NOW,
        },
    );
    golden(
        "voucher-statement-relay",
        &VoucherStatement {
            version: VERSION,
            store: "S0042".into(),
            fingerprint: "ef".repeat(32),
            mac: "52:54:00:12:34:56".into(),
            entry: None,
            relay: Some(VouchedRelay { address: "10.78.0.1".into(), information: "01020007".into() }),
            time: NOW,
        },
    );
    golden(
        "enrollment-request",
        &EnrollmentRequest {
            version: VERSION,
            attempt: ATTEMPT,
            nonce: "00".repeat(16),
            template: "k8s-worker".into(),
            image_version: "2026.11.1".into(),
            boot_id: "9f1c".into(),
            facts: facts(),
            vouchers: vec![voucher],
            join: true,
            csrs: vec![Csr { purpose: "kubelet-client".into(), pem: "-----BEGIN".into() }],
        },
    );
    let answer = |state| Enrollment { version: VERSION, id: ATTEMPT, state };
    golden(
        "enrollment-pending",
        &answer(EnrollmentState::Pending { claim_code: Some("K7-42".into()), reason: "support decides".into() }),
    );
    golden(
        "enrollment-refused",
        &answer(EnrollmentState::Refused { code: "key-pinned".into(), reason: "another key is known".into() }),
    );
    golden(
        "enrollment-admitted",
        &answer(EnrollmentState::Admitted(Admission {
            name: "s0042-worker-1".into(),
            files: vec![NodeFile { path: "/etc/motd".into(), mode: "0644".into(), content: "hello\n".into() }],
            parameters: [("store.number".into(), "0042".into())].into(),
            join: Some(JoinMaterial {
                certificates: [("kubelet-client".into(), "-----BEGIN".into())].into(),
                values: [("ca".into(), "-----BEGIN".into()), ("endpoint".into(), "https://10.98.0.2:6443".into())]
                    .into(),
            }),
            ready: false,
            ready_reason: Some("the node is not there yet".into()),
        })),
    );
}

fn permit() -> WipePermit {
    WipePermit {
        version: VERSION,
        id: Uuid::from_u128(9),
        store: "S0042".into(),
        mac: "52:54:00:12:34:56".into(),
        disk: "DISK-1".into(),
        number: "K7QM-2F9X".into(),
        by: "support".into(),
        issued: NOW,
        expires: NOW,
    }
}

fn envelope() -> Envelope {
    let signature = fleet::Signature { sig: "c2ln".into(), cert: "-----BEGIN".into() };
    Envelope { payload_type: PAYLOAD_TYPE.into(), payload: "e30=".into(), signatures: vec![signature] }
}

#[test]
fn store_documents() {
    let machine = |name: &str, selector| StoreMachine { name: name.into(), selector, image: image(), epoch: 1 };
    golden(
        "store-assignments",
        &StoreAssignments {
            version: VERSION,
            store: "S0042".into(),
            generation: 7,
            machines: vec![
                machine("s0042-worker-1", MachineSelector::Mac("52:54:00:12:34:56".into())),
                machine("s0042-worker-2", MachineSelector::Any),
                machine("s0042-refit-1", MachineSelector::Window("s0042-refit".into())),
            ],
            windows: vec![
                AdmissionWindow {
                    name: "s0042-refit".into(),
                    opening: Opening::Until(NOW),
                    architectures: vec!["x86_64".into()],
                    mac_prefixes: vec!["52:54:00".into()],
                },
                AdmissionWindow {
                    name: "s0042-spare".into(),
                    opening: Opening::ByStore { longest_minutes: 60 },
                    architectures: vec![],
                    mac_prefixes: vec![],
                },
            ],
            orders: vec![Addressed {
                mac: "52:54:00:12:34:56".into(),
                envelope: serde_json::to_value(envelope()).unwrap(),
            }],
            retired: vec![RetiredMachine { mac: "52:54:00:12:34:57".into(), name: "s0042-old".into() }],
            staging: Some(StagingWindow { until: NOW, image: image() }),
        },
    );
    golden("order-wipe", &Order::Wipe(permit()));
    let WipePermit { version, id, store, mac, by, issued, expires, .. } = permit();
    let name = "s0042-old".into();
    let order = RetireOrder { version, id, name, store, mac, key: "ab".repeat(32), by, issued, expires };
    golden("order-retire", &Order::Retire(order));
    golden(
        "store-credential",
        &StoreCredential {
            version: VERSION,
            store: "S0042".into(),
            key: "-----BEGIN".into(),
            certificate: "-----BEGIN".into(),
            registrar_ca: "-----BEGIN".into(),
            server_name: "registrar.region.example".into(),
            registrars: vec!["10.98.0.2:7443".into()],
        },
    );
}

#[test]
fn events_and_status() {
    let data = StepEvent {
        step: Step::Install,
        status: StepStatus::Progress,
        attempt: Some(ATTEMPT),
        message: "120 of 500 MiB".into(),
        progress: Some(0.24),
        eta_seconds: Some(9),
        code: None,
    };
    golden("event", &Event::new(ATTEMPT, "agent", "52:54:00:12:34:56", NOW, data));
    let data = WindowEvent {
        window: "s0042-refit".into(),
        what: WindowChange::Used,
        place: Some("s0042-refit-1".into()),
        places_left: 2,
        message: "52:54:00:12:34:56 took the place s0042-refit-1".into(),
    };
    let subject = "52:54:00:12:34:56".to_owned();
    golden("window-event", &Event::of_window(ATTEMPT, "netboot/S0042".into(), subject, NOW, data));
    let action = WindowAction::Open { minutes: Some(30), machines: None };
    let request = WindowRequest { version: VERSION, pin: "123456".into(), window: None, action };
    golden("window-request", &request);
    let reason = Reason { code: "region-unreachable".into(), message: "the region does not answer".into() };
    golden("health", &Health { version: VERSION, ready: true, reasons: vec![], warnings: vec![reason] });
    for status in [StepStatus::Started, StepStatus::Progress, StepStatus::Waiting, StepStatus::Done, StepStatus::Failed]
    {
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
    golden(
        "store-status",
        &StoreStatus {
            version: VERSION,
            store: "S0042".into(),
            now: NOW,
            region_reachable: true,
            events_waiting: 0,
            events_refused: 0,
            state_problem: None,
            windows: vec![WindowStatus {
                name: "s0042-refit".into(),
                template: "k8s-worker".into(),
                open_until: Some(NOW),
                places_left: 2,
                places_taken: 1,
                store_may_open_minutes: None,
            }],
            dhcp_servers: vec!["10.77.0.1".into()],
            cache: Some(CacheStatus {
                state: CacheState::Fetching,
                message: "k8s-worker 2 is being fetched".into(),
                on_disk: true,
                version: Some(7),
                valid_until: Some(NOW),
                checked: Some(NOW),
                bytes: 1,
                bytes_most: Some(2),
                fetching: Some(Fetching {
                    what: "k8s-worker 2".into(),
                    bytes: 100,
                    done: 40,
                    reused: 10,
                    rate: 250_000,
                    limit: Some(250_000),
                    eta_seconds: Some(60),
                    machine_waits: true,
                }),
                images: vec![CachedImage {
                    template: "k8s-worker".into(),
                    version: "2".into(),
                    due: Some(NOW),
                    bytes: 100,
                    complete: false,
                }],
                upstreams: vec![UpstreamStatus {
                    url: "https://images.example/repo/".into(),
                    problem: Some("no answer".into()),
                }],
            }),
            machines: vec![MachineStatus {
                mac: "52:54:00:12:34:56".into(),
                name: Some("s0042-worker-1".into()),
                boot_bytes: 1,
                install_bytes: 2,
                installed: false,
                tries: 5,
                paused_until: Some(NOW),
                heard: Some(NOW),
                firmware_starts: 1,
                images_unheard: 1,
                remaining: Some(Remaining {
                    step_seconds: Some(9),
                    journey_seconds: Some((300, 420)),
                    earlier: 3,
                    late: false,
                }),
                steps: vec![StepLine {
                    step: Step::Plan,
                    status: StepStatus::Failed,
                    started: NOW,
                    updated: NOW,
                    progress: None,
                    eta_seconds: None,
                    message: "disk vda holds a ntfs file system".into(),
                    code: Some("foreign-data".into()),
                }],
            }],
        },
    );
}

#[test]
fn a_document_from_the_future_is_refused_by_name() {
    let error = contracts::read::<Channel>(br#"{"version": 2, "image_version": "1"}"#).unwrap_err();
    assert!(error.to_string().contains("channel document has version 2"), "{error}");
    let error = contracts::read::<Channel>(b"{").unwrap_err();
    assert!(error.to_string().contains(Channel::NAME), "{error}");
}

#[test]
fn staging_document() {
    let record = StageRecord {
        version: VERSION,
        mac: "52:54:00:12:34:56".into(),
        time: NOW,
        template: "k8s-worker".into(),
        passes: false,
        findings: vec![Finding { about: "disks".into(), result: Passes::No, words: "no disk fits".into() }],
        manufacturer: "QEMU".into(),
        product: "Standard PC".into(),
        serial: "SHELF0001".into(),
        uuid: "00112233-4455-6677-8899-aabbccddeeff".into(),
        firmware: Firmware::Uefi,
        secure_boot: Some(false),
        boot_order: vec!["UEFI PXEv4".into()],
        tpm: Some(StagedTpm { version: 2, manufacturer: "IBM".into(), endorsement_key: Some("ab".repeat(64)) }),
        nics: vec![StagedNic { mac: "52:54:00:12:34:56".into(), driver: "virtio_net".into(), carrier: true }],
        disks: vec![StagedDisk {
            serial: Some("DISK-1".into()),
            wwn: None,
            model: None,
            bytes: 64_000_000_000,
            content: "blank".into(),
        }],
    };
    golden("stage-record", &record);
}

#[test]
fn log_document() {
    let bundle = LogBundle {
        version: VERSION,
        attempt: ATTEMPT,
        mac: "02:00:00:00:00:01".into(),
        part: LogPart::Installer,
        agent: "0.1.0".into(),
        time: NOW,
        end: LogEnd {
            step: Some(Step::Plan),
            status: StepStatus::Failed,
            code: Some("foreign-data".into()),
            message: "sda holds data".into(),
        },
        lines: "    1.250 [plan] ... choosing the disk\n    1.300 [plan] FAILED: sda holds data".into(),
        left_out: 0,
        kernel: "[    0.000000] Linux version 6.12".into(),
    };
    golden("log-bundle", &bundle);
    assert_eq!(contracts::read::<LogBundle>(&serde_json::to_vec(&bundle).unwrap()).unwrap(), bundle);
}

#[test]
fn rollout_document() {
    let ring = |after_hours, percent, stores: &[&str]| Ring {
        after_hours,
        percent,
        stores: stores.iter().map(|store| (*store).to_owned()).collect(),
    };
    golden(
        "rollout",
        &Rollout {
            version: VERSION,
            template: "k8s-worker".into(),
            channel: "stable".into(),
            image_version: "2026.11.1".into(),
            start: NOW,
            rings: vec![ring(0, 0, &["store-0042"]), ring(24, 10, &[]), ring(72, 100, &[])],
            window: Some(Window { from_minute: 1320, to_minute: 300 }),
            halted: false,
        },
    );
}
