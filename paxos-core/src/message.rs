//! What replicas say to each other.
//!
//! A message may be lost, doubled, delayed and overtaken; none relies on any other to arrive first. The table
//! on the [crate's front page](crate) tells who sends which to whom and what for.

use bytes::Bytes;

use crate::durable::{Entry, SnapshotMeta};
use crate::id::{Ballot, Epoch, Slot};
use crate::value::Value;

/// Names a read (or a group of reads that share one) on the node where it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

/// Counts the heartbeats of one replica, so that an answer tells which of them it answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct HeartbeatRound(pub u64);

/// A message between two members of a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The configuration in which the sender counts quorums.
    pub epoch: Epoch,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// "Would you promise `ballot`?", asked before any ballot is used, so that a node that alone has lost the
    /// leader does not depose it.
    Probe {
        /// A ballot that the sender might use.
        ballot: Ballot,
    },
    /// "I have lost the leader too." Promises nothing.
    Consent {
        /// The ballot of the probe.
        ballot: Ballot,
        /// What the sender has promised already: the prepare must go above it.
        promised: Ballot,
    },
    /// Phase 1a, for all slots from `first` to infinity.
    Prepare {
        /// The proposer's ballot.
        ballot: Ballot,
        /// The first slot it wants a report of: its first unchosen one, or where the last promise broke off.
        first: Slot,
    },
    /// Phase 1b: no proposal below `ballot` will be accepted here any more, in any slot. Reports every slot of
    /// `first..` (before `rest`, if that is given) in which a value has been accepted or is known to be chosen.
    Promise {
        /// The promised ballot.
        ballot: Ballot,
        /// Where the report begins: as the prepare asked.
        first: Slot,
        /// The accepted and chosen values, in ascending order of slots.
        reports: Vec<(Slot, Entry)>,
        /// The report goes on from this slot in an answer to the next prepare.
        rest: Option<Slot>,
    },
    /// Answers a prepare or a fetch: slots before `below` exist here only in a snapshot; fetch that first.
    Trimmed {
        /// The first slot still in the log.
        below: Slot,
    },
    /// Phase 2a.
    Accept {
        /// The proposer's ballot.
        ballot: Ballot,
        /// The slot of the proposal.
        slot: Slot,
        /// Its value.
        value: Value,
        /// Every slot up to here is chosen.
        chosen: Slot,
    },
    /// Phase 2b, for all slots in `first..=last`: accepted under `ballot`, or already known to be chosen.
    Accepted {
        /// The ballot of the accepts.
        ballot: Ballot,
        /// The first accepted slot.
        first: Slot,
        /// The last accepted slot.
        last: Slot,
    },
    /// A prepare, accept or heartbeat under `ballot` came too late.
    Reject {
        /// The ballot that is refused.
        ballot: Ballot,
        /// The higher ballot that stands in its way.
        promised: Ballot,
    },
    /// "I lead, under `ballot`."
    Heartbeat {
        /// The leader's ballot.
        ballot: Ballot,
        /// Every slot up to here is chosen.
        chosen: Slot,
        /// Which of the leader's heartbeats this is.
        round: HeartbeatRound,
    },
    /// "When your heartbeat came I had promised nothing above `ballot`."
    HeartbeatAck {
        /// The ballot of the heartbeat.
        ballot: Ballot,
        /// The round of the heartbeat.
        round: HeartbeatRound,
    },
    /// Commands for the leader to propose. Not answered: the sender sees them applied, or sends them again.
    Forward {
        /// The commands.
        commands: Vec<Bytes>,
    },
    /// Asks the leader up to which slot a linearizable read must wait.
    ReadRequest {
        /// The sender's name for the read.
        read: ReadId,
    },
    /// "At some moment after you asked I was the leader, and nothing beyond `slot` had been chosen."
    ReadGrant {
        /// The name of the read.
        read: ReadId,
        /// What the reader must have applied before it looks.
        slot: Slot,
        /// The leader's ballot.
        ballot: Ballot,
        /// Every slot up to here is chosen.
        chosen: Slot,
    },
    /// Asks for chosen values.
    Fetch {
        /// The first slot wanted.
        first: Slot,
    },
    /// Chosen values of the slots from `first` on, without gaps.
    Chosen {
        /// The slot of the first value.
        first: Slot,
        /// The values.
        values: Vec<Value>,
        /// Every slot up to here is chosen.
        chosen: Slot,
    },
    /// Asks for a piece of a snapshot.
    FetchSnapshot {
        /// The slot of the snapshot; [`Slot::ZERO`] for the newest.
        slot: Slot,
        /// Where the piece begins.
        offset: u64,
    },
    /// A piece of a snapshot.
    SnapshotChunk {
        /// Which snapshot.
        meta: SnapshotMeta,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        data: Bytes,
    },
}
