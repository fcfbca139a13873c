//! A replicated state machine.

mod client;
mod state_machine;
mod status;

pub use client::{Applied, Client, ClientError, State};
pub use paxos_core::Role;
pub use state_machine::{SnapshotWriter, StateMachine};
pub use status::Status;
