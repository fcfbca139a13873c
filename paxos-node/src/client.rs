//! The handle through which commands and reads reach a running node.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::session::SessionId;
use paxos_core::{Change, ChangeRefusal, Epoch, FormatLevel, HandoverRefusal, NodeId, Slot, Time};
use tokio::sync::{RwLockReadGuard, mpsc, oneshot, watch};

#[cfg(all(feature = "server", any(feature = "quic", feature = "tcp")))]
use crate::error::NodeError;
use crate::runtime::driver::AdministrationReply;
use crate::runtime::introductions::KeptOut;
use crate::runtime::pulse::Pulse;
use crate::runtime::replicated::{Replicated, SharedState};
#[cfg(all(feature = "server", any(feature = "quic", feature = "tcp")))]
use crate::state_machine::SnapshotWriter;
use crate::state_machine::StateMachine;
use crate::status::Status;

/// A cheap, cloneable handle to one running node, made by [`Node::client`](crate::Node::client).
///
/// Any node takes any command: a node that does not lead forwards it to the leader, and answers when it has
/// applied the command itself. The node sends again what is lost between nodes, under a session of its own,
/// so each call of [`propose`](Client::propose) has its command applied at most once.
///
/// That covers the call, not the client: a client that calls again, because it got no answer or the node is
/// gone, may have its command applied twice. To send a command again safely, use a [session of the client's
/// own](Client::open_session).
#[derive(Debug)]
pub struct Client<S> {
    requests: mpsc::Sender<ClientRequest>,
    state: SharedState<S>,
    status: watch::Receiver<Status>,
    pulse: Pulse,
}

impl<S> Clone for Client<S> {
    fn clone(&self) -> Self {
        Client {
            requests: self.requests.clone(),
            state: Arc::clone(&self.state),
            status: self.status.clone(),
            pulse: self.pulse.clone(),
        }
    }
}

impl<S: StateMachine> Client<S> {
    pub(crate) fn new(
        requests: mpsc::Sender<ClientRequest>,
        state: SharedState<S>,
        status: watch::Receiver<Status>,
        pulse: Pulse,
    ) -> Self {
        Client { requests, state, status, pulse }
    }

    /// Has `command` chosen and applied; returns its slot and the state machine's response.
    ///
    /// Dropping the future does not withdraw the command: once the future was polled, the command may be on
    /// its way. Proposing equal bytes again is another command, which is applied as well.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]: each variant tells whether the command may still be applied.
    pub async fn propose(&self, command: Bytes) -> Result<Applied, ClientError> {
        if !S::knows(&command) {
            return Err(ClientError::UnknownCommand);
        }
        self.propose_known(command).await
    }

    /// As [`propose`](Client::propose), of a command that this program has made.
    pub(crate) async fn propose_known(&self, command: Bytes) -> Result<Applied, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(ClientRequest::Propose { command, reply })
            .await
            .map_err(|_| ClientError::Stopped)?;
        answer.await.map_err(|_| ClientError::OutcomeUnknown)?
    }

    /// Opens a session with the cluster: see [`ClientSession`](crate::ClientSession).
    pub(crate) async fn open(&self) -> Result<SessionId, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(ClientRequest::Open { reply }).await.map_err(|_| ClientError::Stopped)?;
        answer.await.map_err(|_| ClientError::OutcomeUnknown)?
    }

    /// Has the command of this number of a session applied, unless it was applied before.
    pub(crate) async fn propose_in(
        &self,
        session: SessionId,
        sequence: u64,
        command: Bytes,
    ) -> Result<Applied, ClientError> {
        let (reply, answer) = oneshot::channel();
        let request = ClientRequest::ProposeIn { session, sequence, command, reply };
        self.requests.send(request).await.map_err(|_| ClientError::Stopped)?;
        answer.await.map_err(|_| ClientError::OutcomeUnknown)?
    }

    /// Calls `look` with the state, which is no older than this call: it has every command that was answered
    /// to anybody before (a linearizable read).
    ///
    /// ```
    /// # use paxos_node::{Client, ClientError, kv::Store};
    /// # async fn length(client: Client<Store>) -> Result<usize, ClientError> {
    /// client.read_with(|store| store.len()).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. A read that fails has had no effect.
    pub async fn read_with<R>(&self, look: impl FnOnce(&S) -> R) -> Result<R, ClientError> {
        self.read().await.map(|state| look(&state))
    }

    /// Calls `look` with the state that this node has now, which may be arbitrarily old.
    ///
    /// # Errors
    ///
    /// [`ClientError::Stopped`] if the state machine has panicked.
    pub async fn read_stale_with<R>(&self, look: impl FnOnce(&S) -> R) -> Result<R, ClientError> {
        self.read_stale().await.map(|state| look(&state))
    }

    /// As [`read_with`](Client::read_with), but returns a guard of the state.
    ///
    /// While the guard lives this node applies nothing, and so answers no command: never hold it while you
    /// wait for one. The node still takes part in the protocol.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn read(&self) -> Result<StateGuard<'_, S>, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(ClientRequest::Read { reply }).await.map_err(|_| ClientError::Stopped)?;
        let time = answer.await.map_err(|_| ClientError::Stopped)??;
        let state = self.read_stale().await?;
        Ok(StateGuard { time: time.max(state.time), ..state })
    }

    /// As [`read_stale_with`](Client::read_stale_with), but returns a guard of the state; see
    /// [`read`](Client::read).
    ///
    /// # Errors
    ///
    /// [`ClientError::Stopped`] if the state machine has panicked.
    pub async fn read_stale(&self) -> Result<StateGuard<'_, S>, ClientError> {
        let replicated = self.state.read().await;
        if replicated.is_broken() { Err(ClientError::Stopped) } else { Ok(StateGuard::new(replicated)) }
    }

    /// Changes the membership. Only the leader does; returns once the change is chosen and in force.
    ///
    /// With `if_epoch` the change is made only in that epoch, so that of two operators who have seen the same
    /// membership only one gets his way. `is_forced` makes a change even if no quorum of the new voters is
    /// heard from, or if the learner to promote lags behind: the cluster may then be without a quorum.
    ///
    /// # Errors
    ///
    /// See [`AdministrationError`]. After [`ChangeRefusal::Lost`] or
    /// [`Stopped`](AdministrationError::Stopped) the change may still be made by the next leader: look at the
    /// membership before asking again.
    pub async fn change_membership(
        &self,
        change: Change,
        if_epoch: Option<Epoch>,
        is_forced: bool,
    ) -> Result<Epoch, AdministrationError> {
        let (reply, answer) = oneshot::channel();
        let reply = AdministrationReply::Change(reply);
        let request = ClientRequest::Change { change, if_epoch, is_forced, reply };
        self.requests.send(request).await.map_err(|_| AdministrationError::Stopped)?;
        answer.await.map_err(|_| AdministrationError::Stopped)?
    }

    /// Hands leadership over to `to`, or to the fittest voter: that with the highest priority, and of several
    /// the one that knows most. Only the leader does; returns the new leader once it is heard from.
    ///
    /// # Errors
    ///
    /// See [`AdministrationError`]. If the successor does not take over in time, this node leads on.
    pub async fn hand_over(&self, to: Option<NodeId>) -> Result<NodeId, AdministrationError> {
        let (reply, answer) = oneshot::channel();
        let request = ClientRequest::HandOver { to, reply: AdministrationReply::HandOver(reply) };
        self.requests.send(request).await.map_err(|_| AdministrationError::Stopped)?;
        answer.await.map_err(|_| AdministrationError::Stopped)?
    }

    /// The present state of this node, to be written elsewhere. Blocks until nothing is applied: call it on a
    /// thread that may wait.
    #[cfg(all(feature = "server", any(feature = "quic", feature = "tcp")))]
    pub(crate) fn picture(&self) -> Result<Picture, NodeError> {
        let replicated = self.state.blocking_read();
        if replicated.is_broken() {
            return Err(NodeError::AlreadyFailed { cause: ClientError::Stopped.to_string() });
        }
        let (slot, time) = (replicated.applied, replicated.time);
        Ok(Picture { slot, time, facts: replicated.state.describe(), write: replicated.snapshot()? })
    }

    /// Whether the node is still recovering what its storage holds.
    #[cfg(feature = "server")]
    pub(crate) fn is_recovering(&self) -> bool {
        self.status.borrow().recovering.is_some()
    }

    /// How many sessions there are; `None` while something is applied or restored.
    #[cfg(feature = "server")]
    pub(crate) fn session_count(&self) -> Option<usize> {
        self.state.try_read().ok().map(|replicated| replicated.session_count())
    }

    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// As [`read_stale`](Client::read_stale), without waiting: `None` while something is applied or restored,
    /// or if the state machine has panicked.
    #[must_use]
    pub fn try_read_stale(&self) -> Option<StateGuard<'_, S>> {
        self.state.try_read().ok().filter(|replicated| !replicated.is_broken()).map(StateGuard::new)
    }

    /// For how long the task that runs the protocol has not ended a turn. It takes one with each
    /// [tick](crate::NodeSettings::tick) at least, while it recovers as well, so seconds mean that it hangs.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.pulse.silence(Instant::now())
    }

    /// The node's status; the receiver can wait for it to change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

/// A state of a node after one slot, yet to be written.
#[cfg(all(feature = "server", any(feature = "quic", feature = "tcp")))]
pub(crate) struct Picture {
    pub(crate) slot: Slot,
    pub(crate) time: Time,
    /// As [`StateMachine::describe`] tells them.
    pub(crate) facts: std::collections::BTreeMap<String, String>,
    /// Writes the sessions and the state, as a snapshot has them.
    pub(crate) write: SnapshotWriter,
}

/// Read access to the state machine. While it lives the node applies nothing.
#[derive(Debug)]
pub struct StateGuard<'a, S> {
    replicated: RwLockReadGuard<'a, Replicated<S>>,
    time: Time,
}

impl<'a, S> StateGuard<'a, S> {
    fn new(replicated: RwLockReadGuard<'a, Replicated<S>>) -> StateGuard<'a, S> {
        let time = replicated.time;
        StateGuard { replicated, time }
    }

    /// Every slot up to here is applied to this state.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.replicated.applied
    }

    /// The time at which the state is read: for a linearizable read the leader's when it let the read go, and
    /// no lower than that of the last command. What has expired by then should not be shown. But the log,
    /// which alone decides, may not have come to that time yet: a reader that must not see the thing again
    /// later has a command applied first, as [`kv`](crate::kv) does.
    #[must_use]
    pub fn time(&self) -> Time {
        self.time
    }
}

impl<S> Deref for StateGuard<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.replicated.state
    }
}

/// The result of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Applied {
    /// The slot in which the command was chosen.
    pub slot: Slot,
    /// The response of the state machine.
    pub response: Bytes,
}

/// Why a command or a read was not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No leader was found in time. The command was not and never will be applied.
    #[error("no quorum of nodes can be reached: nothing was applied; try again later or on another node")]
    NotApplied,
    /// The node knows that it can take no part now: the cluster is not founded yet, or its peers refuse it.
    /// The command was not and never will be applied.
    #[error("{0}: nothing was applied; ask another node")]
    KeptOut(KeptOut),
    /// Too many requests wait on the node already. The command was not and never will be applied.
    #[error("the node has too many requests waiting: nothing was applied; try again later")]
    Overloaded,
    /// The disk of this node is almost full, or it can open no more files for its log. The command was not
    /// and never will be applied.
    #[error(
        "the disk of this node is almost full, or it can open no more files: nothing was applied; make room, or ask \
         another node"
    )]
    NoSpace,
    /// The memory of this node is short, and the command may need more. It was not and never will be applied.
    #[error("the memory of this node is short: nothing was applied; delete something first")]
    NoMemory,
    /// The command is longer than the configured limit. It was not and never will be applied.
    #[error("the command has {size_bytes} bytes, more than the limit of {limit_bytes}")]
    TooLarge {
        /// Its length in bytes.
        size_bytes: usize,
        /// The configured limit in bytes.
        limit_bytes: usize,
    },
    /// The state machine does not [know](StateMachine::knows) the command. It was not and never will be
    /// applied.
    #[error("this version of the program does not know the command: nothing was applied")]
    UnknownCommand,
    /// The command was sent, but no answer came in time: it may have been applied, or may be yet.
    #[error("no answer in time: the command may or may not have been applied")]
    OutcomeUnknown,
    /// The command was applied before, and its reply was too long to be kept. Only in a
    /// [`ClientSession`](crate::ClientSession).
    #[error("the command was applied before, in slot {slot}; its reply was too long to be kept")]
    AppliedBefore {
        /// The slot.
        slot: Slot,
    },
    /// Another command of this [`ClientSession`](crate::ClientSession) has no answer yet. Nothing was sent.
    #[error("the session's last command has no answer yet: propose it again first, or give it up")]
    Unanswered,
    /// The [`ClientSession`](crate::ClientSession) has gone on to later commands elsewhere: this is an old
    /// copy of it. Nothing was applied now.
    #[error("the session is used elsewhere, and has gone on to later commands")]
    SessionAhead,
    /// The cluster has dropped the [`ClientSession`](crate::ClientSession), as too many others were used
    /// since. The command was not applied now; if it was sent before, it may have been applied then.
    #[error("the session was dropped, as too many others were used since: open another one")]
    SessionLost,
    /// The node was removed from its cluster. The command was not and never will be applied.
    #[error("this node was removed from the cluster: nothing was applied; ask another node")]
    Removed,
    /// The node is still recovering what its storage holds. Nothing was or will be applied. Only fronts
    /// answer this: a [`Client`] waits.
    #[error("this node still reads its log: nothing was applied; try again soon")]
    Recovering,
    /// The node was stopped before it took the command, or has failed.
    #[error("the node has stopped")]
    Stopped,
}

/// Why the membership was not changed, or leadership not handed over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdministrationError {
    /// The membership is not changed.
    #[error("{0}")]
    Change(ChangeRefusal),
    /// Leadership is not handed over.
    #[error("{0}")]
    Handover(HandoverRefusal),
    /// A format level is not finalized, as the program of a member does not know it.
    #[error(
        "the program of node {node} knows format level {newest} at most: start a version that knows level {level}"
    )]
    ProgramTooOld {
        /// The member.
        node: NodeId,
        /// The newest level that its program reads.
        newest: FormatLevel,
        /// The level that was to be finalized.
        level: FormatLevel,
    },
    /// A format level is not finalized, as it is not known whether the program of a member knows it.
    #[error(
        "node {node} is not heard, and its program may not know format level {level}: start it, or remove it from the \
         cluster"
    )]
    ProgramUnknown {
        /// The member.
        node: NodeId,
        /// The level that was to be finalized.
        level: FormatLevel,
    },
    /// The node can't take part at present.
    #[error(transparent)]
    Unable(ClientError),
    /// Too many such requests wait.
    #[error("too many requests to change the membership wait already")]
    Busy,
    /// The node has stopped. If the request was sent, it may still be carried out.
    #[error("the node has stopped")]
    Stopped,
}

/// A request of a client to the driver.
#[derive(Debug)]
pub(crate) enum ClientRequest {
    /// Have a command chosen.
    Propose { command: Bytes, reply: oneshot::Sender<Result<Applied, ClientError>> },
    /// Open a session for a client.
    Open { reply: oneshot::Sender<Result<SessionId, ClientError>> },
    /// Have a command chosen under a client's session.
    ProposeIn {
        session: SessionId,
        sequence: u64,
        command: Bytes,
        reply: oneshot::Sender<Result<Applied, ClientError>>,
    },
    /// Answer when the state is recent enough for a read that starts now.
    /// With the leader's time.
    Read { reply: oneshot::Sender<Result<Time, ClientError>> },
    /// Change the membership.
    Change { change: Change, if_epoch: Option<Epoch>, is_forced: bool, reply: AdministrationReply },
    /// Hand leadership over.
    HandOver { to: Option<NodeId>, reply: AdministrationReply },
}

impl ClientRequest {
    /// The length of the command in it.
    pub(crate) fn command_bytes(&self) -> usize {
        self.command().map_or(0, Bytes::len)
    }

    /// The command in it.
    pub(crate) fn command(&self) -> Option<&Bytes> {
        match self {
            ClientRequest::Propose { command, .. } | ClientRequest::ProposeIn { command, .. } => {
                Some(command)
            }
            ClientRequest::Open { .. }
            | ClientRequest::Read { .. }
            | ClientRequest::Change { .. }
            | ClientRequest::HandOver { .. } => None,
        }
    }

    /// Answers with an error: nothing was or will be applied.
    pub(crate) fn refuse(self, error: ClientError) {
        // A client that went away wants no answer.
        match self {
            ClientRequest::Propose { reply, .. } | ClientRequest::ProposeIn { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            ClientRequest::Open { reply } => drop(reply.send(Err(error))),
            ClientRequest::Read { reply } => drop(reply.send(Err(error))),
            ClientRequest::Change { reply, .. } | ClientRequest::HandOver { reply, .. } => {
                reply.refuse(AdministrationError::Unable(error));
            }
        }
    }
}
