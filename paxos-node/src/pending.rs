//! Requests of this node's clients that are not answered yet.
//!
//! Commands wait here under the node's session until this node itself applies them, and are sent again when a
//! new leader appears or nothing happens for too long. A command that was never handed to a replica can be
//! refused for certain; any other that times out has an unknown outcome.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::session::{Outcome, Request, SessionId};
use paxos_core::{ReadId, Slot};
use tokio::sync::oneshot;

use crate::client::{Applied, ClientError};
use crate::numbered::Numbered;

type Reply<T> = oneshot::Sender<Result<T, ClientError>>;

/// Commands that wait to be applied, and the session they wait under.
#[derive(Debug)]
pub(crate) struct PendingCommands {
    session: Session,
    /// Their numbers are their sequences.
    waiting: Numbered<WaitingCommand>,
    /// Sequences to be sent at the next opportunity; some may have been answered meanwhile.
    unsent: VecDeque<u64>,
    retry_interval: Duration,
}

#[derive(Debug)]
enum Session {
    /// None yet; the nonce tells the one that opens for us.
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
            session: Session::Opening { nonce, sent_at: None },
            waiting: Numbered::default(),
            unsent: VecDeque::new(),
            retry_interval,
        }
    }

    /// How many places for commands are taken. Those that were answered while one before them waits count, too: the
    /// session has to remember their replies as long.
    pub(crate) fn len(&self) -> usize {
        self.waiting.span()
    }

    pub(crate) fn add(&mut self, command: Bytes, reply: Reply<Applied>, now: Instant, deadline: Instant) {
        let waiting = WaitingCommand { command, reply, since: now, deadline, attempts: 0, next_attempt: now };
        self.unsent.push_back(self.waiting.push(waiting));
    }

    /// Has everything that waits sent at once: whoever was to propose it no longer leads.
    pub(crate) fn retry_all(&mut self) {
        if let Session::Opening { sent_at, .. } = &mut self.session {
            *sent_at = None;
        }
        self.unsent = self.waiting.iter().map(|(sequence, _)| sequence).collect();
    }

    /// Has sent again what was not applied for too long.
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
            Session::Open(session) => *session,
            Session::Opening { nonce, sent_at } => {
                if sent_at.is_some_and(|sent_at| now < sent_at + self.retry_interval) {
                    return Vec::new();
                }
                *sent_at = Some(now);
                return vec![Request::Open { nonce: *nonce }.encode()];
            }
        };
        let unanswered_from = self.waiting.first();
        let mut requests = Vec::with_capacity(self.unsent.len());
        for sequence in self.unsent.drain(..) {
            let Some(waiting) = self.waiting.get_mut(sequence) else { continue };
            waiting.next_attempt = now + self.retry_interval * 2u32.pow(waiting.attempts.min(4));
            waiting.attempts += 1;
            let command = waiting.command.clone();
            requests.push(Request::Apply { session, sequence, unanswered_from, command }.encode());
        }
        requests
    }

    /// The replica has given a request back: it has gone nowhere this time.
    pub(crate) fn given_back(&mut self, request: Bytes, is_overload: bool) {
        match Request::decode(request) {
            Ok(Request::Apply { sequence, .. }) => {
                let Some(waiting) = self.waiting.get_mut(sequence) else { return };
                waiting.attempts = waiting.attempts.saturating_sub(1);
                if is_overload && waiting.attempts == 0 {
                    self.answer(sequence, Err(ClientError::Overloaded));
                }
            }
            Ok(Request::Open { .. }) | Err(_) => {}
        }
    }

    /// A request of some node was carried out. If it is one of ours, answers it and tells since when it waited.
    pub(crate) fn on_executed(
        &mut self,
        slot: Slot,
        command: Option<(SessionId, u64)>,
        outcome: Outcome,
    ) -> Option<Instant> {
        if let Outcome::Opened { session, nonce } = outcome {
            if matches!(self.session, Session::Opening { nonce: ours, .. } if ours == nonce) {
                self.session = Session::Open(session);
            }
            return None;
        }
        let (session, sequence) = command?;
        if !matches!(self.session, Session::Open(ours) if ours == session) {
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

    /// The state was replaced by a snapshot: what was applied on the way is answered from its sessions.
    pub(crate) fn on_restored(&mut self, sessions: &paxos_core::session::Sessions) {
        let Session::Open(session) = self.session else { return };
        if !sessions.contains(session) {
            return self.session_lost();
        }
        let applied = |sequence| Some((sequence, sessions.find(session, sequence)?));
        let found: Vec<_> = self.waiting.iter().filter_map(|(sequence, _)| applied(sequence)).collect();
        for (sequence, (slot, reply)) in found {
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

    /// Answers everything, as the node stops.
    pub(crate) fn stop(&mut self) {
        while let Some(waiting) = self.waiting.pop_first_if(|_| true) {
            let _ = waiting.reply.send(Err(give_up(waiting.attempts)));
        }
    }

    /// The session was evicted: whether what was sent under it has been applied can no longer be told.
    fn session_lost(&mut self) {
        let Session::Open(lost) = self.session else { return };
        tracing::warn!(session = lost.slot.0, "the node's session was evicted; opening another");
        let nonce = lost.slot.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.waiting.first();
        self.session = Session::Opening { nonce, sent_at: None };
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

fn give_up(attempts: u32) -> ClientError {
    if attempts == 0 { ClientError::NotApplied } else { ClientError::OutcomeUnknown }
}

/// Reads that wait for the word that the state is recent enough; those that came together share one.
#[derive(Debug)]
pub(crate) struct PendingReads {
    next: ReadId,
    groups: BTreeMap<ReadId, ReadGroup>,
    retry_interval: Duration,
}

#[derive(Debug)]
struct ReadGroup {
    replies: Vec<Reply<()>>,
    deadline: Instant,
    next_attempt: Instant,
}

impl PendingReads {
    /// `first` must be random: a late grant of a read from before a restart must not be taken for a new one's.
    pub(crate) fn new(first: ReadId, retry_interval: Duration) -> PendingReads {
        PendingReads { next: first, groups: BTreeMap::new(), retry_interval }
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn add(&mut self, replies: Vec<Reply<()>>, now: Instant, deadline: Instant) {
        self.groups.insert(self.next, ReadGroup { replies, deadline, next_attempt: now });
        self.next = ReadId(self.next.0.wrapping_add(1));
    }

    pub(crate) fn retry_all(&mut self, now: Instant) {
        for group in self.groups.values_mut() {
            group.next_attempt = now;
        }
    }

    pub(crate) fn due(&mut self, now: Instant) -> Vec<ReadId> {
        let due = self.groups.iter_mut().filter(|(_, group)| group.next_attempt <= now);
        due.map(|(read, group)| {
            group.next_attempt = now + self.retry_interval;
            *read
        })
        .collect()
    }

    /// The replica could not serve the read: asks again after a moment.
    pub(crate) fn given_back(&mut self, read: ReadId, now: Instant, pause: Duration) {
        if let Some(group) = self.groups.get_mut(&read) {
            group.next_attempt = now + pause;
        }
    }

    pub(crate) fn on_ready(&mut self, read: ReadId) {
        for reply in self.groups.remove(&read).into_iter().flat_map(|group| group.replies) {
            let _ = reply.send(Ok(()));
        }
    }

    /// Answers everything whose deadline has passed. A read that fails has changed nothing.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.groups.retain(|_, group| {
            let expired = group.deadline <= now;
            if expired {
                group.refuse();
            }
            !expired
        });
    }

    /// Answers everything, as the node stops.
    pub(crate) fn stop(&mut self) {
        for mut group in std::mem::take(&mut self.groups).into_values() {
            group.refuse();
        }
    }
}

impl ReadGroup {
    fn refuse(&mut self) {
        for reply in self.replies.drain(..) {
            let _ = reply.send(Err(ClientError::NotApplied));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
