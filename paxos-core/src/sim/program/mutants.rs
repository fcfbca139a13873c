//! The subcommand `mutants`: switches known bugs on, and checks that the simulator finds each of them.

use indicatif::{ProgressBar, ProgressStyle};

use crate::sim::disk::Disk;
use crate::sim::hunt::{Hunted, MutantHunt};
use crate::sim::machine::Machine;

/// Runs each mutant over seeds from 1 on until a rule is broken; returns whether all were found.
pub(super) fn run<M: Machine, D: Disk>(seeds: u64, only: Option<&str>) -> bool {
    let hunt = MutantHunt::<M, D>::of_all().only(only.unwrap_or_default()).seeds(seeds);
    let progress = ProgressBar::new(hunt.count() as u64);
    let style = "{elapsed_precise} {wide_bar} {pos} of {len} mutants, {msg}";
    progress.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    let all = hunt.run(|round| {
        progress.set_message(format!("seeds up to {}", round.last_seed));
        progress.set_position(round.killed as u64);
    });
    progress.finish_and_clear();
    println!("{:<32} {:>6} {:>10}  {:<18} what it does", "mutant", "runs", "events", "found by");
    for Hunted { mutant, runs, events, kill } in &all {
        let found = kill.as_ref().map_or_else(
            || format!("{:>6} {:>10}  {:<18}", "-", "-", "SURVIVES"),
            |kill| format!("{runs:>6} {events:>10}  {:<18}", format!("{:?}", kill.rule)),
        );
        println!("{:<32} {found} {}", mutant.name(), mutant.what());
    }
    let killed = all.iter().filter(|hunted| hunted.kill.is_some()).count();
    println!("{killed} of {} killed", all.len());
    killed == all.len()
}
