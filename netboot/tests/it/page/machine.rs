//! A machine on the store's LAN, as netboot hears it: its firmware in frames, its boot file over HTTP from another network
//! namespace, its agent's events.

use crate::common::namespace::{Far, SERVER, ip};
use contracts::{
    event::{Event, StepEvent, StepStatus},
    step::Step,
};
use netboot::proto::mac::Mac;
use nix::sched::{CloneFlags, setns};
use serde_json::json;
use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// The other end of the wire, in a namespace of its own: netboot sees its address and its MAC as those of a neighbour.
pub(crate) struct Lan {
    holder: Child,
}

impl Lan {
    /// Moves `far0` there.
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("setpriv");
        holder.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "300"]);
        let lan = Self { holder: holder.spawn().unwrap() };
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(lan.namespace()).is_ok_and(|there| there == own) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        ip(&format!("link set far0 netns {}", lan.holder.id()));
        lan.inside(|| {
            ip("address add 10.77.0.50/24 dev far0");
            ip("link set far0 up");
        });
        lan
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Runs on a thread in the other namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.namespace()).unwrap();
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            there.join().unwrap()
        })
    }

    /// The firmware of a machine asks for a boot server by UEFI HTTP Boot.
    pub(crate) fn firmware_asks(&self, mac: Mac) {
        let mut bytes = vec![0; 236];
        bytes[..8].copy_from_slice(&[1, 1, 6, 0, 7, 7, 7, mac.0[5]]);
        bytes[10] = 0x80;
        bytes[28..34].copy_from_slice(&mac.0);
        bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 60, 33]);
        bytes.extend_from_slice(b"HTTPClient:Arch:00016:UNDI:003016");
        bytes.extend_from_slice(&[93, 2, 0, 16, 94, 3, 1, 3, 16, 55, 4, 1, 3, 60, 67, 97, 17, 0]);
        bytes.extend_from_slice(&[mac.0[5]; 16]);
        bytes.push(255);
        self.inside(|| Far::new(&[68]).discover(mac, &bytes));
    }

    /// Its firmware fetches the boot file, or only its first bytes.
    pub(crate) fn firmware_fetches(&self, port: u16, most: u64) -> u64 {
        self.inside(|| {
            let mut stream = TcpStream::connect((SERVER, port)).unwrap();
            let request = format!("GET /boot/k8s-worker.efi HTTP/1.1\r\nHost: {SERVER}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut sink = Vec::new();
            stream.take(most).read_to_end(&mut sink).unwrap();
            sink.len() as u64
        })
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What an agent says.
pub(crate) struct Agent<'a> {
    pub(crate) client: &'a reqwest::Client,
    pub(crate) base: &'a str,
    pub(crate) mac: &'a str,
    pub(crate) attempt: Uuid,
}

impl Agent<'_> {
    pub(crate) async fn says(&self, step: Step, status: StepStatus, message: &str, more: impl FnOnce(&mut StepEvent)) {
        let mut data = StepEvent {
            step,
            status,
            attempt: Some(self.attempt),
            message: message.into(),
            progress: None,
            eta_seconds: None,
            code: None,
        };
        more(&mut data);
        let event = Event::new(Uuid::new_v4(), "agent", self.mac, OffsetDateTime::now_utc(), data);
        let sent = self.client.post(format!("{}/v1/events", self.base)).json(&[event]).send().await.unwrap();
        assert_eq!(sent.status(), 204);
    }

    /// Asks what to do: the permit to install belongs to this attempt from here on.
    pub(crate) async fn asks(&self) {
        let smbios = json!({ "manufacturer": "", "product": "", "serial": "", "uuid": "" });
        let report = json!({
            "version": 1, "attempt": self.attempt, "boot_mode": "installer", "mac": self.mac, "boot_id": "b",
            "facts": {
                "version": 1, "firmware": "uefi", "smbios": smbios, "cpus": 2, "memory_bytes": 1, "disks": [], "nics": [],
            },
        });
        let sent = self.client.post(format!("{}/v1/machines", self.base)).json(&report).send().await.unwrap();
        assert_eq!(sent.status(), 200);
    }

    /// Steps that went well, one after the other.
    pub(crate) async fn did(&self, steps: &[(Step, &str)]) {
        for (step, message) in steps {
            self.says(*step, StepStatus::Started, "begins", |_| {}).await;
            self.says(*step, StepStatus::Done, message, |_| {}).await;
        }
    }

    pub(crate) async fn copies(&self, progress: f64, eta: u64) {
        let message = format!("{:.0} of 812 MiB", progress * 812.0);
        self.says(Step::Install, StepStatus::Progress, &message, |event| {
            (event.progress, event.eta_seconds) = (Some(progress), Some(eta));
        })
        .await;
    }

    pub(crate) async fn fails(&self, step: Step, code: &str, message: &str) {
        self.says(step, StepStatus::Failed, message, |event| event.code = Some(code.into())).await;
    }

    pub(crate) async fn waits(&self, step: Step, code: &str, message: &str) {
        self.says(step, StepStatus::Waiting, message, |event| event.code = Some(code.into())).await;
    }
}
