//! Counters and gauges for Prometheus. Every label has a fixed set of values, whatever comes from the network: no
//! address, name or reason is a label.

use crate::{
    confine::Confinement,
    health,
    proto::dhcp::decide::{Kind, Port},
    proto::tftp::transfer::Outcome,
    roster::Progress,
    shared::{Shared, lock},
};
use axum::http::StatusCode;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use std::sync::{Mutex, atomic::Ordering};
use time::OffsetDateTime;

/// The content type of the text form: OpenMetrics, which Prometheus reads too.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Label names and values. They are part of the program, so their number is known.
type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;

/// Everything that is counted. Gauges are set when somebody asks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    dhcp: Counters<2>,
    tftp: Counters<1>,
    http: Counters<2>,
    sent: Counters<1>,
    reloads: Counters<1>,
    gauges: Gauges,
    /// One scrape at a time: the gauges of one must not end up in the text of another.
    scraping: Mutex<()>,
}

#[derive(Debug, Default)]
struct Gauges {
    ready: Gauge,
    region: Gauge,
    events: Gauge,
    boot_files: Gauge,
    assigned: Gauge,
    ledger: Family<Labels<1>, Gauge>,
    steps: Family<Labels<2>, Gauge>,
    confined: Family<Labels<1>, Gauge>,
    memory: Gauge,
    files: Gauge,
    threads: Gauge,
}

/// How bytes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Boot files by TFTP, acknowledged.
    Tftp,
    /// Boot files by HTTP.
    Boot,
    /// The repository by HTTP.
    Repository,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("netboot"),
            dhcp: Family::default(),
            tftp: Family::default(),
            http: Family::default(),
            sent: Family::default(),
            reloads: Family::default(),
            gauges: Gauges::default(),
            scraping: Mutex::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let (all, gauges) = (&mut self.registry, &self.gauges);
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        all.register("build", "The program", Info::new(version));
        all.register("dhcp_packets", "Packets on the ports of DHCP and PXE, by what was answered", self.dhcp.clone());
        all.register("tftp_transfers", "TFTP transfers that ended, by how", self.tftp.clone());
        all.register("http_requests", "HTTP requests, by area and class of the answer", self.http.clone());
        let sent = "Bytes of boot files and of the repository that were handed out";
        all.register_with_unit("sent", sent, Unit::Bytes, self.sent.clone());
        all.register("config_reloads", "SIGHUPs, by what came of them", self.reloads.clone());
        all.register("ready", "1 when a machine that is switched on now would be installed", gauges.ready.clone());
        all.register("region_reachable", "1 when the region answered the last call", gauges.region.clone());
        all.register("events_waiting", "Events that the region has not taken yet", gauges.events.clone());
        all.register("boot_files", "Boot files that are verified and in memory", gauges.boot_files.clone());
        all.register("machines_assigned", "Inventory entries of this store", gauges.assigned.clone());
        all.register("machines_known", "Lines of the ledger, by how far the machine got", gauges.ledger.clone());
        let steps = "Machines that were heard of, by the step of their journey and how it stands";
        all.register("machines_at_step", steps, gauges.steps.clone());
        all.register("confined", "1 where a right was given up after the start", gauges.confined.clone());
        let memory = "Memory that the process holds";
        all.register_with_unit("process_resident_memory", memory, Unit::Bytes, gauges.memory.clone());
        all.register("process_open_fds", "Open file descriptors", gauges.files.clone());
        all.register("process_threads", "Threads", gauges.threads.clone());
        let start = Gauge::<i64>::default();
        start.set(OffsetDateTime::now_utc().unix_timestamp());
        let started = "When the service was started, since 1970";
        all.register_with_unit("process_start_time", started, Unit::Seconds, start);
    }

    /// For a service that has given up these rights.
    #[must_use]
    pub fn of(confinement: Option<&Confinement>) -> Self {
        let metrics = Self::default();
        let set = |part: &'static str, on: bool| {
            metrics.gauges.confined.get_or_create(&[("part", part)]).set(on.into());
        };
        set("user", confinement.is_some_and(|c| c.unprivileged));
        set("landlock", confinement.is_some_and(|c| c.landlock));
        set("seccomp", confinement.is_some_and(|c| c.seccomp));
        metrics
    }

    /// Counts a packet on one of DHCP's ports, and its answer; none for silence.
    pub fn dhcp(&self, port: Port, answer: Option<Kind>) {
        let port = match port {
            Port::Dhcp => "67",
            Port::Proxy => "4011",
        };
        let answer = match answer {
            None => "silent",
            Some(Kind::PxeOffer) => "pxe-offer",
            Some(Kind::PxeAck) => "pxe-ack",
            Some(Kind::HttpOffer) => "http-offer",
            Some(Kind::ScriptOffer) => "script-offer",
            Some(Kind::AgentOffer) => "agent-offer",
            Some(Kind::AgentAck) => "agent-ack",
            Some(Kind::LeaseOffer) => "lease-offer",
            Some(Kind::LeaseAck) => "lease-ack",
            Some(Kind::LeaseNak) => "lease-nak",
            Some(Kind::InformAck) => "inform-ack",
        };
        self.dhcp.get_or_create(&[("port", port), ("answer", answer)]).inc();
    }

    /// Counts a TFTP transfer that ended; none when it broke or was stopped.
    pub fn tftp(&self, outcome: Option<&Outcome>) {
        let outcome = match outcome {
            Some(Outcome::Complete { .. }) => "complete",
            Some(Outcome::Probed) => "probed",
            Some(Outcome::Refused { .. }) => "refused",
            Some(Outcome::TooSlow) => "too-slow",
            Some(Outcome::Lost) => "silent",
            None => "broken",
        };
        self.tftp.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts an HTTP request by the first part of its path.
    pub fn http(&self, path: &str, status: StatusCode) {
        let area = match path.split('/').find(|part| !part.is_empty()) {
            None => "page",
            Some("boot") => "boot",
            Some("repo") => "repository",
            Some("v1") => "api",
            Some("metrics") => "metrics",
            Some(_) => "other",
        };
        let class = match status.as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.http.get_or_create(&[("area", area), ("status", class)]).inc();
    }

    /// Counts bytes that were handed out.
    pub fn sent(&self, way: Way, bytes: u64) {
        let way = match way {
            Way::Tftp => "tftp-boot",
            Way::Boot => "http-boot",
            Way::Repository => "http-repository",
        };
        self.sent.get_or_create(&[("way", way)]).inc_by(bytes);
    }

    /// Counts a SIGHUP.
    pub fn reloaded(&self, good: bool) {
        self.reloads.get_or_create(&[("result", if good { "taken" } else { "refused" })]).inc();
    }

    /// All of them as OpenMetrics text.
    #[must_use]
    pub fn text(&self, shared: &Shared) -> String {
        let _one = lock(&self.scraping);
        self.gauges.set(shared);
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Gauges {
    fn set(&self, shared: &Shared) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let facts = health::Facts::of(shared);
        self.ready.set(health::judge(&facts).ready.into());
        self.region.set(shared.region_reachable.load(Ordering::Relaxed).into());
        self.events.set(count(facts.events_waiting));
        self.boot_files.set(count(shared.boot.current().files.len()));
        shared.store.with(|roster| {
            self.assigned.set(count(roster.assignments.as_ref().map_or(0, |a| a.machines.len())));
            let at = |name: &'static str, which: fn(&Progress) -> bool| {
                let lines = roster.ledger.values().filter(|line| which(&line.progress)).count();
                self.ledger.get_or_create(&[("progress", name)]).set(count(lines));
            };
            at("asked", |p| *p == Progress::None);
            at("installing", |p| *p == Progress::Installing);
            at("installed", |p| matches!(p, Progress::Installed { .. }));
        });
        self.steps.clear();
        for machine in lock(&shared.board).machines(|_| false) {
            let Some(line) = machine.steps.last() else { continue };
            self.steps.get_or_create(&[("step", line.step.as_str()), ("status", line.status.as_str())]).inc();
        }
        let process = Process::read();
        self.memory.set(process.resident_kib.saturating_mul(1024));
        self.threads.set(process.threads);
        self.files.set(std::fs::read_dir("/proc/self/fd").map_or(0, |entries| count(entries.count())));
    }
}

/// What the kernel says of this process (proc_pid_status(5)); 0 where it does not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Process {
    resident_kib: i64,
    threads: i64,
}

impl Process {
    fn read() -> Self {
        std::fs::read_to_string("/proc/self/status").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Self { resident_kib: field("VmRSS:").unwrap_or(0), threads: field("Threads:").unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_figures_are_read() {
        let read = Process::parse("Name:\tnetboot\nVmRSS:\t    9412 kB\nThreads:\t5\n");
        assert_eq!(read, Process { resident_kib: 9412, threads: 5 });
        assert!(Process::read().resident_kib > 0);
    }

    fn text(metrics: &Metrics) -> String {
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        text
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_makes_no_new_labels(paths in proptest::collection::vec("\\PC{0,40}", 0..200)) {
            let metrics = Metrics::default();
            for (path, status) in paths.iter().zip((100..600).cycle().step_by(50)) {
                metrics.http(path, StatusCode::from_u16(status).unwrap());
            }
            let lines = text(&metrics).lines().filter(|line| line.starts_with("netboot_http_requests_total{")).count();
            prop_assert!(lines <= 6 * 5, "{lines} lines");
        }
    }
}
