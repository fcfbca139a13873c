//! Basic Paxos and Multi-Paxos as deterministic state machines: no I/O, no clock, no threads, no dependency but
//! `bytes`.
//!
//! After Leslie Lamport, *Paxos Made Simple* (2001), whose words are used throughout. Two ways in:
//!
//! - [`basic`]: one instance, as in section 2 of the paper. Read it beside the paper.
//! - [`Replica`]: many instances, as in section 3. A leader runs phase 1 once for all of them, and from then on
//!   each value takes phase 2 alone.
//!
//! # A replica in one page
//!
//! A [`Replica`] takes an [`Input`] and says what follows as [`Output`]s; somebody else moves messages, writes
//! to disk and tells the time. Whatever rests on stable storage leaves only after its [`Write`] has come back as
//! [`Durable`].
//!
//! ```
//! use bytes::Bytes;
//! use paxos_core::{Config, Input, NodeId, Options, Output, Recovered, Replica};
//!
//! let config = Config::new(NodeId(1), &[NodeId(1)], Options::default())?;
//! let mut replica = Replica::new(config, Recovered::default(), 7)?;
//! let (mut inputs, mut chosen) = (Vec::new(), Vec::new());
//! while chosen.is_empty() {
//!     // The driver: a tick when nothing else is to be done, and the command as soon as there is a leader.
//!     let input = inputs.pop().unwrap_or(Input::Tick);
//!     let mut outputs = Vec::new();
//!     replica.step(input, &mut outputs);
//!     if replica.leader().is_some() && replica.known_chosen().0 == 0 && inputs.is_empty() {
//!         inputs.push(Input::Propose { commands: vec![Bytes::from_static(b"x = 1")] });
//!     }
//!     for output in outputs {
//!         match output {
//!             Output::Persist(write) => inputs.push(Input::Durable(write.into_durable())),
//!             Output::Apply { value, .. } => chosen.extend(value.commands()),
//!             _ => {} // Alone in its cluster, this replica sends nothing.
//!         }
//!     }
//! }
//! assert_eq!(chosen[0], "x = 1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Messages
//!
//! | message | from, to | says |
//! |---|---|---|
//! | [`Probe`](Body::Probe) | would-be proposer, all | have you lost the leader too? |
//! | [`Consent`](Body::Consent) | acceptor, prober | yes (promises nothing) |
//! | [`Prepare`](Body::Prepare) | proposer, all | phase 1a, for all slots from the first unchosen one on |
//! | [`Promise`](Body::Promise) | acceptor, proposer | phase 1b, with everything accepted there, in bounded parts |
//! | [`Trimmed`](Body::Trimmed) | anyone, asker | what you ask for is only in a snapshot |
//! | [`Accept`](Body::Accept) | leader, all | phase 2a, with the chosen watermark |
//! | [`Accepted`](Body::Accepted) | acceptor, leader | phase 2b, for a range of slots |
//! | [`Reject`](Body::Reject) | acceptor, proposer | too late, a higher ballot is promised |
//! | [`Heartbeat`](Body::Heartbeat) | leader, all | I lead, and this much is chosen |
//! | [`HeartbeatAck`](Body::HeartbeatAck) | follower, leader | you still do, for all I know |
//! | [`Forward`](Body::Forward) | follower, leader | commands to propose |
//! | [`ReadRequest`](Body::ReadRequest), [`ReadGrant`](Body::ReadGrant) | follower, leader and back | up to where must a read wait? |
//! | [`Fetch`](Body::Fetch), [`Chosen`](Body::Chosen) | learner, anyone and back | chosen values that were missed |
//! | [`FetchSnapshot`](Body::FetchSnapshot), [`SnapshotChunk`](Body::SnapshotChunk) | learner, anyone and back | a snapshot, piece by piece |
//!
//! # Glossary
//!
//! - **accept**, **accepted**: phase 2; an acceptor accepts a proposal unless it has promised a higher ballot.
//! - **acceptor**: remembers promises and accepted values; a quorum of them decides.
//! - **ballot**: the number of a proposal: a round and the node that proposes. Lamport's proposal number.
//! - **chosen**: accepted under one ballot by a quorum, which nothing can undo.
//! - **command**: what a client wants done; opaque bytes here.
//! - **epoch**: the number of a configuration, that is, of a set of members.
//! - **leader**: the one proposer whose ballot a quorum has promised; the paper's distinguished proposer.
//! - **learner**: finds out what is chosen.
//! - **no-op**: the value that does nothing; fills a hole left by a leader that failed.
//! - **prepare**, **promise**: phase 1; a promise takes no more proposals below a ballot, and reports those taken.
//! - **proposer**: brings values forward under its ballots.
//! - **quorum**: enough members for a phase; any quorum of phase 1 shares a member with any of phase 2.
//! - **slot**: one instance of the algorithm: a position in the log. Lamport's instance.
//! - **value**: what a slot holds: a batch of commands, or a no-op.
//! - **watermark**: the slot up to which everything is chosen.
//! - **window**: how many slots may be proposed and not yet chosen.
//!
//! # What is guaranteed, and by what
//!
//! No two replicas ever apply different values in a slot. That rests on P2c of the paper (a proposal carries the
//! value of the highest-numbered proposal that a quorum of promises reports; [`basic`] tells the proof), on
//! promises and acceptances that are durable before anyone hears of them, and on ballots that are never used twice.
//! It does not rest on clocks, on order of messages, or on any of them arriving; progress does. The one exception
//! is chosen by name: [`ReadMode::Lease`] trusts clocks to run at nearly the same speed.
//!
//! Why that should be believed: the feature `sim` brings the module `sim`, a deterministic simulation of whole clusters
//! under every fault that the above allows for, which judges each step by the rules of the paper, and the program
//! `paxos-sim`, which runs it over as many seeds as there is time for. State machines and disks of one's own can run in
//! it. `tests/basic_model.rs` looks at every state of a small Basic Paxos, `tests/multi_model` at every state of three
//! replicas within bounds.
//!
//! Deliberately absent: Byzantine faults (peers are authenticated and run this code), and changes of membership.

pub mod basic;
mod config;
pub mod durable;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod log;
pub mod message;
mod mutant;
mod quorum;
mod random;
mod replica;
pub mod session;
#[cfg(feature = "sim")]
pub mod sim;
pub mod value;
#[cfg(feature = "wire")]
pub mod wire;

pub use config::{Config, ConfigError, Options, PhaseOne, ReadMode, Watermark};
pub use durable::{Durable, Entry, HardState, RecoverError, Recovered, SnapshotMeta, Write, WriteNumber};
pub use id::{Ballot, Epoch, NodeId, Slot};
pub use message::{Body, HeartbeatRound, Message, ReadId};
pub use quorum::{MAX_MEMBERS, Quorums};
pub use replica::{Input, Output, Refusal, Replica, Role};
pub use value::{Commands, MalformedValue, Value};
