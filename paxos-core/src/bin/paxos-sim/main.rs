//! `paxos-sim`: the program of `paxos_core::sim`, over the simulator's own state machine and disks.

use std::process::ExitCode;

use paxos_core::sim::{ModelDisk, Program, Registers};

/// Seeds that have broken a rule once; every run begins with them.
const FAILED_BEFORE: &str = include_str!("failed_seeds.txt");

fn main() -> ExitCode {
    Program::<Registers, ModelDisk>::new().failed_before(FAILED_BEFORE).run()
}
