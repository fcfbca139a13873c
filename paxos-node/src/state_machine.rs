//! What the user of the library brings: a deterministic state machine.

use std::io;

use bytes::Bytes;
use paxos_core::Slot;

/// Writes a picture of a state; runs once, on a thread of its own, while the state machine goes on.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// A state machine as in *Paxos Made Simple*, section 3: every node runs one, and all of them apply the same
/// commands in the same order.
///
/// Apply must depend on nothing but the state and its arguments: no clock, no randomness, no hash order. Two
/// nodes that have applied the same slots must have the same [`digest`](StateMachine::digest).
pub trait StateMachine: Send + Sync + 'static {
    /// Applies a chosen command and answers with its response.
    ///
    /// Called once for each command, in slot order; several commands may share a slot. Must not panic on any
    /// bytes: a command that makes no sense gets a response that says so.
    fn apply(&mut self, slot: Slot, command: &Bytes) -> Bytes;

    /// Takes a picture of the state as it is now.
    ///
    /// This call blocks the node, so make it cheap (share, do not copy); the writer it returns does not.
    fn snapshot(&self) -> SnapshotWriter;

    /// Replaces the state by one that a [`SnapshotWriter`] wrote, on this node or on another.
    ///
    /// # Errors
    ///
    /// Whatever reading fails with, or [`io::ErrorKind::InvalidData`] for bytes that are no snapshot. The node
    /// stops then.
    fn restore(&mut self, snapshot: &mut dyn io::Read) -> io::Result<()>;

    /// A number that tells different states apart; shown in the status so that nodes can be compared.
    fn digest(&self) -> u64;
}
