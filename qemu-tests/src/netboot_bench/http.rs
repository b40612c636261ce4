//! HTTP: a boot image to some clients over a line of one gigabit, and what it costs the server.

use super::{
    Bar, Figure,
    figures::load,
    inside::{Bench, LARGE},
    network,
    servers::{Running, Server},
};
use anyhow::{Result, ensure};

const CLIENTS: [u32; 3] = [1, 10, 100];

/// Measures netboot and nginx in turn.
///
/// # Errors
/// When a server or the clients fail.
pub async fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let figure = |what: String, unit: &str, bar| {
        let peer = "nginx".to_owned();
        Figure { what, unit: unit.into(), peer, pairs: Vec::new(), bar }
    };
    let mut rates = CLIENTS.map(|n| figure(format!("HTTP, {n} clients"), "MiB/s", Bar::RatioAtLeast(0.95)));
    let mut costs = CLIENTS.map(|n| figure(format!("HTTP, {n} clients, CPU per GB"), "s", Bar::RatioAtMost(2.0)));
    network::shape(&bench.root, Some(network::GIGABIT))?;
    for sample in 1..=bench.plan.samples {
        for point in 0..CLIENTS.len() {
            let mut seen = Vec::new();
            for server in [Server::Netboot, Server::Nginx] {
                let running = Running::start(bench, server).await?;
                let before = running.processor_seconds();
                let path = format!("/boot/{LARGE}.efi");
                let report = load(bench, server.address(), "http", CLIENTS[point], &["--path", &path])?;
                ensure!(report.files == u64::from(CLIENTS[point]), "not every download was whole: {report:?}");
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let cost = (running.processor_seconds() - before) / (report.bytes as f64 / 1e9);
                let (name, rate) = (server.name(), report.rate());
                let what = &rates[point].what;
                bench
                    .report
                    .line(format!("sample {sample}: {what}: {name}: {rate:.1} MiB/s, {cost:.2} s of CPU per GB"));
                seen.push((rate, cost));
            }
            rates[point].pairs.push((seen[0].0, Some(seen[1].0)));
            costs[point].pairs.push((seen[0].1, Some(seen[1].1)));
        }
    }
    network::shape(&bench.root, None)?;
    Ok(rates.into_iter().chain(costs).collect())
}
