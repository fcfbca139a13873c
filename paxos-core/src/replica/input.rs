//! What goes into a replica and what comes out.

use bytes::Bytes;

use crate::durable::{Durable, SnapshotMeta, Write};
use crate::id::{NodeId, Slot};
use crate::message::{Message, ReadId};
use crate::value::Value;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// Some time has passed; the driver decides how much, the same on all members.
    ///
    /// After a pause (of the process, of the machine) feed all ticks that were missed before anything else:
    /// a lease must not outlive the time it stands for.
    Tick,
    /// A message came from a peer whose identity the transport vouches for.
    Receive {
        /// The sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Have these commands chosen, if possible next to each other. A replica that does not lead passes them on.
    ///
    /// They may get lost on the way; propose again, under a session, what was not seen applied.
    Propose {
        /// The commands.
        commands: Vec<Bytes>,
    },
    /// Tell when the state is recent enough for a read that starts now.
    Read {
        /// The driver's name for the read, or for a group of reads that came together.
        read: ReadId,
    },
    /// A write is in stable storage. In the order of the writes, without gaps.
    Durable(Durable),
    /// A snapshot that this node took of its own state is in stable storage.
    SnapshotSaved {
        /// Which.
        meta: SnapshotMeta,
    },
    /// What [`Output::LoadSnapshot`] asked for.
    SnapshotLoaded {
        /// Who wants it.
        to: NodeId,
        /// Which snapshot.
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
        /// Which.
        meta: SnapshotMeta,
    },
    /// The snapshot of [`Output::InstallSnapshot`] is not what it should be.
    SnapshotRejected {
        /// The snapshot's slot.
        slot: Slot,
    },
}

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// Send a message to each peer. May get lost on any of the ways.
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
    /// Replace the state by this snapshot, which is in stable storage. The next slot to apply is the one after.
    Restore {
        /// Which snapshot.
        meta: SnapshotMeta,
    },
    /// All that the read must see has been given out as [`Output::Apply`]; it may look at the state.
    ReadReady {
        /// The read.
        read: ReadId,
    },
    /// The read can't be served now: no leader is known, too many wait, or leadership was lost. Ask again.
    ReadRefused {
        /// The read.
        read: ReadId,
    },
    /// These commands were not taken; they have not gone anywhere.
    Refused {
        /// The commands.
        commands: Vec<Bytes>,
        /// Why.
        reason: Refusal,
    },
    /// Read a piece of a finished snapshot and feed it back as [`Input::SnapshotLoaded`]; if it is gone, nothing.
    LoadSnapshot {
        /// Who wants it.
        to: NodeId,
        /// Which snapshot.
        meta: SnapshotMeta,
        /// Where the piece begins.
        offset: u64,
        /// How long it may be.
        max_bytes: usize,
    },
    /// Write a piece of a snapshot that a peer sends, then feed [`Input::SnapshotStored`] back. Pieces come in
    /// order; offset 0 starts over.
    StoreSnapshot {
        /// The snapshot's slot.
        slot: Slot,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        data: Bytes,
    },
    /// All pieces are written: verify the snapshot, make it durable, then feed [`Input::SnapshotInstalled`] or
    /// [`Input::SnapshotRejected`] back.
    InstallSnapshot {
        /// What the snapshot must match.
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
    /// As many commands wait as [`Options::queue_bytes`](crate::Options::queue_bytes) allows, or the log is as
    /// long as [`Options::log_bytes`](crate::Options::log_bytes) allows.
    Overloaded,
    /// Longer than [`Options::command_bytes`](crate::Options::command_bytes).
    TooLong,
}

/// What a replica is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Accepts what a leader proposes, or waits for one.
    #[default]
    Follower,
    /// Runs phase 1 to become the leader.
    Candidate,
    /// Is the only proposer.
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
