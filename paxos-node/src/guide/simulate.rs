//! Run your state machine in the simulator, and find a bug with it.
//!
//! [`paxos-core`, with feature `sim`](https://docs.rs/paxos-core/latest/paxos_core/sim/), runs whole clusters
//! of real replicas on a network that loses, doubles, delays and reorders messages, on disks that lose what
//! was not synced, under clocks that differ, through crashes and partitions. Everything is drawn from a seed,
//! so a failure is repeated by its seed. The simulator shows the protocol to be right; with your own state
//! machine it shows that *yours* is deterministic, that its snapshots hold the whole state, and that what
//! clients saw makes sense.
//!
//! ```toml
//! [dev-dependencies]
//! paxos-core = { version = "0.1", features = ["paxos-sim"] }
//! paxos-node = { version = "0.1", default-features = false, features = ["kv", "sim"] }
//! ```
//!
//! # A state machine, and what its clients do
//!
//! The state machine is the one that you deploy: nothing is written twice. What a simulation needs beside it
//! is a [`Workload`](crate::sim::Workload): commands and queries for clients to ask, how a query is answered
//! from the state, and what must hold for all that clients have seen. This is `tickets.rs` of the example
//! `simulate`. It has a bug.
//!
//! ```ignore
#![doc = include_str!("../../examples/simulate/tickets.rs")]
//! ```
//!
//! A program that simulates it is one line. It has all subcommands of `paxos-sim`, which is the same program
//! over the simulator's own state machine:
//!
//! ```ignore
//! fn main() -> ExitCode {
//!     Program::<Simulated<Counter<true>>, ModelDisk>::new().run()
//! }
//! ```
//!
//! # The bug is found
//!
//! `cargo run --release -p paxos-node --features sim --example simulate -- --events 1M` runs seeds on all
//! cores until there were a million events, and names each seed that breaks a rule. Then
//! `.. -- replay 47 --brief` runs one of them (seeds are fresh in each run; 47 is one that fails), looks for
//! the smallest scenario that breaks the same rule, and tells what the state machine sees in it:
//!
//! ```text
#![doc = include_str!("simulate.txt")]
//! ```
//!
//! The rule is [`SameState`](paxos_core::sim::Rule::SameState): all nodes that have applied the same slots
//! have the same digest, and have given the same answers. The trace ends with the node that differs: node 6
//! has taken over a snapshot, and the next command gives ticket 1 there, but ticket 2 on node 2. So the
//! snapshot does not hold all of the state. `restore` takes the last ticket that waits for the last one that
//! was ever given; but that one may have been served.
//!
//! With `TICKETS=mended` before the command, snapshots hold the number too, and no seed breaks a rule.
//!
//! Without `--brief`, `replay` tells every message and write as well. How commands and answers look is up to
//! the workload: [`show`](crate::sim::Workload::show) prints their bytes by default.
//!
//! # What to check
//!
//! Even without a [`check`](crate::sim::Workload::check) of yours, these are found:
//!
//! - commands that depend on something outside of the log: a clock, a random number, the order of a hash map,
//!   what this node has seen before;
//! - a snapshot that forgets something, that is written from a state that has changed meanwhile, or that is
//!   restored into an old state and leaves some of it;
//! - a panic, on any command that the workload draws.
//!
//! A check says what clients may rely on: here that no ticket is given twice. For what is set and read,
//! [`check_register`](paxos_core::sim::check_register) tells whether a history is linearizable; draw commands
//! that write a number of their own, and answer the one before. `paxos-node/tests/simulation` of the source
//! does so with the key-value store that comes with this crate, and checks locks that expire and counters,
//! too.
//!
//! # As a test
//!
//! A [`Suite`](paxos_core::sim::Suite) is the same without a command line, and a
//! [`Simulation`](paxos_core::sim::Simulation) is a single seed:
//!
//! ```
//! # #[cfg(all(feature = "kv", feature = "sim"))] {
//! use paxos_core::Time;
//! use paxos_core::sim::{ModelDisk, Random, Simulation};
//! use paxos_node::kv::{Operation, Store};
//! use paxos_node::prelude::*;
//! use paxos_node::sim::{Simulated, Workload};
//!
//! /// Clients that count up.
//! struct Counting;
//!
//! impl Workload for Counting {
//!     type State = Store;
//!
//!     fn begin() -> Store {
//!         Store::default()
//!     }
//!     fn draw_command(_: u64, _: &mut Random) -> Bytes {
//!         Operation::command(&[Operation::add(Bytes::from_static(b"count"), 1)])
//!     }
//!     fn draw_query(_: &mut Random) -> Bytes {
//!         Bytes::from_static(b"count")
//!     }
//!     fn answer(store: &Store, key: &Bytes, _: Time) -> Option<Bytes> {
//!         Some(store.get(key).unwrap_or_default())
//!     }
//! }
//!
//! for seed in 1..=5 {
//!     let report = Simulation::<Simulated<Counting>, ModelDisk>::of_seed(seed).run();
//!     assert_eq!(report.violation, None, "seed {seed}");
//! }
//! # }
//! ```
//!
//! Keep each seed that has failed once: `Program::failed_before` and
//! [`Suite::failed_before`](paxos_core::sim::Suite::failed_before) take a list, and run it first.
//!
//! # Your own storage
//!
//! In place of [`ModelDisk`](paxos_core::sim::ModelDisk) stands any storage, by `paxos_storage::sim` with
//! that crate's feature `sim`: `Program::<Simulated<Counter<true>>, StorageDisk<YourMedium>>`.
