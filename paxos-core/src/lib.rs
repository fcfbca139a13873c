//! Multi-Paxos as a deterministic state machine.

pub mod basic;
mod config;
pub mod durable;
mod id;
mod log;
pub mod message;
mod quorum;
mod random;
mod replica;
pub mod session;
pub mod value;
#[cfg(feature = "wire")]
pub mod wire;

pub use config::{Config, ConfigError, Options, PhaseOne, ReadMode};
pub use durable::{Durable, Entry, HardState, RecoverError, Recovered, SnapshotMeta, Write, WriteNumber};
pub use id::{Ballot, Epoch, NodeId, Slot};
pub use message::{Body, HeartbeatRound, Message, ReadId};
pub use quorum::{MAX_MEMBERS, Quorums};
pub use replica::{Input, Output, Refusal, Replica, Role};
pub use value::{MalformedValue, Value};
