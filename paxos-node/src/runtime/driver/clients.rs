//! Requests of this node's clients: refused, or handed to the replica.

use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::session::SessionCommand;
use paxos_core::{Input, ReadId, Refusal};
use paxos_storage::Capacity;

use super::Driver;
use super::due::Due;
use crate::client::{ClientError, ClientRequest};
use crate::error::NodeError;
use crate::runtime::pending::{PendingCommands, PendingReads, PendingSessions};
use crate::runtime::replicated::{Executed, SessionAnswer, SessionQuery};
use crate::state_machine::StateMachine;

/// A read that the replica has refused is tried again after this many ticks.
const READ_PAUSE_TICKS: u32 = 2;

/// The requests that wait for an answer.
pub(super) struct Clients {
    pub(super) commands: PendingCommands,
    pub(super) sessions: PendingSessions,
    pub(super) reads: PendingReads,
    pub(super) due: Due,
}

impl Clients {
    pub(super) fn new(retry_interval: Duration) -> Clients {
        Clients {
            commands: PendingCommands::new(fastrand::u64(..), retry_interval),
            sessions: PendingSessions::new(retry_interval),
            reads: PendingReads::new(ReadId(fastrand::u64(..)), retry_interval),
            due: Due::default(),
        }
    }

    /// Queues everything for sending again: the leader has changed.
    pub(super) fn retry_all(&mut self) {
        let now = Instant::now();
        self.commands.retry_all();
        self.sessions.retry_all(now);
        self.reads.retry_all(now);
    }

    /// Answers requests whose deadline has passed, and queues overdue ones for sending again.
    pub(super) fn on_tick(&mut self, now: Instant) {
        self.commands.expire(now);
        self.reads.expire(now);
        self.commands.retry_overdue(now);
        self.sessions.on_tick(now);
    }

    /// A request of some node was executed. If it was a command of this node's own session, returns since
    /// when it waited.
    pub(super) fn on_executed(&mut self, slot: paxos_core::Slot, executed: Executed) -> Option<Instant> {
        self.due.on_executed(&executed);
        self.sessions.on_executed(slot, &executed);
        self.commands.on_executed(slot, executed.command, executed.outcome)
    }

    /// What to look up in the sessions of a snapshot that replaces the state.
    pub(super) fn session_queries(&self) -> Vec<SessionQuery> {
        self.commands.query().into_iter().chain(self.sessions.queries()).collect()
    }

    /// A snapshot has replaced the state: `answers` tell what was applied on the way.
    pub(super) fn on_restored(&mut self, answers: Vec<SessionAnswer>) {
        for answer in answers {
            self.sessions.on_restored(&answer);
            self.commands.on_restored(answer);
        }
    }

    /// The replica has given a request back: this time it went nowhere. A request that opens a session is
    /// sent again in time.
    pub(super) fn on_refused(&mut self, request: Bytes, reason: Refusal) {
        if let Ok(SessionCommand::Apply { session, sequence, command, .. }) = SessionCommand::decode(request)
        {
            let answer = final_answer(reason, command.len());
            if self.commands.session() == Some(session) {
                self.commands.given_back(sequence, answer);
            } else {
                self.sessions.given_back(session, sequence, answer);
            }
        }
    }

    /// The replica can't serve a read now: it is asked again in a moment.
    pub(super) fn on_read_refused(&mut self, read: ReadId, tick: Duration) {
        self.reads.given_back(read, Instant::now(), tick * READ_PAUSE_TICKS);
    }

    /// Answers everything that has certainly not been applied.
    pub(super) fn refuse_unsent(&mut self, error: ClientError) {
        self.commands.refuse_unsent(error);
        self.sessions.refuse_unsent(error);
        self.reads.refuse_all(error);
    }

    /// Answers everything, as the node stops.
    pub(super) fn stop(&mut self) {
        self.commands.stop();
        self.sessions.stop();
        self.reads.stop();
    }
}

impl<S: StateMachine> Driver<S> {
    /// Takes in the requests of this turn, and hands all that is due to the replica.
    pub(super) fn on_requests(&mut self) -> Result<(), NodeError> {
        let now = Instant::now();
        let deadline = now + self.settings.request_timeout;
        let mut readers = Vec::new();
        let mut requests = std::mem::take(&mut self.inbox.turn.requests);
        for request in requests.drain(..) {
            if let Some(error) = self.refusal(&request)? {
                self.metrics.refused.increment(1);
                request.refuse(error);
                continue;
            }
            match request {
                ClientRequest::Propose { command, reply } => {
                    self.metrics.commands.increment(1);
                    self.clients.commands.add(command, reply, now, deadline);
                }
                ClientRequest::ProposeIn { session, sequence, command, reply } => {
                    self.metrics.commands.increment(1);
                    self.clients.sessions.propose((session, sequence), command, reply, now, deadline);
                }
                ClientRequest::Open { reply } => {
                    self.clients.sessions.open(fastrand::u64(..), reply, now, deadline);
                }
                ClientRequest::Read { reply } => readers.push(reply),
                ClientRequest::Change { change, if_epoch, is_forced, reply } => {
                    self.on_change(change, if_epoch, is_forced, reply)?;
                }
                ClientRequest::HandOver { to, reply } => self.on_hand_over(to, reply)?,
            }
        }
        self.inbox.turn.requests = requests; // The next turn has as many, and needs not make room for them.
        if !readers.is_empty() {
            self.metrics.reads.increment(readers.len() as u64);
            self.clients.reads.add(readers, now, deadline);
        }
        self.send_due(now)
    }

    /// Why a request is not taken on.
    fn refusal(&self, request: &ClientRequest) -> Result<Option<ClientError>, NodeError> {
        if let Some(kept_out) = self.peers.kept_out {
            return Ok(Some(ClientError::KeptOut(kept_out)));
        }
        let limit = self.settings.waiting_requests;
        let waiting = match request {
            ClientRequest::Read { .. } => {
                return Ok((self.clients.reads.len() >= limit).then_some(ClientError::Overloaded));
            }
            ClientRequest::Change { .. } | ClientRequest::HandOver { .. } => return Ok(None),
            ClientRequest::Propose { .. } => self.clients.commands.len(),
            ClientRequest::ProposeIn { .. } | ClientRequest::Open { .. } => self.clients.sessions.len(),
        };
        let size_bytes = request.command_bytes();
        let limit_bytes = self.settings.protocol.command_bytes - SessionCommand::OVERHEAD_BYTES;
        Ok(if size_bytes > limit_bytes {
            Some(ClientError::TooLarge { size_bytes, limit_bytes })
        } else if waiting >= limit || self.is_behind() {
            Some(ClientError::Overloaded)
        } else if self.disk.capacity == Capacity::Low {
            Some(ClientError::NoSpace)
        } else {
            let command = request.command().filter(|_| self.memory.is_full());
            let applier = &self.local_state.applier;
            let needs_memory = command.map(|command| applier.needs_memory(command)).transpose()?;
            (needs_memory == Some(true)).then_some(ClientError::NoMemory)
        })
    }

    /// Proposes and asks what is due, if there is a leader to send it to.
    fn send_due(&mut self, now: Instant) -> Result<(), NodeError> {
        if self.replica.leader().is_none() {
            return Ok(());
        }
        let mut commands = self.clients.commands.take_unsent(now);
        commands.append(&mut self.clients.sessions.take_unsent(now));
        if !commands.is_empty() {
            self.step(Input::Propose { commands })?;
        }
        for read in self.clients.reads.due(now) {
            self.step(Input::Read { read })?;
        }
        Ok(())
    }
}

/// What a client is told of a command that was given back for this reason, if it is not to be sent again.
fn final_answer(reason: Refusal, size_bytes: usize) -> Option<ClientError> {
    match reason {
        Refusal::Overloaded => Some(ClientError::Overloaded),
        Refusal::TooLong { limit_bytes } => {
            let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
            let limit_bytes = limit_bytes.saturating_sub(SessionCommand::OVERHEAD_BYTES);
            Some(ClientError::TooLarge { size_bytes, limit_bytes })
        }
        _ => None,
    }
}
