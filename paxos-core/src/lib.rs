//! Multi-Paxos as a deterministic state machine.

pub mod durable;
mod id;
pub mod value;

pub use durable::{Durable, Entry, HardState, RecoverError, Recovered, SnapshotMeta, Write, WriteNumber};
pub use id::{Ballot, Epoch, NodeId, Slot};
pub use value::{MalformedValue, Value};
