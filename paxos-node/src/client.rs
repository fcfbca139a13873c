//! The handle through which commands and reads reach a running node.

use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use paxos_core::Slot;
use tokio::sync::{mpsc, oneshot, watch};

use crate::status::Status;

/// A cheap, cloneable handle to one running node, made by [`Node::client`](crate::Node::client).
///
/// Any node takes any command: one that does not lead passes it on and answers when it has applied the command
/// itself. Whatever is lost on the way is sent again under the node's own session, so that a command is applied
/// at most once however often it was sent.
#[derive(Debug)]
pub struct Client<S> {
    requests: mpsc::Sender<Request>,
    state: Shared<S>,
    status: watch::Receiver<Status>,
}

impl<S> Clone for Client<S> {
    fn clone(&self) -> Self {
        Client {
            requests: self.requests.clone(),
            state: Arc::clone(&self.state),
            status: self.status.clone(),
        }
    }
}

impl<S> Client<S> {
    pub(crate) fn new(
        requests: mpsc::Sender<Request>,
        state: Shared<S>,
        status: watch::Receiver<Status>,
    ) -> Self {
        Client { requests, state, status }
    }

    /// Has `command` chosen and applied, and answers with its slot and the state machine's response.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]: it tells whether the command may still be applied.
    pub async fn propose(&self, command: Bytes) -> Result<Applied, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Propose { command, reply }).await.map_err(|_| ClientError::Stopped)?;
        answer.await.map_err(|_| ClientError::OutcomeUnknown)?
    }

    /// The state, no older than this call: everything that was answered to anybody before is in it
    /// (a linearizable read, as Chubby serves it).
    ///
    /// Hold the guard briefly, and never across an `await`: while it lives this node applies nothing.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. A read that fails has had no effect.
    pub async fn read(&self) -> Result<State<'_, S>, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Read { reply }).await.map_err(|_| ClientError::Stopped)?;
        answer.await.map_err(|_| ClientError::Stopped)??;
        Ok(self.read_stale())
    }

    /// The state as this node has it now, which may be arbitrarily old.
    #[must_use]
    pub fn read_stale(&self) -> State<'_, S> {
        State(self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The node's status, and a way to wait for it to change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

/// A look at the state machine. While it lives the node applies nothing.
#[derive(Debug)]
pub struct State<'a, S>(RwLockReadGuard<'a, Replicated<S>>);

impl<S> State<'_, S> {
    /// Every slot up to here is applied to this state.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.0.applied
    }
}

impl<S> Deref for State<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0.state
    }
}

/// The state machine and how far it has come, as the driver and its clients share them.
pub(crate) type Shared<S> = Arc<RwLock<Replicated<S>>>;

/// A state machine with the slot up to which it has applied everything.
#[derive(Debug)]
pub(crate) struct Replicated<S> {
    pub(crate) state: S,
    pub(crate) applied: Slot,
}

/// What a command came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The slot in which the command was chosen.
    pub slot: Slot,
    /// What the state machine answered.
    pub response: Bytes,
}

/// Why a command or a read was not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No leader could be asked in time. The command has not been and never will be applied.
    #[error("no quorum of nodes can be reached: nothing was applied; try again later or on another node")]
    NotApplied,
    /// More requests are waiting than the node takes. The command has not been and never will be applied.
    #[error("the node has too many requests waiting: nothing was applied; try again later")]
    Overloaded,
    /// The disk of this node is almost full. The command has not been and never will be applied.
    #[error("the disk of this node is almost full: nothing was applied; make room, or ask another node")]
    NoSpace,
    /// The command is longer than the configured limit. It has not been and never will be applied.
    #[error("the command has {size_bytes} bytes, more than the limit of {limit_bytes}")]
    TooLarge {
        /// Its length in bytes.
        size_bytes: usize,
        /// The configured limit in bytes.
        limit_bytes: usize,
    },
    /// The command was sent, but no answer came in time: it may have been applied, or may be yet.
    #[error("no answer in time: the command may or may not have been applied")]
    OutcomeUnknown,
    /// The node was stopped before it took the command.
    #[error("the node has stopped")]
    Stopped,
}

/// What a client asks the driver for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Have a command chosen.
    Propose { command: Bytes, reply: oneshot::Sender<Result<Applied, ClientError>> },
    /// Tell when the state is recent enough for a read that started now.
    Read { reply: oneshot::Sender<Result<(), ClientError>> },
}
