//! Requests under the sessions of clients.
//!
//! Unlike the commands of the [node's own session](super::commands) they are numbered by the client, which
//! may send the same command twice, to several nodes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::Slot;
use paxos_core::session::{Outcome, SessionCommand, SessionId};
use tokio::sync::oneshot;

use super::{MAX_DOUBLINGS, answer_now, give_up};
use crate::client::{Applied, ClientError};
use crate::runtime::replicated::{Executed, SessionAnswer, SessionQuery};

/// Identifies a request when it is executed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum RequestKey {
    Opening { nonce: u64 },
    Command { session: SessionId, sequence: u64 },
}

/// The client that waits for a request.
#[derive(Debug)]
enum SessionReply {
    Opened(oneshot::Sender<Result<SessionId, ClientError>>),
    Applied(oneshot::Sender<Result<Applied, ClientError>>),
}

/// The result of a request.
enum Answer {
    Opened(SessionId),
    Applied(Applied),
}

impl SessionReply {
    fn send(self, answer: Result<Answer, ClientError>) {
        // A client that went away wants no answer.
        match (self, answer) {
            (SessionReply::Opened(reply), Ok(Answer::Opened(session))) => drop(reply.send(Ok(session))),
            (SessionReply::Applied(reply), Ok(Answer::Applied(applied))) => drop(reply.send(Ok(applied))),
            (SessionReply::Opened(reply), Err(error)) => drop(reply.send(Err(error))),
            (SessionReply::Applied(reply), Err(error)) => drop(reply.send(Err(error))),
            (SessionReply::Opened(_) | SessionReply::Applied(_), Ok(_)) => {
                unreachable!("the key of a request tells which answer it gets")
            }
        }
    }
}

#[derive(Debug)]
struct Waiting {
    request: Bytes,
    reply: SessionReply,
    deadline: Instant,
    /// How often it was handed to the replica and not given back.
    attempts: u32,
    next_attempt: Instant,
}

/// Requests that wait to be executed; several clients may wait for the same one.
#[derive(Debug)]
pub(crate) struct PendingSessions {
    waiting: BTreeMap<RequestKey, Vec<Waiting>>,
    /// How many wait.
    count: usize,
    has_unsent: bool,
    retry_interval: Duration,
}

impl PendingSessions {
    pub(crate) fn new(retry_interval: Duration) -> PendingSessions {
        PendingSessions { waiting: BTreeMap::new(), count: 0, has_unsent: false, retry_interval }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Opens a session; `nonce` must be random.
    pub(crate) fn open(
        &mut self,
        nonce: u64,
        reply: oneshot::Sender<Result<SessionId, ClientError>>,
        now: Instant,
        deadline: Instant,
    ) {
        let request = SessionCommand::Open { nonce }.encode();
        self.add(RequestKey::Opening { nonce }, request, SessionReply::Opened(reply), now, deadline);
    }

    /// Adds the command of this number of a session.
    pub(crate) fn propose(
        &mut self,
        (session, sequence): (SessionId, u64),
        command: Bytes,
        reply: oneshot::Sender<Result<Applied, ClientError>>,
        now: Instant,
        deadline: Instant,
    ) {
        let request =
            SessionCommand::Apply { session, sequence, unanswered_from: sequence, command }.encode();
        self.add(
            RequestKey::Command { session, sequence },
            request,
            SessionReply::Applied(reply),
            now,
            deadline,
        );
    }

    fn add(&mut self, key: RequestKey, request: Bytes, reply: SessionReply, now: Instant, deadline: Instant) {
        let waiting = Waiting { request, reply, deadline, attempts: 0, next_attempt: now };
        self.waiting.entry(key).or_default().push(waiting);
        self.count += 1;
        self.has_unsent = true;
    }

    /// Queues everything for sending again: the leader has changed.
    pub(crate) fn retry_all(&mut self, now: Instant) {
        for waiting in self.waiting.values_mut().flatten() {
            waiting.next_attempt = now;
        }
        self.has_unsent = true;
    }

    /// Queues overdue requests for resending, and answers those whose deadline has passed.
    pub(crate) fn on_tick(&mut self, now: Instant) {
        self.has_unsent |= !self.waiting.is_empty();
        self.waiting.retain(|_, waiting| {
            for expired in waiting.extract_if(.., |waiting| waiting.deadline <= now) {
                self.count -= 1;
                expired.reply.send(Err(give_up(expired.attempts)));
            }
            !waiting.is_empty()
        });
    }

    /// The requests to propose now.
    pub(crate) fn take_unsent(&mut self, now: Instant) -> Vec<Bytes> {
        if !std::mem::take(&mut self.has_unsent) {
            return Vec::new();
        }
        let unsent = self.waiting.values_mut().flatten().filter(|waiting| waiting.next_attempt <= now);
        unsent
            .map(|waiting| {
                let pause = self.retry_interval * 2u32.pow(waiting.attempts.min(MAX_DOUBLINGS));
                waiting.next_attempt = now + pause;
                waiting.attempts += 1;
                waiting.request.clone()
            })
            .collect()
    }

    /// As [`PendingCommands::given_back`](super::PendingCommands::given_back).
    pub(crate) fn given_back(&mut self, session: SessionId, sequence: u64, answer: Option<ClientError>) {
        let Some(waiting) = self.waiting.get_mut(&RequestKey::Command { session, sequence }) else { return };
        for waiting in waiting.iter_mut() {
            waiting.attempts = waiting.attempts.saturating_sub(1);
        }
        let Some(answer) = answer else { return };
        for refused in waiting.extract_if(.., |waiting| answer_now(answer, waiting.attempts).is_some()) {
            self.count -= 1;
            refused.reply.send(Err(answer_now(answer, refused.attempts).unwrap_or(answer)));
        }
    }

    /// A request of some node was executed: answers the clients that wait for it here.
    pub(crate) fn on_executed(&mut self, slot: Slot, executed: &Executed) {
        if self.waiting.is_empty() {
            return;
        }
        let (key, opened) = match (&executed.outcome, executed.command) {
            (Outcome::Opened { session, nonce }, _) => {
                (RequestKey::Opening { nonce: *nonce }, Some(*session))
            }
            (_, Some((session, sequence))) => (RequestKey::Command { session, sequence }, None),
            (_, None) => return,
        };
        for waiting in self.waiting.remove(&key).into_iter().flatten() {
            self.count -= 1;
            waiting.reply.send(match opened {
                Some(session) => Ok(Answer::Opened(session)),
                None => command_answer(slot, &executed.outcome).map(Answer::Applied),
            });
        }
    }

    /// What to look up in the sessions of a snapshot that replaces the state.
    pub(crate) fn queries(&self) -> Vec<SessionQuery> {
        let mut queries: Vec<SessionQuery> = Vec::new();
        for key in self.waiting.keys() {
            let RequestKey::Command { session, sequence } = *key else { continue };
            match queries.last_mut() {
                Some(query) if query.session == session => query.sequences.push(sequence),
                _ => queries.push(SessionQuery { session, sequences: vec![sequence] }),
            }
        }
        queries
    }

    /// A snapshot has replaced the state: answers from its sessions what was applied on the way.
    pub(crate) fn on_restored(&mut self, answer: &SessionAnswer) {
        // Commands of a session that does not exist any more are proposed again, and refused then.
        for (sequence, slot, reply) in answer.found.iter().flatten() {
            let outcome = Outcome::Repeated { slot: *slot, reply: reply.clone() };
            let command = Some((answer.session, *sequence));
            self.on_executed(*slot, &Executed { command, outcome });
        }
    }

    /// Answers what was never handed to the replica.
    pub(crate) fn refuse_unsent(&mut self, error: ClientError) {
        self.waiting.retain(|_, waiting| {
            for unsent in waiting.extract_if(.., |waiting| waiting.attempts == 0) {
                self.count -= 1;
                unsent.reply.send(Err(error));
            }
            !waiting.is_empty()
        });
    }

    /// Answers everything, as the node stops.
    pub(crate) fn stop(&mut self) {
        self.count = 0;
        for waiting in std::mem::take(&mut self.waiting).into_values().flatten() {
            waiting.reply.send(Err(give_up(waiting.attempts)));
        }
    }
}

fn command_answer(slot: Slot, outcome: &Outcome) -> Result<Applied, ClientError> {
    match outcome {
        Outcome::Applied { reply } => Ok(Applied { slot, response: reply.clone() }),
        Outcome::Repeated { slot, reply: Some(reply) } => {
            Ok(Applied { slot: *slot, response: reply.clone() })
        }
        Outcome::Repeated { slot, reply: None } => Err(ClientError::AppliedBefore { slot: *slot }),
        Outcome::AlreadyAnswered => Err(ClientError::SessionAhead),
        Outcome::UnknownSession => Err(ClientError::SessionLost),
        Outcome::Opened { .. } | Outcome::TooManyUnanswered => Err(ClientError::OutcomeUnknown),
    }
}
