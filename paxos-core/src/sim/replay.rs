//! One seed, told: what it draws, and if it breaks a rule, the trace of a smaller scenario that does so, too.

use std::fmt;

use super::Simulation;
use super::disk::Disk;
use super::machine::Machine;
use super::rule::Violation;
use super::scenario::Scenario;
use super::shrink::shrunk;
use super::world::Report;

/// What [`replay`] tells, in this order. Its text is that of `paxos-sim replay`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Retold<'a> {
    /// The seed draws this scenario. Not told briefly.
    Drawn(&'a Scenario),
    /// It breaks a rule; now a smaller one is looked for, which may take minutes.
    Broken(&'a Violation),
    /// This is the smallest one that breaks the same rule.
    Shrunk(&'a Scenario),
    /// The same, told briefly.
    ShrunkBriefly(&'a Scenario),
    /// A line of the trace.
    Line(&'a str),
    /// The end of the run of a seed.
    Over(u64, &'a Report),
}

/// Runs a seed, shrinks its scenario if it breaks a rule, and tells the trace of that: the
/// [brief](Simulation::traced_briefly) one, or everything. `nodes` fixes the size of the cluster. Returns
/// whether no rule was broken.
pub fn replay<M: Machine, D: Disk>(
    seed: u64,
    nodes: Option<usize>,
    is_brief: bool,
    mut tell: impl FnMut(Retold<'_>),
) -> bool {
    let mut scenario = Scenario::drawn(seed, nodes);
    if !is_brief {
        tell(Retold::Drawn(&scenario));
    }
    if let Some(violation) = Simulation::<M, D>::new(scenario.clone()).run().violation {
        tell(Retold::Broken(&violation));
        scenario = shrunk::<M, D>(scenario, violation.rule);
        tell(if is_brief { Retold::ShrunkBriefly(&scenario) } else { Retold::Shrunk(&scenario) });
    }
    let simulation = Simulation::<M, D>::new(scenario);
    let simulation = if is_brief { simulation.traced_briefly() } else { simulation.traced() };
    let report = simulation.run();
    for line in &report.trace {
        tell(Retold::Line(line));
    }
    tell(Retold::Over(seed, &report));
    report.violation.is_none()
}

impl fmt::Display for Retold<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Retold::Drawn(scenario) => writeln!(formatter, "seed {} draws {scenario}", scenario.seed),
            Retold::Broken(violation) => writeln!(formatter, "breaks {violation}"),
            Retold::Shrunk(scenario) => writeln!(formatter, "shrunk to {scenario}"),
            Retold::ShrunkBriefly(scenario) => writeln!(formatter, "shrunk to {}", scenario.in_short()),
            Retold::Line(line) => formatter.write_str(line),
            Retold::Over(seed, report) => {
                let Report { events, slots, violation, .. } = report;
                if let Some(violation) = violation {
                    return write!(formatter, "seed {seed}, shrunk to this, breaks {violation}");
                }
                write!(formatter, "seed {seed}: {events} events, {slots} slots, no violation")
            }
        }
    }
}
