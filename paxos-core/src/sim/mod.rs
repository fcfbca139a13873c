//! A deterministic simulation of whole clusters, to find out what breaks them.
//!
//! One seed is one run: a cluster of real [`Replica`](crate::Replica)s with clients, on a network that loses,
//! doubles, delays and overtakes messages, on disks that are slow, lose what was not synced, or lie, under
//! clocks that do not agree. First there is chaos, then calm, in which all remaining nodes must come to
//! agree. Everything is drawn from the seed, so the same seed gives exactly the same run.
//!
//! An observer sees every disk, message, applied slot and answer, and checks each step by the rules of *Paxos
//! Made Simple*; see [`Rule`]. It trusts only the contents of disks, and no claim of a replica.
//!
//! ```
//! use bytes::Bytes;
//! use paxos_core::{Slot, Time};
//! use paxos_core::sim::{Machine, ModelDisk, Random, Simulation};
//!
//! /// Adds up bytes.
//! #[derive(Default)]
//! struct Sum(u64);
//!
//! impl Machine for Sum {
//!     fn draw_command(_number: u64, random: &mut Random) -> Bytes {
//!         Bytes::copy_from_slice(&[random.below(10) as u8])
//!     }
//!     fn draw_query(_random: &mut Random) -> Bytes {
//!         Bytes::new()
//!     }
//!     fn apply(&mut self, _slot: Slot, _time: Time, command: &Bytes) -> Bytes {
//!         self.0 += u64::from(command[0]);
//!         self.snapshot()
//!     }
//!     fn query(&self, _query: &Bytes, _time: Time) -> Option<Bytes> {
//!         Some(self.snapshot())
//!     }
//!     fn digest(&self) -> u64 {
//!         self.0
//!     }
//!     fn snapshot(&self) -> Bytes {
//!         Bytes::copy_from_slice(&self.0.to_le_bytes())
//!     }
//!     fn restore(&mut self, snapshot: &[u8]) {
//!         self.0 = u64::from_le_bytes(snapshot.try_into().expect("a snapshot is a sum"));
//!     }
//! }
//!
//! for seed in 1..=3 {
//!     let report = Simulation::<Sum, ModelDisk>::of_seed(seed).run();
//!     assert_eq!(report.violation, None, "seed {seed}");
//! }
//! ```
//!
//! In one of eight seeds every message goes through its real encoding, and through the real writer and reader
//! of frames over streams that are cut at random; what arrives is compared with what was sent.
//!
//! Each node has a monotonic clock that is a little wrong and a wall clock that may jump, from which time
//! gets into the log. Something expires all the time, and nothing may do so early or be seen after that.
//!
//! A [`Simulation`] is one seed; a [`Suite`] runs many on all cores, and a [`MutantHunt`] finds out whether
//! known bugs of the protocol would be noticed. `Program`, with the feature `paxos-sim`, is all of that as a
//! `main` of one line. A [`Machine`] and a [`Disk`] of your own take the places of [`Registers`] and
//! [`ModelDisk`]; `paxos-node` and `paxos-storage`, each with its feature `sim`, make them of any state
//! machine and storage that a node runs with.
//!
//! Deliberately absent: torn and rotten bytes on a disk. They depend on the disk's format; a storage brings
//! its own [`Disk`] for that. A disk that lies or is lost breaks an assumption of Paxos, so there are always
//! enough others for a quorum, and the nodes of such disks do not come back.
//!
//! In every second seed operators change the membership meanwhile, add nodes with empty disks, and hand
//! leadership over. What they ask for leaves a quorum of nodes that are not lost.

#![expect(clippy::cast_possible_truncation, reason = "what is drawn and counted here is small")]

mod arrivals;
mod client;
mod clocks;
mod disk;
mod ending;
mod event;
mod fetches;
mod history;
mod hunt;
mod locks;
mod machine;
mod marks;
mod network;
mod node;
mod observer;
mod operators;
mod outputs;
#[cfg(feature = "paxos-sim")]
mod program;
mod relevance;
mod replay;
mod rule;
mod scenario;
mod schedule;
mod shrink;
mod streams;
mod suite;
mod trace;
mod trouble;
mod world;

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use self::disk::{Disk, ModelDisk};
pub use self::history::{Access, Action, Operation, check_register};
pub use self::hunt::{HuntProgress, Hunted, Kill, MutantHunt};
pub use self::machine::{BegunSnapshot, Machine, Registers};
pub use self::marks::{Mark, Marks};
#[cfg(feature = "paxos-sim")]
pub use self::program::Program;
pub use self::replay::{Retold, replay};
pub use self::rule::{Rule, Violation};
pub use self::scenario::{Fault, Scenario, TICK_UNITS, Weather};
pub use self::shrink::shrunk;
pub use self::suite::{Findings, MalformedSeeds, Suite, seeds_of};
pub use self::world::Report;
pub use crate::mutant::Mutant;
pub use crate::random::Random;

use self::trace::Detail;
use self::world::World;

/// A run that has not begun, over state machine `M` and disks `D`.
#[derive(Debug)]
pub struct Simulation<M, D> {
    scenario: Scenario,
    detail: Option<Detail>,
    of: PhantomData<fn() -> (M, D)>,
}

impl<M: Machine, D: Disk> Simulation<M, D> {
    /// The run of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Simulation::new(Scenario::drawn(seed, None))
    }

    /// The run of a scenario.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        Simulation { scenario, detail: None, of: PhantomData }
    }

    /// Keeps a trace of the run: all that nodes send, receive, store and apply.
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.detail = Some(Detail::Everything);
        self
    }

    /// Keeps a brief trace of the run: what its clients ask for and are answered, what is applied, and which
    /// snapshots are taken and restored, as the [`Machine`] shows it; and what befalls the nodes meanwhile.
    #[must_use]
    pub fn traced_briefly(mut self) -> Self {
        self.detail = Some(Detail::Machine);
        self
    }

    /// Runs it. A panic inside counts as a violation of [`Rule::Assertion`].
    #[must_use]
    pub fn run(self) -> Report {
        let mut world = World::<M, D>::new(self.scenario, self.detail);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let what = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned();
            world.observer.check(false, Rule::Assertion, || what);
        }
        world.into_report()
    }
}
