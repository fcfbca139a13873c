//! `paxos-sim replay`: prints the trace of one seed.

use indicatif::{ProgressBar, ProgressStyle};
use paxos_core::sim::{ModelDisk, Registers, Scenario, Simulation, shrunk};

/// Prints what a seed draws and what happens; returns whether no rule was broken.
pub(crate) fn run(seed: u64, nodes: Option<usize>) -> bool {
    let scenario = Scenario::drawn(seed, nodes);
    println!("seed {seed} draws {scenario}\n");
    let report = Simulation::<Registers, ModelDisk>::new(scenario.clone()).run();
    let scenario = match &report.violation {
        None => scenario,
        Some(violation) => {
            println!("breaks {violation}\n");
            let progress = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
            progress.set_message("looking for a smaller scenario that breaks the same rule");
            progress.enable_steady_tick(std::time::Duration::from_millis(100));
            let smaller = shrunk::<Registers, ModelDisk>(scenario, violation.rule);
            progress.finish_and_clear();
            println!("shrunk to {smaller}\n");
            smaller
        }
    };
    let report = Simulation::<Registers, ModelDisk>::new(scenario).traced().run();
    for line in &report.trace {
        println!("{line}");
    }
    match &report.violation {
        Some(violation) => println!("seed {seed} breaks {violation}"),
        None => println!("seed {seed}: {} events, {} slots, no violation", report.events, report.slots),
    }
    report.violation.is_none()
}
