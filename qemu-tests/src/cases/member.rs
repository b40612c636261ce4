//! A machine that has arrived: switched on, and called ready by its cluster.

use crate::{
    journey::{Plan, inside},
    report::Report,
    world::{
        World,
        machine::{Hardware, Machine},
        region::Member,
    },
};
use anyhow::{Context as _, Result};
use contracts::{status::MachineStatus, step::Step};

/// It, and what was said on its way.
#[derive(Debug)]
pub struct Arrived {
    /// Switched on.
    pub machine: Machine,
    /// As its cluster shows it.
    pub member: Member,
    status: MachineStatus,
}

impl Arrived {
    /// What a step said in the end, since the machine was switched on.
    ///
    /// # Errors
    /// When it was not made.
    pub fn words_of(&self, step: Step) -> Result<String> {
        let line = self.status.steps.iter().find(|l| l.step == step && l.updated >= self.machine.started_at);
        Ok(line.with_context(|| format!("the step {step} was not made"))?.message.clone())
    }
}

/// Switches a machine on and waits until its cluster calls it ready, in a boot that is not `before`.
///
/// # Errors
/// When it does not arrive.
pub async fn start(
    plan: &Plan,
    world: &mut World,
    hardware: &Hardware,
    number: u32,
    before: Option<&str>,
    report: &Report,
) -> Result<Arrived> {
    let mut machine = Machine::switch_on(&world.root, hardware, &plan.run, number)?;
    let (member, took) = inside::wait_until_ready(plan, world, &mut machine, before, report).await?;
    let status = inside::settled_status(world).await?;
    report.line(format!("machine: ready after {:.1} s", took.as_secs_f64()));
    Ok(Arrived { machine, member, status })
}
