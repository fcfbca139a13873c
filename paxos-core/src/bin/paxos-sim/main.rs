//! `paxos-sim`: runs the simulator of `paxos_core` over many seeds.
//!
//! Its last line tells the result; the exit code is 1 if a rule was broken or a mutant survived, 2 if it was called
//! wrongly.

mod mutants;
mod options;
mod replay;
mod suite;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Action, Options};

fn main() -> ExitCode {
    // A panic inside a run is a finding, and is reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options::parse();
    let is_good = match options.action {
        None => suite::run(&options.suite),
        Some(Action::Replay { seed, nodes }) => replay::run(seed, nodes),
        Some(Action::Mutants { seeds, only }) => mutants::run(seeds, only.as_deref()),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
