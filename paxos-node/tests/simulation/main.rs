//! The key-value store in the simulator of `paxos_core`, as a node runs it; stores with a mistake, which it
//! must find; and the example of the guide.
//!
//! `PAXOS_SEEDS=1..=5000 cargo test --release -p paxos-node --features sim --test simulation` runs more
//! seeds.

mod check;
mod guide;
mod mistakes;
mod workload;

use std::ops::RangeInclusive;

use paxos_core::sim::{Mark, Marks, ModelDisk, Simulation, Violation};
use paxos_node::sim::{Simulated, Workload};
use workload::OfStore;

/// How many seeds are run, if no others are given.
const SEEDS: RangeInclusive<u64> = 1..=300;
/// These must be met by them.
const MET: [Mark; 5] = [
    Mark::CommandRepeated,
    Mark::CrashWithUnsyncedWrites,
    Mark::ReadAheadOfLog,
    Mark::SnapshotInstalled,
    Mark::WallClockJumped,
];

fn seeds() -> RangeInclusive<u64> {
    let given = std::env::var("PAXOS_SEEDS").ok();
    let bounds = given.as_deref().and_then(|given| given.split_once("..="));
    let parsed = bounds.and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    parsed.unwrap_or(SEEDS)
}

fn run<W: Workload>(seed: u64, marks: &mut Marks) -> Option<Violation> {
    let report = Simulation::<Simulated<W>, ModelDisk>::of_seed(seed).run();
    marks.add(&report.marks);
    report.violation
}

#[test]
fn the_store_keeps_every_rule() {
    let mut marks = Marks::default();
    for seed in seeds() {
        assert_eq!(
            run::<OfStore>(seed, &mut marks),
            None,
            "PAXOS_SEEDS={seed}..={seed} cargo test -p paxos-node --features sim --test simulation"
        );
    }
    for mark in MET {
        let is_met = marks.count(mark) > 0 || std::env::var_os("PAXOS_SEEDS").is_some();
        assert!(is_met, "no seed has met {mark:?}");
    }
}
