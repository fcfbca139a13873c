//! Run your state machine in the simulator.
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
//! paxos-core = { version = "0.1", features = ["sim"] }
//! ```
//!
//! Implement `Machine` by calling the functions that your
//! [`StateMachine`](crate::StateMachine) calls too. The simulator draws commands and queries from it:
//!
//! ```
//! use bytes::Bytes;
//! use paxos_core::Time;
//! use paxos_core::sim::{Machine, ModelDisk, Operation, Random, Simulation};
//!
//! /// The sum of all numbers that were ever proposed.
//! #[derive(Default)]
//! struct Sum(u64);
//!
//! impl Sum {
//!     // What StateMachine::apply calls as well.
//!     fn add(&mut self, number: u64) -> u64 {
//!         self.0 = self.0.wrapping_add(number);
//!         self.0
//!     }
//! }
//!
//! impl Machine for Sum {
//!     fn draw_command(_: u64, random: &mut Random) -> Bytes {
//!         Bytes::copy_from_slice(&random.below(10).to_le_bytes())
//!     }
//!     fn draw_query(_: &mut Random) -> Bytes {
//!         Bytes::new()
//!     }
//!     fn apply(&mut self, command: &[u8], _: Time) -> Bytes {
//!         let number = command.try_into().map_or(0, u64::from_le_bytes);
//!         Bytes::copy_from_slice(&self.add(number).to_le_bytes())
//!     }
//!     fn query(&self, _: &[u8], _: Time) -> Option<Bytes> {
//!         Some(self.snapshot())
//!     }
//!     fn digest(&self) -> u64 {
//!         self.0
//!     }
//!     fn snapshot(&self) -> Bytes {
//!         Bytes::copy_from_slice(&self.0.to_le_bytes())
//!     }
//!     fn restore(snapshot: &[u8]) -> Self {
//!         Sum(snapshot.try_into().map_or(0, u64::from_le_bytes))
//!     }
//!     /// After a run: `history` is what the clients did and saw, one client after the other.
//!     ///
//!     /// Here sums only grow. So whoever asks after an answer was given must not see a smaller sum.
//!     fn check(history: &[Operation]) -> Result<(), String> {
//!         let sum = |reply: &Bytes| reply[..].try_into().map_or(0, u64::from_le_bytes);
//!         let answered = history.iter().filter_map(|operation| operation.answered.as_ref());
//!         let mut answers: Vec<(u64, u64)> =
//!             answered.map(|(at_units, reply)| (*at_units, sum(reply))).collect();
//!         answers.sort_unstable();
//!         let mut operations: Vec<&Operation> = history.iter().collect();
//!         operations.sort_unstable_by_key(|operation| operation.invoked_units);
//!
//!         let (mut earlier, mut least) = (answers.into_iter().peekable(), 0);
//!         for operation in operations {
//!             while let Some((_, seen)) = earlier.next_if(|answer| answer.0 < operation.invoked_units) {
//!                 least = least.max(seen);
//!             }
//!             if let Some((at_units, reply)) = &operation.answered
//!                 && sum(reply) < least
//!             {
//!                 let seen = sum(reply);
//!                 return Err(format!("{seen} is answered at {at_units}, but {least} was seen before"));
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # let operation = |invoked_units, at_units, sum: u64| Operation {
//! #     invoked_units,
//! #     answered: Some((at_units, Bytes::copy_from_slice(&sum.to_le_bytes()))),
//! #     action: paxos_core::sim::Action::Query(Bytes::new()),
//! # };
//! # assert_eq!(Sum::check(&[operation(5, 9, 3), operation(1, 6, 4)]), Ok(()), "they overlap");
//! # assert!(Sum::check(&[operation(7, 9, 3), operation(1, 6, 4)]).is_err(), "a stale read");
//! for seed in 1..=20 {
//!     let report = Simulation::<Sum, ModelDisk>::of_seed(seed).run();
//!     assert_eq!(report.violation, None, "seed {seed}");
//! }
//! ```
//!
//! When a seed fails, run it again with `Simulation::traced` and read
//! the trace in the `Report`; `shrunk` looks for a
//! smaller scenario that fails in the same way. Keep the seed as a test of its own.
//!
//! To run a storage of your own as well, implement `Disk` for it and name it in
//! place of `ModelDisk`.
