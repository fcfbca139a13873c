//! Commands of this node's clients under the node's own session.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::Slot;
use paxos_core::session::{Outcome, SessionCommand, SessionId};

use super::numbered::Numbered;
use super::{MAX_DOUBLINGS, Reply, answer_now, give_up};
use crate::client::{Applied, ClientError};
use crate::runtime::replicated::{SessionAnswer, SessionQuery};

/// Commands that wait to be applied, and the session under which they were sent.
#[derive(Debug)]
pub(crate) struct PendingCommands {
    session: OwnSession,
    /// Their numbers are their sequences.
    waiting: Numbered<WaitingCommand>,
    /// Sequences to send at the next opportunity; some may have been answered meanwhile.
    unsent: VecDeque<u64>,
    retry_interval: Duration,
}

#[derive(Debug)]
enum OwnSession {
    /// None yet; the nonce identifies the one that this node asked for.
    Opening {
        nonce: u64,
        sent_at: Option<Instant>,
    },
    Open(SessionId),
}

#[derive(Debug)]
struct WaitingCommand {
    command: Bytes,
    reply: Reply<Applied>,
    since: Instant,
    deadline: Instant,
    /// How often it was handed to the replica and not given back.
    attempts: u32,
    next_attempt: Instant,
}

impl PendingCommands {
    pub(crate) fn new(nonce: u64, retry_interval: Duration) -> PendingCommands {
        PendingCommands {
            session: OwnSession::Opening { nonce, sent_at: None },
            waiting: Numbered::default(),
            unsent: VecDeque::new(),
            retry_interval,
        }
    }

    /// How many places for commands are taken. Commands that were answered while an older one waits count
    /// too: the session has to remember their replies until then.
    pub(crate) fn len(&self) -> usize {
        self.waiting.span()
    }

    pub(crate) fn add(&mut self, command: Bytes, reply: Reply<Applied>, now: Instant, deadline: Instant) {
        let waiting = WaitingCommand { command, reply, since: now, deadline, attempts: 0, next_attempt: now };
        self.unsent.push_back(self.waiting.push(waiting));
    }

    /// Queues everything for sending again: the leader has changed.
    pub(crate) fn retry_all(&mut self) {
        if let OwnSession::Opening { sent_at, .. } = &mut self.session {
            *sent_at = None;
        }
        self.unsent = self.waiting.iter().map(|(sequence, _)| sequence).collect();
    }

    /// Queues overdue commands for sending again.
    pub(crate) fn retry_overdue(&mut self, now: Instant) {
        if self.unsent.is_empty() {
            let overdue = self.waiting.iter().filter(|(_, waiting)| waiting.next_attempt <= now);
            self.unsent = overdue.map(|(sequence, _)| sequence).collect();
        }
    }

    /// The requests to propose now. Until the session is open that is the request to open it, and no more.
    pub(crate) fn take_unsent(&mut self, now: Instant) -> Vec<Bytes> {
        if self.unsent.is_empty() {
            return Vec::new();
        }
        let session = match &mut self.session {
            OwnSession::Open(session) => *session,
            OwnSession::Opening { nonce, sent_at } => {
                if sent_at.is_some_and(|sent_at| now < sent_at + self.retry_interval) {
                    return Vec::new();
                }
                *sent_at = Some(now);
                return vec![SessionCommand::Open { nonce: *nonce }.encode()];
            }
        };
        let unanswered_from = self.waiting.first();
        let mut requests = Vec::with_capacity(self.unsent.len());
        for sequence in self.unsent.drain(..) {
            let Some(waiting) = self.waiting.get_mut(sequence) else { continue };
            waiting.next_attempt = now + self.retry_interval * 2u32.pow(waiting.attempts.min(MAX_DOUBLINGS));
            waiting.attempts += 1;
            let command = waiting.command.clone();
            requests.push(SessionCommand::Apply { session, sequence, unanswered_from, command }.encode());
        }
        requests
    }

    /// The node's session, if it is open.
    pub(crate) fn session(&self) -> Option<SessionId> {
        if let OwnSession::Open(session) = self.session { Some(session) } else { None }
    }

    /// The replica has given a command back without proposing it. `answer` is for its client, unless an
    /// earlier attempt may have been proposed.
    pub(crate) fn given_back(&mut self, sequence: u64, answer: Option<ClientError>) {
        let Some(waiting) = self.waiting.get_mut(sequence) else { return };
        waiting.attempts = waiting.attempts.saturating_sub(1);
        if let Some(answer) = answer.and_then(|answer| answer_now(answer, waiting.attempts)) {
            self.answer(sequence, Err(answer));
        }
    }

    /// A request of some node was executed. If it is one of this node's, answers it and returns since when it
    /// waited.
    pub(crate) fn on_executed(
        &mut self,
        slot: Slot,
        command: Option<(SessionId, u64)>,
        outcome: Outcome,
    ) -> Option<Instant> {
        if let Outcome::Opened { session, nonce } = outcome {
            if matches!(self.session, OwnSession::Opening { nonce: ours, .. } if ours == nonce) {
                self.session = OwnSession::Open(session);
            }
            return None;
        }
        let (session, sequence) = command?;
        if !matches!(self.session, OwnSession::Open(ours) if ours == session) {
            return None;
        }
        let result = match outcome {
            Outcome::Applied { reply } => Ok(Applied { slot, response: reply }),
            Outcome::Repeated { slot, reply: Some(response) } => Ok(Applied { slot, response }),
            Outcome::UnknownSession => {
                self.session_lost();
                return None;
            }
            _ => Err(ClientError::OutcomeUnknown),
        };
        self.answer(sequence, result)
    }

    /// What to look up in the sessions of a snapshot that replaces the state.
    pub(crate) fn query(&self) -> Option<SessionQuery> {
        let session = self.session()?;
        Some(SessionQuery { session, sequences: self.waiting.iter().map(|(sequence, _)| sequence).collect() })
    }

    /// A snapshot has replaced the state: answers from its sessions what was applied on the way.
    pub(crate) fn on_restored(&mut self, answer: SessionAnswer) {
        if !matches!(self.session, OwnSession::Open(ours) if ours == answer.session) {
            return;
        }
        let Some(found) = answer.found else { return self.session_lost() };
        for (sequence, slot, reply) in found {
            let result = reply.map(|response| Applied { slot, response });
            self.answer(sequence, result.ok_or(ClientError::OutcomeUnknown));
        }
    }

    /// Answers everything whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) {
        // Deadlines ascend with sequences, as all requests have the same timeout.
        while let Some(expired) = self.waiting.pop_first_if(|first| first.deadline <= now) {
            let _ = expired.reply.send(Err(give_up(expired.attempts)));
        }
    }

    /// Answers what was never handed to the replica.
    pub(crate) fn refuse_unsent(&mut self, error: ClientError) {
        let unsent = self.waiting.iter().filter(|(_, waiting)| waiting.attempts == 0);
        let unsent: Vec<u64> = unsent.map(|(sequence, _)| sequence).collect();
        for sequence in unsent {
            self.answer(sequence, Err(error));
        }
    }

    /// Answers everything, as the node stops.
    pub(crate) fn stop(&mut self) {
        while let Some(waiting) = self.waiting.pop_first_if(|_| true) {
            let _ = waiting.reply.send(Err(give_up(waiting.attempts)));
        }
    }

    /// The session was evicted: whether the commands sent under it were applied can no longer be known.
    fn session_lost(&mut self) {
        let OwnSession::Open(lost) = self.session else { return };
        tracing::warn!(session = lost.slot.0, "the node's session was evicted; opening another");
        let nonce = lost.slot.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.waiting.first();
        self.session = OwnSession::Opening { nonce, sent_at: None };
        let sent: Vec<u64> =
            self.waiting.iter().filter(|(_, waiting)| waiting.attempts > 0).map(|(key, _)| key).collect();
        for sequence in sent {
            self.answer(sequence, Err(ClientError::OutcomeUnknown));
        }
    }

    fn answer(&mut self, sequence: u64, result: Result<Applied, ClientError>) -> Option<Instant> {
        let waiting = self.waiting.remove(sequence)?;
        let _ = waiting.reply.send(result); // A client that went away wants no answer.
        Some(waiting.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// The answer to a command that was sent `times_sent` times and is then given back as too long.
    fn answer_to_what_is_too_long(times_sent: u32) -> Result<Applied, ClientError> {
        let mut now = Instant::now();
        let mut commands = PendingCommands::new(1, Duration::from_millis(1));
        let session = SessionId { slot: Slot(1), index: 0 };
        commands.on_executed(Slot(1), None, Outcome::Opened { session, nonce: 1 });
        let (reply, mut answer) = oneshot::channel();
        commands.add(Bytes::new(), reply, now, now + Duration::from_secs(5));
        for _ in 0..times_sent {
            commands.retry_overdue(now);
            assert_eq!(commands.take_unsent(now).len(), 1);
            now += Duration::from_secs(1);
        }
        commands.given_back(1, None);
        assert!(answer.try_recv().is_err(), "it is sent again");
        commands.retry_overdue(now);
        assert_eq!(commands.take_unsent(now).len(), 1);
        commands.given_back(1, Some(ClientError::TooLarge { size_bytes: 9, limit_bytes: 8 }));
        answer.try_recv().expect("there is no use in waiting")
    }

    #[test]
    fn a_command_that_the_leader_finds_too_long_is_answered_at_once() {
        let too_large = ClientError::TooLarge { size_bytes: 9, limit_bytes: 8 };
        assert_eq!(answer_to_what_is_too_long(1).map(|_| ()), Err(too_large), "it was never taken");
        let unknown = ClientError::OutcomeUnknown;
        assert_eq!(
            answer_to_what_is_too_long(2).map(|_| ()),
            Err(unknown),
            "another leader may have taken it"
        );
    }

    #[test]
    fn a_command_that_waits_keeps_the_places_of_those_answered_behind_it() {
        let now = Instant::now();
        let mut commands = PendingCommands::new(1, Duration::from_secs(1));
        let mut answers: Vec<_> = (0..3)
            .map(|_| {
                let (reply, answer) = oneshot::channel();
                commands.add(Bytes::new(), reply, now, now + Duration::from_secs(5));
                answer
            })
            .collect();
        let session = SessionId { slot: Slot(1), index: 0 };
        commands.on_executed(Slot(1), None, Outcome::Opened { session, nonce: 1 });
        assert_eq!(commands.take_unsent(now).len(), 3);
        let applied = || Outcome::Applied { reply: Bytes::new() };
        for sequence in [2, 3] {
            assert_eq!(commands.on_executed(Slot(2), Some((session, sequence)), applied()), Some(now));
        }
        assert_eq!(commands.len(), 3, "the session still keeps the replies to the second and the third");
        assert!(answers[0].try_recv().is_err() && answers[1].try_recv().is_ok());
        commands.on_executed(Slot(3), Some((session, 1)), applied());
        assert_eq!(commands.len(), 0);
        assert_eq!(commands.on_executed(Slot(4), Some((session, 2)), applied()), None, "answered before");
    }
}
