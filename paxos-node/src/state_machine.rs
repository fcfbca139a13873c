//! The trait that a user of the library implements: a deterministic state machine.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use paxos_core::{Slot, Time};

/// Writes a snapshot of a state; runs once, on a thread of its own, while the state machine goes on.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// Where in the log a command stands that is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Applying {
    /// Its slot.
    pub slot: Slot,
    /// The time of the slot, which the leader has given it: the only clock that a state machine may go by. It
    /// never goes back from one command to the next, whichever node leads and whatever its clocks show; see
    /// [the guide](crate::guide::time). [`Time::NONE`] in a log from before there were times.
    pub time: Time,
}

impl Applying {
    /// A place in a log, to test a state machine.
    #[must_use]
    pub fn new(slot: Slot, time: Time) -> Applying {
        Applying { slot, time }
    }
}

/// A command that only a newer version of the program may know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownCommand;

/// A state machine as in *Paxos Made Simple*, section 3: every node runs one, and all of them apply the same
/// commands in the same order.
///
/// [`apply`](StateMachine::apply) may depend on nothing but the state and its arguments: no clock, no
/// randomness, no hash order. Two nodes that have applied the same slots must have the same
/// [`digest`](StateMachine::digest).
pub trait StateMachine: Send + Sync + 'static {
    /// Applies a chosen command and answers with its response.
    ///
    /// Called once for each command, in slot order; several commands may share a slot. A call may take long
    /// (see [`ApplyMode`](crate::ApplyMode)): the node goes on meanwhile, and refuses new commands once too
    /// many wait.
    ///
    /// # Panics
    ///
    /// It must not, on any bytes: answer a malformed command with a response that says so. If it does, the
    /// node stops with [`NodeError::StateMachinePanicked`](crate::NodeError::StateMachinePanicked), and no
    /// reader sees the state any more. The command stays chosen: every node applies it, and this one does so
    /// again when it is started again, so fix the state machine first.
    fn apply(&mut self, at: Applying, command: &Bytes) -> Bytes;

    /// Whether this program knows a command, well-formed or not: `false` if only a newer version of it may.
    /// `true` by default.
    ///
    /// A program that answers an unknown command with an error, while a newer one carries it out, makes
    /// states differ. So a node stops before such a command ([`NodeError::NeedsNewerProgram`]), and refuses
    /// to propose one. [The guide](crate::guide::upgrade) tells how a state machine gets new commands.
    ///
    /// [`NodeError::NeedsNewerProgram`]: crate::NodeError::NeedsNewerProgram
    #[must_use]
    fn knows(command: &Bytes) -> bool
    where
        Self: Sized,
    {
        let _ = command;
        true
    }

    /// What the node calls: [`apply`](StateMachine::apply), unless the program does not
    /// [know](StateMachine::knows) the command. To be overridden if it is cheaper to find out both at once.
    ///
    /// # Errors
    ///
    /// [`UnknownCommand`]: nothing was applied.
    fn try_apply(&mut self, at: Applying, command: &Bytes) -> Result<Bytes, UnknownCommand>
    where
        Self: Sized,
    {
        if Self::knows(command) { Ok(self.apply(at, command)) } else { Err(UnknownCommand) }
    }

    /// Commands that the leader is to propose because it is this time: to remove what has expired, above all.
    /// None by default.
    ///
    /// Called on the leader alone, at each tick and whenever all have been applied that were proposed before.
    /// They may get lost, and may be applied twice, at any later time. No more than a few dozen are taken at
    /// once. Make it quick, for it is called on the thread that answers peers.
    fn due(&self, time: Time) -> Vec<Bytes> {
        let _ = time;
        Vec::new()
    }

    /// Takes a snapshot of the present state.
    ///
    /// Nothing is applied during this call, so make it cheap (share, do not copy). The writer that it returns
    /// runs while later commands are applied.
    fn snapshot(&self) -> SnapshotWriter;

    /// Replaces the state by the one that a [`SnapshotWriter`] wrote, on this node or on another. Readers
    /// wait meanwhile.
    ///
    /// # Errors
    ///
    /// An error of the reader, [`io::ErrorKind::Unsupported`] for a snapshot of a newer version of the
    /// program, or [`io::ErrorKind::InvalidData`] for bytes that are no snapshot. The node stops then.
    fn restore(&mut self, snapshot: &mut dyn io::Read) -> io::Result<()>;

    /// How many bytes of memory the state takes, overhead included; 0 if that is not known. Compared with
    /// [`NodeSettings::memory_limit_bytes`](crate::NodeSettings::memory_limit_bytes). Called after each slot,
    /// so keep a running count.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// Whether a command may make the state larger. While memory is short, commands that do not are still
    /// taken on, so that something can be deleted. Called only then, before the command is proposed, so on
    /// any bytes that a client sends.
    #[must_use]
    fn needs_memory(command: &Bytes) -> bool
    where
        Self: Sized,
    {
        let _ = command;
        true
    }

    /// Whether a command may take more than a few milliseconds if it is applied to the present state. Even
    /// with [`ApplyMode::Inline`](crate::ApplyMode::Inline) such a command is applied on a thread of its own.
    /// In that mode this is called before every command, so it must be quick. Nodes need not agree on it.
    #[must_use]
    fn takes_long(&self, command: &Bytes) -> bool {
        let _ = command;
        false
    }

    /// What a backup says of the present state, by name and in words: how many keys there are, for example.
    /// Nothing by default. Called while nothing is applied, so it must be quick.
    fn describe(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// A number that tells different states apart: nodes compare it at equal slots, and show it in their
    /// status. Called several times a second while commands are applied, so keep a running digest rather than
    /// to compute it from the whole state.
    fn digest(&self) -> u64;
}
