//! `paxos-sim`: runs the simulator of `paxos_core` over many seeds.
//!
//! Its last line is the result. The exit code is 1 if a rule was broken or a mutant survived, 2 if it was
//! called wrongly.

mod arguments;
mod mutants;
mod replay;
mod suite;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Action, Arguments};

fn main() -> ExitCode {
    // A panic inside a run is a finding, and is reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments = Arguments::parse();
    let is_good = match arguments.action {
        None => suite::run(&arguments.suite),
        Some(Action::Replay { seed, nodes }) => replay::run(seed, nodes),
        Some(Action::Mutants { seeds, only }) => mutants::run(seeds, only.as_deref()),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
