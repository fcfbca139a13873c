//! Finds a bug in a state machine: it runs in simulated clusters that crash, over many seeds.
//! `cargo run --release -p paxos-node --features sim --example simulate -- --events 1M`, and then
//! `.. -- replay SEED --brief`. With `TICKETS=mended` the bug is not there.

mod tickets;

use std::process::ExitCode;

use paxos_core::sim::{ModelDisk, Program};
use paxos_node::sim::Simulated;
use tickets::Counter;

fn main() -> ExitCode {
    if std::env::var_os("TICKETS").is_some_and(|tickets| tickets == "mended") {
        Program::<Simulated<Counter<false>>, ModelDisk>::new().run()
    } else {
        Program::<Simulated<Counter<true>>, ModelDisk>::new().run()
    }
}
