//! The subcommand `replay`: prints the trace of one seed.

use indicatif::{ProgressBar, ProgressStyle};

use crate::sim::disk::Disk;
use crate::sim::machine::Machine;
use crate::sim::{Scenario, Simulation, shrunk};

/// Prints what a seed draws and what happens; returns whether no rule was broken.
pub(super) fn run<M: Machine, D: Disk>(seed: u64, nodes: Option<usize>, is_brief: bool) -> bool {
    let scenario = Scenario::drawn(seed, nodes);
    if !is_brief {
        println!("seed {seed} draws {scenario}\n");
    }
    let report = Simulation::<M, D>::new(scenario.clone()).run();
    let scenario = match &report.violation {
        None => scenario,
        Some(violation) => {
            println!("breaks {violation}\n");
            let progress = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
            progress.set_message("looking for a smaller scenario that breaks the same rule");
            progress.enable_steady_tick(std::time::Duration::from_millis(100));
            let smaller = shrunk::<M, D>(scenario, violation.rule);
            progress.finish_and_clear();
            println!("shrunk to {smaller}\n");
            smaller
        }
    };
    let simulation = Simulation::<M, D>::new(scenario);
    let simulation = if is_brief { simulation.traced_briefly() } else { simulation.traced() };
    let report = simulation.run();
    for line in &report.trace {
        println!("{line}");
    }
    match &report.violation {
        Some(violation) => println!("seed {seed} breaks {violation}"),
        None => println!("seed {seed}: {} events, {} slots, no violation", report.events, report.slots),
    }
    report.violation.is_none()
}
