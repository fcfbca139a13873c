//! The subcommand `replay`: prints the trace of one seed.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::sim::disk::Disk;
use crate::sim::machine::Machine;
use crate::sim::replay::{Retold, replay};

/// How often a picture of the search for a smaller scenario moves on.
const SPIN: Duration = Duration::from_millis(100);

/// Prints what a seed draws and what happens; returns whether no rule was broken.
pub(super) fn run<M: Machine, D: Disk>(seed: u64, nodes: Option<usize>, is_brief: bool) -> bool {
    let mut search: Option<ProgressBar> = None;
    replay::<M, D>(seed, nodes, is_brief, |told| {
        if let Some(search) = search.take() {
            search.finish_and_clear();
        }
        println!("{told}");
        if matches!(told, Retold::Broken(_)) {
            let progress = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
            progress.set_message("looking for a smaller scenario that breaks the same rule");
            progress.enable_steady_tick(SPIN);
            search = Some(progress);
        }
    })
}
