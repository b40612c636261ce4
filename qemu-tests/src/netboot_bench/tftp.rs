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
/// Ours first. All of them run all the time; one at a time has clients.
const SERVERS: [Server; 3] = [Server::Netboot, Server::Dnsmasq, Server::Tftpd];

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
        let mut running = Vec::new();
        for server in SERVERS {
            running.push(Running::start(bench, server).await?);
        }
        let mut figures = figures.iter_mut();
        for (loss, _) in LOSSES {
            network::lose(&bench.root, loss)?;
            for dialect in DIALECTS {
                for (clients, figure) in CLIENTS.into_iter().zip(&mut figures) {
                    let rates = point(bench, dialect, clients, loss)?;
                    let all: Vec<_> = SERVERS.iter().zip(rates).map(|(s, r)| format!("{} {r:.3}", s.name())).collect();
                    bench.report.line(format!("sample {sample}: {}: MiB/s: {}", figure.what, all.join(", ")));
                    let better = if rates[1] >= rates[2] { 1 } else { 2 };
                    figure.peer = format!("{} (the better one)", SERVERS[better].name());
                    figure.pairs.push((rates[0], Some(rates[better])));
                }
            }
        }
        network::lose(&bench.root, 0)?;
    }
    Ok(figures)
}

/// One after the other, in turns: what else this machine does hits all of them alike. Gives MiB each second.
fn point(bench: &Bench<'_>, dialect: &str, clients: u32, loss: u8) -> Result<[f64; 3]> {
    let file = format!("{LARGE}.efi");
    // Waiting for repeats makes up most of the time on a bad line.
    let (turns, warm_up, seconds) = if loss == 0 { (4, "0.3", "1") } else { (2, "0.5", "3") };
    let mut totals = [const { (0.0, 0.0) }; SERVERS.len()];
    for turn in 0..turns {
        for place in 0..SERVERS.len() {
            let place = (turn + place) % SERVERS.len();
            let more = ["--file", &file, "--dialect", dialect, "--seconds", seconds, "--warm-up", warm_up];
            let report = load(bench, SERVERS[place].address(), "tftp", clients, &more)?;
            ensure!(report.bytes > 0 || loss > 0, "nothing arrived: {report:?}");
            totals[place].0 += report.rate() * report.seconds;
            totals[place].1 += report.seconds;
        }
    }
    Ok(totals.map(|(mib, seconds)| mib / seconds))
}
