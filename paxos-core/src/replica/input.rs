//! The inputs that a replica takes, and the outputs that its driver carries out.

use bytes::Bytes;

use super::{ChangeRefusal, ChangeRequest, HandoverRefusal, RequestId};
use crate::clock::Time;
use crate::durable::{Durable, SnapshotMeta, Write};
use crate::id::{Epoch, NodeId, Slot};
use crate::membership::Membership;
use crate::message::{Message, ReadId};
use crate::value::Value;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// Some time has passed; the driver decides how much, the same on all members.
    ///
    /// After a pause (of the process, of the machine) feed all ticks that were missed before anything else:
    /// a lease must not outlive the time it stands for.
    Tick,
    /// A message came from a peer. The transport must have authenticated the sender.
    Receive {
        /// The sender.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// Have these commands chosen, if possible next to each other. A replica that does not lead forwards them
    /// to the leader.
    ///
    /// They may get lost on the way: propose those again, under a [session](crate::session), that were not
    /// applied in time.
    Propose {
        /// The commands.
        commands: Vec<Bytes>,
    },
    /// Tell when the state is recent enough for a read that starts now.
    Read {
        /// The driver's name for the read, or for a group of reads that came together.
        read: ReadId,
    },
    /// Change the membership, if this replica leads. Ends with [`Output::ChangeInForce`] or
    /// [`Output::ChangeRefused`].
    Change(ChangeRequest),
    /// Hand leadership over, if this replica leads. Ends with [`Output::HandedOver`] or
    /// [`Output::HandoverRefused`].
    HandOver {
        /// The driver's name for the request.
        request: RequestId,
        /// The successor. If none is named, the voter with the highest priority, and of several the one that
        /// knows most of what is chosen.
        to: Option<NodeId>,
    },
    /// A write is in stable storage. The driver gives these in the order of the writes, without gaps.
    Durable(Durable),
    /// Whether to ask for no more chosen values for now, as very many wait to be applied. Those already asked
    /// for may still come: as many as
    /// [`catch_up_window_bytes`](crate::ProtocolSettings::catch_up_window_bytes) holds.
    PauseFetching {
        /// Not paused at first.
        is_paused: bool,
    },
    /// A snapshot that this node took of its own state is in stable storage.
    SnapshotSaved {
        /// The snapshot.
        meta: SnapshotMeta,
    },
    /// What [`Output::LoadSnapshot`] asked for.
    SnapshotLoaded {
        /// The peer that asks for it.
        to: NodeId,
        /// The snapshot.
        meta: SnapshotMeta,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        data: Bytes,
    },
    /// The piece of [`Output::StoreSnapshot`] is written.
    SnapshotStored {
        /// The snapshot's slot.
        slot: Slot,
        /// Where the piece ended.
        offset: u64,
    },
    /// The snapshot of [`Output::InstallSnapshot`] is whole and in stable storage.
    SnapshotInstalled {
        /// The snapshot.
        meta: SnapshotMeta,
    },
    /// The snapshot of [`Output::InstallSnapshot`] does not match its description.
    SnapshotRejected {
        /// The snapshot's slot.
        slot: Slot,
    },
}

/// Something for the driver to do. A driver must carry out every kind of output: it must not ignore one that
/// it does not know. [`Driver`](super::Driver) has a method for each, so that the compiler names what is
/// missing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Output {
    /// Put this into stable storage, then feed [`Write::into_durable`] back.
    Persist(Write),
    /// Send a message to one peer. May get lost.
    Send {
        /// The peer.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Send a message to each peer: to all [members](crate::Membership::members) in force here but this node
    /// itself. Each copy may get lost.
    Broadcast {
        /// The message.
        message: Message,
    },
    /// Apply this value to the state machine: the slot after the one applied before.
    Apply {
        /// The chosen slot.
        slot: Slot,
        /// Its value.
        value: Value,
    },
    /// Another membership is in force for all slots behind this one. The transport must reach its members,
    /// and for a while still those that are no longer in it, as messages to them may be on their way.
    MembershipChanged {
        /// The slot of the membership.
        slot: Slot,
        /// The membership.
        membership: Membership,
    },
    /// The change that was asked for is chosen and in force.
    ChangeInForce {
        /// The request.
        request: RequestId,
        /// The epoch that it has begun.
        epoch: Epoch,
    },
    /// The change that was asked for is not made, or not by this replica.
    ChangeRefused {
        /// The request.
        request: RequestId,
        /// Why.
        refusal: ChangeRefusal,
    },
    /// Another node leads now.
    HandedOver {
        /// The request.
        request: RequestId,
        /// The leader.
        to: NodeId,
    },
    /// Leadership is not handed over.
    HandoverRefused {
        /// The request.
        request: RequestId,
        /// Why.
        refusal: HandoverRefusal,
    },
    /// Replace the state by this snapshot, which is in stable storage. The next slot to apply is the one
    /// after.
    Restore {
        /// The snapshot.
        meta: SnapshotMeta,
    },
    /// Everything that the read must see has been given out as [`Output::Apply`]: look at the state now.
    ReadReady {
        /// The read.
        read: ReadId,
        /// The leader's time when it let the read go: what has expired by then must not be seen. The log may
        /// not have come to that time yet; see `paxos-node`'s guide on time for what a state machine makes of
        /// that.
        time: Time,
    },
    /// The read can't be served now: no leader is known, too many wait, or leadership was lost. Ask again.
    ReadRefused {
        /// The read.
        read: ReadId,
    },
    /// These commands were not taken: they never left this replica, or came back from a leader that finds
    /// them too long. If they were proposed before, that earlier proposal may still be chosen.
    Refused {
        /// The commands.
        commands: Vec<Bytes>,
        /// Why.
        reason: Refusal,
    },
    /// Read a piece of a finished snapshot and feed it back as [`Input::SnapshotLoaded`]; if it is gone,
    /// nothing.
    LoadSnapshot {
        /// The peer that asks for it.
        to: NodeId,
        /// The snapshot.
        meta: SnapshotMeta,
        /// Where the piece begins.
        offset: u64,
        /// The greatest length of the piece.
        max_bytes: usize,
    },
    /// Write a piece of a snapshot that a peer sends, then feed [`Input::SnapshotStored`] back. Pieces come
    /// in order, the next ones before this one is written; offset 0 starts over.
    StoreSnapshot {
        /// The snapshot's slot.
        slot: Slot,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        data: Bytes,
    },
    /// All pieces are written: verify the snapshot, make it durable, then feed [`Input::SnapshotInstalled`]
    /// or [`Input::SnapshotRejected`] back.
    InstallSnapshot {
        /// The description that the snapshot must match.
        meta: SnapshotMeta,
    },
}

impl Output {
    /// Whether this is a message to a peer.
    #[must_use]
    pub fn is_message(&self) -> bool {
        matches!(self, Output::Send { .. } | Output::Broadcast { .. })
    }
}

/// Why commands were not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// No leader is known here.
    NoLeader,
    /// As many commands wait as [`queue_bytes`](crate::ProtocolSettings::queue_bytes) allows, or the log is
    /// as long as [`log_bytes`](crate::ProtocolSettings::log_bytes) allows.
    Overloaded,
    /// Longer than [`command_bytes`](crate::ProtocolSettings::command_bytes) allows, here or on the leader.
    TooLong {
        /// The longest command that is taken, in bytes.
        limit_bytes: u64,
    },
}

/// What a node is in the membership that is in force, as far as it knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Standing {
    /// It votes, and may lead.
    Voter,
    /// It learns, and does not vote.
    Learner,
    /// It is not a member, and never was one as far as it knows. It learns, so that it will hear of a
    /// membership that has it.
    Outsider,
    /// It was removed. It takes part in nothing any more.
    Removed {
        /// Whether the others can do without it: a quorum of them knows of the removal. Until then it should
        /// go on running.
        may_end: bool,
    },
}

/// What a replica is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Accepts what a leader proposes, or waits for one.
    #[default]
    Follower,
    /// Runs phase 1 to become the leader.
    Candidate,
    /// Proposes all values.
    Leader,
}

impl std::fmt::Display for Role {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        })
    }
}
