//! Basic Paxos and Multi-Paxos as deterministic state machines: no I/O, no clock, no threads, no dependency
//! but `bytes`.
//!
//! After Leslie Lamport, *Paxos Made Simple* (2001), whose words are used throughout. Two ways in:
//!
//! - [`basic`]: one instance, as in section 2 of the paper. Read it beside the paper.
//! - [`Replica`]: many instances, as in section 3. A leader runs phase 1 once for all of them, and from then
//!   on each value takes phase 2 alone.
//!
//! The files in `tests/transcripts` of the source show what three replicas send, write and apply, step by
//! step: begin with `01_election.txt`.
//!
//! # A replica in one page
//!
//! A [`Replica`] takes an [`Input`] and returns [`Output`]s. Its driver carries them out: it moves messages,
//! writes to disk and measures time. A promise or an acceptance leaves only after the [`Write`] that holds it
//! has come back as [`Durable`]. A driver implements [`Driver`], which has a method for each output.
//!
//! ```
//! use bytes::Bytes;
//! use paxos_core::{Config, Input, Membership, NodeId, Output, ProtocolSettings, Recovered, Replica};
//!
//! let config = Config::new(NodeId(1), Membership::new(&[NodeId(1)])?, ProtocolSettings::default())?;
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
//!             _ => {} // Alone in its cluster, and asked for nothing else, this replica needs no more.
//!         }
//!     }
//! }
//! assert_eq!(chosen[0], "x = 1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The [guide] has a driver for three replicas, with disks, crashes and messages between them.
//!
//! # Messages
//!
//! | message | from, to | meaning |
//! |---|---|---|
//! | [`Probe`](message::Probe) | would-be proposer, all | have you lost the leader, too? |
//! | [`Consent`](message::Consent) | acceptor, prober | yes (promises nothing) |
//! | [`Prepare`](message::Prepare) | proposer, all | phase 1a, for all slots from the first unchosen one on |
//! | [`Promise`](message::Promise) | acceptor, proposer | phase 1b, with everything accepted there, in bounded parts |
//! | [`Trimmed`](message::Trimmed) | any member, asker | I have these slots only in a snapshot |
//! | [`Accept`](message::Accept) | leader, all | phase 2a, with the chosen watermark |
//! | [`Accepted`](message::Accepted) | acceptor, leader | phase 2b, for a range of slots |
//! | [`Reject`](message::Reject) | acceptor, proposer | too late, a higher ballot is promised |
//! | [`Heartbeat`](message::Heartbeat) | leader, all | I lead, and this much is chosen |
//! | [`HeartbeatAck`](message::HeartbeatAck) | follower, leader | I have promised nothing above your ballot |
//! | [`Forward`](message::Forward) | follower, leader | commands to propose |
//! | [`TooLong`](message::TooLong) | leader, follower | these of your commands I will never take |
//! | [`ReadRequest`](message::ReadRequest), [`ReadGrant`](message::ReadGrant) | follower, leader and back | which slot must a read wait for? |
//! | [`Fetch`](message::Fetch), [`Chosen`](message::Chosen) | learner, any member and back | chosen values that were missed |
//! | [`FetchSnapshot`](message::FetchSnapshot), [`SnapshotChunk`](message::SnapshotChunk) | learner, any member and back | a snapshot, piece by piece |
//! | [`NewEpoch`](message::NewEpoch) | any node, a node that is behind | another membership is in force |
//! | [`TakeOver`](message::TakeOver), [`Decline`](message::Decline) | leader, its successor and back | lead in my place |
//!
//! # Glossary
//!
//! - **accept**, **accepted**: phase 2; an acceptor accepts a proposal unless it has promised a higher
//!   ballot.
//! - **acceptor**: remembers promises and accepted values; a quorum of them decides.
//! - **ballot**: the number of a proposal: a round and the node that proposes. Lamport's proposal number.
//! - **chosen**: accepted under one ballot by a quorum, which nothing can undo.
//! - **command**: what a client wants done; opaque bytes here.
//! - **epoch**: the number of a [membership](Membership), and the slots that are decided among its voters:
//!   those behind the membership's own slot, up to that of the next one.
//! - **format level**: what the log may hold, so that programs of neighbouring versions work together:
//!   [`FormatLevel`].
//! - **group**: one log and the replicas that agree on it; a cluster has one so far, [`GroupId::ONLY`].
//! - **handover**: the leader asks another voter to lead in its place.
//! - **leader**: the one proposer whose ballot a quorum has promised; the paper's distinguished proposer.
//! - **learner**: finds out what is chosen. Every replica is one; a member that is nothing else has no vote.
//! - **membership**: who is a member, who of them votes, and how many make a quorum; a value of the log.
//! - **no-op**: the value that does nothing; fills a hole left by a leader that failed.
//! - **prepare**, **promise**: phase 1; an acceptor that promises a ballot accepts no more proposals below
//!   it, and reports those that it has accepted.
//! - **proposer**: proposes values under its ballots.
//! - **quorum**: enough members for a phase; any quorum of phase 1 shares a member with any of phase 2.
//! - **slot**: one instance of the algorithm: a position in the log. Lamport's instance.
//! - **time**: the leader's, which it gives to commands when it proposes them; it never goes back.
//! - **value**: what a slot holds: a batch of commands, a membership, or a no-op.
//! - **voter**: a member that is an acceptor and counts in quorums.
//! - **watermark**: the slot up to which everything is chosen.
//! - **window**: how many slots may be proposed and not yet chosen.
//!
//! # Members come and go
//!
//! The [`Membership`] is a value of the log. [`Input::Change`] asks the leader for a [`Change`]; the leader
//! proposes the next membership behind all that is in flight, and nothing behind it until it is chosen. From
//! the next slot on its voters decide. The leader goes on under its ballot without a phase 1, as every
//! replica that enters the new epoch promises that ballot: the pause is one round trip. The source of the
//! module `replica::membership` has the argument why that is safe.
//!
//! # What is guaranteed, and by what
//!
//! No two replicas ever apply different values in a slot. That rests on P2c of the paper (a proposal carries
//! the value of the highest-numbered proposal that a quorum of promises reports; [`basic`] has the proof), on
//! promises and acceptances that are durable before any other node hears of them, and on ballots that are
//! never used twice. It does not rest on clocks, on the order of messages, or on their arrival; only progress
//! does. There is one exception, which a user must ask for: [`ReadMode::Lease`] trusts clocks to run at
//! nearly the same speed.
//!
//! What rests on clocks is the [time](Value::time) of values, and what a state machine makes of it:
//! [`Reading`] and [`Time`] say what a driver has to do for it. All replicas see the same time in the same
//! slot, whatever their clocks show.
//!
//! How this is tested: the feature `sim` adds the module `sim`, a deterministic simulation of whole clusters
//! under every fault that the above allows for, which checks each step by the rules of the paper, and the
//! program `paxos-sim` (a feature of that name), which runs it over many seeds. Your own state machines and
//! disks can run in it. `tests/basic_model.rs` checks every state of a small Basic Paxos, `tests/multi_model`
//! every state of three replicas within bounds.
//!
//! Deliberately absent: Byzantine faults (peers are authenticated and run this code).

pub mod basic;
mod clock;
mod config;
pub mod durable;
mod format_level;
#[cfg(feature = "frames")]
pub mod frames;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
mod id;
mod log;
mod membership;
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

pub use clock::{LeaderTime, Reading, Time};
pub use config::{AnnounceChosen, Config, ConfigError, PhaseOne, ProtocolSettings, ReadMode};
pub use durable::{Durable, Entry, HardState, RecoverError, Recovered, SnapshotMeta, Write, WriteNumber};
pub use format_level::FormatLevel;
pub use id::{Ballot, Epoch, GroupId, NodeId, Slot};
pub use membership::{
    Change, ChangeError, MAX_ADDRESS_BYTES, MAX_MEMBERS, MAX_REMOVED, MalformedMembership, Member,
    MemberRole, Membership,
};
pub use message::{Body, HeartbeatRound, Message, ReadId, Traffic};
pub use quorum::Quorums;
pub use replica::{
    ChangeRefusal, ChangeRequest, Driver, HandoverRefusal, Input, Output, Refusal, Replica, RequestId, Role,
    Standing, carry_out_all,
};
pub use value::{Commands, MalformedValue, Value, ValueKind};

// Runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
