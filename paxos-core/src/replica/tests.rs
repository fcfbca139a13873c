//! A cluster of replicas on a simulated network and disk, golden scripts named as sentences, and a random run.

#![expect(
    clippy::cast_possible_truncation,
    clippy::needless_pass_by_value,
    reason = "numbers are small here, and a test double takes what a real one would"
)]

mod cluster;
mod edges;
mod hostile;
mod leading;
mod learning;
mod reading;
mod repairs;
mod scripts;
mod storms;
mod takeover;
mod times;
mod transfers;
