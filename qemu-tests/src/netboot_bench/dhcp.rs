//! DHCP: how many answers a server gives in a second, and how long clients wait for them.

use super::{Bar, Figure, inside::Bench, lenders::Lender, perfdhcp};
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};

const PEERS: [Lender; 2] = [Lender::Dnsmasq, Lender::Kea];
/// Exchanges in a second: as many as machines that are switched on together in the boot storm.
const STORM: u32 = 300;
/// How long the storm blows.
const STORM_SECONDS: u32 = 10;
/// How long a storm of new clients does: half of the clients that there are.
const NEW_SECONDS: u32 = perfdhcp::CLIENTS_IN_ALL / 2 / STORM;
/// The search for the most exchanges in a second begins here.
const FIRST_RATE: u32 = 500;
/// So much of what was asked must be answered in time.
const LEAST_SHARE: f64 = 0.99;
/// How often a rate is tried until it holds.
const TRIES: u32 = 2;
/// How long each rate is tried.
const RATE_SECONDS: u32 = 3;
/// How often the gap between the last rate that held and the first that did not is halved.
const HALVINGS: u32 = 4;

/// What one server does.
struct Seen {
    /// OFFERs and ACKs in a second, at the highest rate that held.
    answers: f64,
    /// Milliseconds in which 99 of 100 questions were answered in the storm.
    late: f64,
    /// The same in a storm of clients without a lease. netboot alone waits for the disk there.
    late_anew: f64,
}

/// Measures all servers.
///
/// # Errors
/// When a server or the client fails.
pub async fn measure(bench: &Bench<'_>) -> Result<Vec<Figure>> {
    let figure = |what: String, unit: &str, bar| {
        let peer = String::new();
        Figure { what, unit: unit.into(), peer, pairs: Vec::new(), bar }
    };
    let mut answers = figure("DHCP, answers per second".into(), "/s", Bar::RatioAtLeast(1.0));
    let mut late = figure(format!("DHCP, p99 at {STORM} clients/s"), "ms", Bar::RatioAtMost(1.0));
    let mut late_anew = figure(format!("DHCP, p99 at {STORM} new clients/s"), "ms", Bar::RatioAtMost(2.0));
    for sample in 1..=bench.plan.samples {
        let mut seen = Vec::new();
        for lender in [Lender::Netboot].into_iter().chain(PEERS) {
            let one = one(bench, lender).await.with_context(|| lender.name())?;
            bench.report.line(format!(
                "sample {sample}: DHCP: {}: {:.0} answers/s, p99 {:.2} ms at {STORM} clients/s, {:.2} ms where they are new",
                lender.name(),
                one.answers,
                one.late,
                one.late_anew
            ));
            seen.push(one);
        }
        let fastest = usize::from(seen[2].answers > seen[1].answers);
        answers.peer = format!("{} (the better one)", PEERS[fastest].name());
        answers.pairs.push((seen[0].answers, Some(seen[1 + fastest].answers)));
        let of: [fn(&Seen) -> f64; 2] = [|one| one.late, |one| one.late_anew];
        for (figure, of) in [&mut late, &mut late_anew].into_iter().zip(of) {
            let soonest = usize::from(of(&seen[2]) < of(&seen[1]));
            figure.peer = format!("{} (the better one)", PEERS[soonest].name());
            figure.pairs.push((of(&seen[0]), Some(of(&seen[1 + soonest]))));
        }
    }
    Ok(vec![answers, late, late_anew])
}

async fn one(bench: &Bench<'_>, lender: Lender) -> Result<Seen> {
    let mut service = lender.start(bench)?;
    let begin = Instant::now();
    while perfdhcp::run(bench, 10, 1)?.finished == 0 {
        service.check()?;
        ensure!(begin.elapsed() < Duration::from_secs(30), "it does not answer after 30 s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let anew = perfdhcp::run(bench, STORM, NEW_SECONDS)?;
    // Most clients have an address when the rest is measured, as in a store.
    perfdhcp::run(bench, FIRST_RATE, 3 * perfdhcp::CLIENTS_IN_ALL / FIRST_RATE)?;
    let storm = perfdhcp::run(bench, STORM, STORM_SECONDS)?;
    bench.report.line(format!(
        "{}: {STORM} clients/s: {:.3} of the exchanges came to their end",
        lender.name(),
        storm.share()
    ));
    let [late, late_anew] = [storm, anew].map(|storm| storm.percentile(99).context("no answer came"));
    let mut most = 0.0_f64;
    let mut search = Search::default();
    while let Some(rate) = search.next() {
        let (mut answers, mut held) = (0.0, false);
        // What else this machine does may spoil one try: the same chance for everybody.
        for _ in 0..TRIES {
            let came = perfdhcp::run(bench, rate, RATE_SECONDS)?;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let per_second = came.waits.len() as f64 / f64::from(RATE_SECONDS);
            // What the client does not manage to ask is no answer of the server.
            (answers, held) = (per_second, came.share() >= LEAST_SHARE && f64::from(rate) * 1.8 < per_second);
            if held {
                break;
            }
        }
        bench.report.line(format!("{}: {rate} clients/s: {answers:.0} answers/s, held: {held}", lender.name()));
        if held {
            most = most.max(answers);
        }
        search.told(held);
    }
    service.check()?;
    service.stop();
    let ms = |wait: Duration| wait.as_secs_f64() * 1000.0;
    Ok(Seen { answers: most, late: ms(late?), late_anew: ms(late_anew?) })
}

/// Doubles a rate until it does not hold, then halves the gap.
#[derive(Debug, Default)]
struct Search {
    held: u32,
    failed: Option<u32>,
    halvings: u32,
    tried: u32,
}

impl Search {
    fn next(&mut self) -> Option<u32> {
        self.tried = match self.failed {
            None => (self.held * 2).max(FIRST_RATE),
            Some(_) if self.halvings == HALVINGS => return None,
            Some(failed) => {
                self.halvings += 1;
                self.held.midpoint(failed)
            }
        };
        Some(self.tried)
    }

    fn told(&mut self, held: bool) {
        if held {
            self.held = self.tried;
        } else {
            self.failed = Some(self.tried);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_ends_near_the_rate_that_holds() {
        for most in [100, 700, 3100, 50_000] {
            let (mut search, mut best, mut tries) = (Search::default(), 0, 0);
            while let Some(rate) = search.next() {
                search.told(rate <= most);
                best = if rate <= most { best.max(rate) } else { best };
                tries += 1;
            }
            assert!(best <= most && best >= most * 15 / 16 - FIRST_RATE / 16, "{most}: {best}");
            assert!(tries < 15);
        }
    }
}
