//! What a first program needs, by one `use paxos_node::prelude::*`.

pub use bytes::Bytes;
pub use paxos_core::{NodeId, Slot, Time};
pub use paxos_storage::{Identity, Storage};
pub use paxos_transport::Transport;

#[cfg(feature = "memory")]
pub use paxos_storage::memory::MemoryStorage;
#[cfg(feature = "memory")]
pub use paxos_transport::memory::MemoryNetwork;

pub use crate::client::{Applied, Client, ClientError};
pub use crate::error::NodeError;
pub use crate::node::Node;
pub use crate::session::ClientSession;
pub use crate::settings::{ApplyMode, NodeSettings, WriterMode};
pub use crate::state_machine::{Applying, SnapshotWriter, StateMachine};
pub use crate::status::Status;
