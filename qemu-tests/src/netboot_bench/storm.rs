//! Many machines at once: how long the last one waits, and how much memory that takes.

use super::{
    Bar, Figure,
    figures::load,
    inside::{Bench, LARGE, SMALL_BYTES},
    network::{self, ADDRESS, BROADCAST},
    servers::{Running, Server},
};
use anyhow::{Result, ensure};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const MACHINES: u32 = 300;
const BOOTS: u32 = 100;
/// What goes over the wire with each block of EDK2: Ethernet's header, IPv4, UDP, TFTP, for 1468 bytes.
const ON_WIRE: f64 = (14.0 + 20.0 + 8.0 + 4.0 + 1468.0) / 1468.0;

/// Machines that are switched on in the same second, on a line of one gigabit.
///
/// # Errors
/// When netboot or the machines fail.
pub async fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let ideal = f64::from(MACHINES) * SMALL_BYTES as f64 * ON_WIRE * 8.0 / network::GIGABIT;
    let mut figure = Figure {
        what: format!("boot storm, slowest of {MACHINES}"),
        unit: "s".into(),
        peer: "ideal for 1 Gbit/s".into(),
        pairs: Vec::new(),
        bar: Bar::RatioAtMost(1.5),
    };
    network::shape(&bench.root, Some(network::GIGABIT))?;
    for sample in 1..=bench.plan.samples {
        let _running = Running::start(bench, Server::Netboot).await?;
        // It knows its machines only once the region has told it; files are there at that time.
        let report = load(bench, ADDRESS, "storm", MACHINES, &["--broadcast", &BROADCAST.to_string()])?;
        bench.report.line(format!("sample {sample}: storm: {report:?}"));
        ensure!(report.files == u64::from(MACHINES), "not every machine got its boot image: {report:?}");
        figure.pairs.push((report.slowest.unwrap_or(f64::INFINITY), Some(ideal)));
    }
    network::shape(&bench.root, None)?;
    Ok(vec![figure])
}

/// Resident memory at rest, and the most while a hundred machines fetch the large image.
///
/// # Errors
/// When netboot or the clients fail.
pub async fn memory(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let figure = |what: &str, most| Figure {
        what: what.into(),
        unit: "MiB".into(),
        peer: String::new(),
        pairs: Vec::new(),
        bar: Bar::ValueAtMost(most),
    };
    let mut figures = vec![
        figure("memory at rest", 12.0),
        figure("memory, 100 boots by TFTP", 48.0),
        figure("memory, 100 boots by HTTP", 48.0),
    ];
    let (file, path) = (format!("{LARGE}.efi"), format!("/boot/{LARGE}.efi"));
    network::shape(&bench.root, Some(network::GIGABIT))?;
    for _ in 0..bench.plan.samples {
        let running = Running::start(bench, Server::Netboot).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let rest = running.resident_mib();
        let tftp = most_during(&running, || {
            load(bench, ADDRESS, "tftp", BOOTS, &["--file", &file, "--dialect", "edk2", "--seconds", "5"])
        })?;
        let http = most_during(&running, || load(bench, ADDRESS, "http", BOOTS, &["--path", &path]))?;
        for (figure, value) in figures.iter_mut().zip([rest, tftp, http]) {
            bench.report.line(format!("{}: {value:.1} MiB", figure.what));
            figure.pairs.push((value, None));
        }
    }
    network::shape(&bench.root, None)?;
    Ok(figures)
}

fn most_during<T>(running: &Running, work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most: f64 = 0.0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(running.resident_mib());
                std::thread::sleep(Duration::from_millis(50));
            }
            most
        });
        let worked = work();
        done.store(true, Ordering::Relaxed);
        let most = watching.join().unwrap_or(f64::NAN);
        worked.map(|_| most)
    })
}
