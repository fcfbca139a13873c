//! Requests of this node's clients that are not answered yet.
//!
//! - [`commands`]: commands under the node's own session;
//! - [`sessions`]: requests under the sessions of clients;
//! - [`reads`]: linearizable reads.
//!
//! Each waits here until this node has applied it itself, and is sent again when a new leader appears or
//! nothing happens for too long. A command that was never handed to the replica can be refused for certain;
//! any other that times out has an unknown outcome.

mod commands;
mod numbered;
mod reads;
mod sessions;

pub(crate) use self::commands::PendingCommands;
pub(crate) use self::reads::PendingReads;
pub(crate) use self::sessions::PendingSessions;

use tokio::sync::oneshot;

use crate::client::ClientError;

/// After this many attempts the pauses between them no longer double.
const MAX_DOUBLINGS: u32 = 4;

type Reply<T> = oneshot::Sender<Result<T, ClientError>>;

/// The answer to give now to a command that the replica has given back and that was sent `attempts` times
/// before that; `None` if it is to be sent again.
fn answer_now(answer: ClientError, attempts: u32) -> Option<ClientError> {
    match answer {
        _ if attempts == 0 => Some(answer),
        // An earlier leader may have taken it; there is no use in sending it again.
        ClientError::TooLarge { .. } => Some(ClientError::OutcomeUnknown),
        _ => None,
    }
}

/// The answer to a command that is given up after this many attempts.
fn give_up(attempts: u32) -> ClientError {
    if attempts == 0 { ClientError::NotApplied } else { ClientError::OutcomeUnknown }
}
