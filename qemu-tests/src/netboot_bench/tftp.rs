//! TFTP: how much a server hands out to some clients in some seconds.

use super::{
    Bar, Figure,
    figures::load,
    inside::{Bench, LARGE},
    network,
    servers::{Running, Server},
};
use anyhow::{Result, ensure};

const DIALECTS: [&str; 2] = ["edk2", "ipxe"];
const CLIENTS: [u32; 4] = [1, 10, 100, 300];
/// Percent of packets that get lost, and how much of the better peer's throughput has to be there then.
const LOSSES: [(u8, f64); 2] = [(0, 1.0), (2, 0.95)];
const PEERS: [Server; 2] = [Server::Dnsmasq, Server::Tftpd];

/// Measures all servers at every point.
///
/// # Errors
/// When a server or the clients fail.
pub async fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (loss, bar) in LOSSES {
        for dialect in DIALECTS {
            for clients in CLIENTS {
                figures.push(Figure {
                    what: format!("TFTP, {dialect}, {clients} clients, {loss} % lost"),
                    unit: "MiB/s".into(),
                    peer: String::new(),
                    pairs: Vec::new(),
                    bar: Bar::RatioAtLeast(bar),
                });
            }
        }
    }
    for sample in 1..=bench.plan.samples {
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); figures.len()];
        for server in [Server::Netboot].into_iter().chain(PEERS) {
            let running = Running::start(bench, server).await?;
            let mut point = 0;
            for (loss, _) in LOSSES {
                network::lose(&bench.root, loss)?;
                for dialect in DIALECTS {
                    for clients in CLIENTS {
                        let rate = one(bench, dialect, clients, loss)?;
                        let what = &figures[point].what;
                        bench.report.line(format!("sample {sample}: {what}: {}: {rate:.3} MiB/s", server.name()));
                        rates[point].push(rate);
                        point += 1;
                    }
                }
            }
            network::lose(&bench.root, 0)?;
            drop(running);
        }
        for (figure, rates) in figures.iter_mut().zip(&rates) {
            let (ours, peers) = (rates[0], &rates[1..]);
            let best = if peers[0] >= peers[1] { 0 } else { 1 };
            figure.peer = format!("{} (the better one)", PEERS[best].name());
            figure.pairs.push((ours, peers[best]));
        }
    }
    Ok(figures)
}

fn one(bench: &Bench<'_>, dialect: &str, clients: u32, loss: u8) -> Result<f64> {
    let file = format!("{LARGE}.efi");
    // Waiting for repeats makes up most of the time on a bad line.
    let seconds = if loss == 0 { "3" } else { "6" };
    let report = load(bench, "tftp", clients, &["--file", &file, "--dialect", dialect, "--seconds", seconds])?;
    ensure!(report.bytes > 0 || loss > 0, "nothing arrived: {report:?}");
    Ok(report.rate())
}
