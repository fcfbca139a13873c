//! A replicated state machine.

mod client;
mod state_machine;
mod status;

pub use client::{Applied, Client, ClientError};
pub use state_machine::{SnapshotWriter, StateMachine};
pub use status::{Role, Status};
