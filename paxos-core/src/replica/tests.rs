//! Tests of the replica. Most files are named after the file that they test, and drive a single replica by
//! hand. `cluster` runs several replicas on a simulated network and disks: in short runs (`scripts`) and
//! under random faults (`storms`). `edges` tests limits, `hostile` messages that no correct peer sends.

#![expect(
    clippy::cast_possible_truncation,
    clippy::needless_pass_by_value,
    reason = "numbers are small here, and a test double takes what a real one would"
)]

mod candidacy;
mod cluster;
mod edges;
mod epochs;
mod handover;
mod hostile;
mod leader;
mod learner;
mod membership;
mod reads;
mod repair;
mod scripts;
mod snapshot;
mod storms;
mod takeover;
