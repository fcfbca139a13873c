//! Simulated clients: each does one thing at a time, and asks again, elsewhere, what is not answered.

use bytes::Bytes;

use super::history::{Action, Operation};
use super::machine::Machine;
use crate::ReadId;
use crate::random::Random;
use crate::session::{Outcome, Request, SessionId};

/// Patience grows no further than to this: in calm, every node must have been asked in time.
const MAX_PATIENCE_TICKS: u64 = 200;

/// When it tries elsewhere after a node was down or has refused.
pub(super) const TURNED_AWAY_TICKS: u64 = 5;

#[derive(Debug)]
pub(super) struct Client {
    /// The node it asks.
    pub(super) node: usize,
    session: Option<SessionId>,
    nonce: u64,
    sequence: u64,
    pub(super) waits_for: Waiting,
    /// How often it has asked again for what it waits for.
    asked_again: u32,
    /// Each plan to act again carries the number that was current; an older one is ignored.
    pub(super) turn: u64,
    pub(super) history: Vec<Operation>,
}

#[derive(Debug)]
pub(super) enum Waiting {
    Nothing,
    /// A session to open, or a command.
    Command(Bytes),
    Read(ReadId),
}

/// What a client does next.
#[derive(Debug)]
pub(super) enum Asking {
    Propose(Bytes),
    Read,
}

impl Client {
    pub(super) fn new(node: usize) -> Client {
        Client {
            node,
            session: None,
            nonce: 0,
            sequence: 0,
            waits_for: Waiting::Nothing,
            asked_again: 0,
            turn: 0,
            history: Vec::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.waits_for, Waiting::Nothing)
    }

    /// Begins the next operation, or asks once more for the one that waits; `numbers` gives fresh ones.
    pub(super) fn ask<M: Machine>(
        &mut self,
        now_units: u64,
        reads: u64,
        numbers: &mut u64,
        random: &mut Random,
    ) -> Asking {
        self.asked_again = if self.is_idle() { 0 } else { self.asked_again + 1 };
        match &self.waits_for {
            Waiting::Command(command) => return Asking::Propose(command.clone()),
            Waiting::Read(_) => return Asking::Read,
            Waiting::Nothing => {}
        }
        *numbers += 1;
        if random.per_mille(reads) {
            let query = M::draw_query(random);
            self.begin(now_units, Action::Query(query));
            return Asking::Read;
        }
        let request = if let Some(session) = self.session {
            self.sequence += 1;
            let command = M::draw_command(*numbers, random);
            self.begin(now_units, Action::Command(command.clone()));
            let (sequence, unanswered_from) = (self.sequence, self.sequence);
            Request::Apply { session, sequence, unanswered_from, command }
        } else {
            self.nonce = *numbers;
            Request::Open { nonce: *numbers }
        };
        let command = request.encode();
        self.waits_for = Waiting::Command(command.clone());
        Asking::Propose(command)
    }

    /// How long it waits for an answer, if it waited `first_ticks` for the first one: twice as long each time that it
    /// asks again, so that what is asked again does not pile up before a slow leader.
    pub(super) fn patience_ticks(&self, first_ticks: u64) -> u64 {
        (first_ticks << self.asked_again.min(u64::BITS / 4)).min(MAX_PATIENCE_TICKS)
    }

    /// Whether it has proposed `command` at `node` and has not heard of it since.
    pub(super) fn waits_for_command(&self, node: usize, command: &[u8]) -> bool {
        self.node == node && matches!(&self.waits_for, Waiting::Command(waiting) if waiting[..] == *command)
    }

    fn begin(&mut self, invoked_units: u64, action: Action) {
        self.history.push(Operation { invoked_units, answered: None, action });
    }

    /// Hears of a request that its node has applied; returns whether it was the one it waits for.
    pub(super) fn hear(&mut self, now_units: u64, key: Option<(SessionId, u64)>, outcome: &Outcome) -> bool {
        if !matches!(self.waits_for, Waiting::Command(_)) {
            return false;
        }
        match (key, outcome) {
            (None, Outcome::Opened { session, nonce }) => {
                if self.session.is_some() || *nonce != self.nonce {
                    return false;
                }
                self.session = Some(*session);
                self.sequence = 0;
            }
            (Some((session, sequence)), outcome) => {
                if self.session != Some(session) || sequence != self.sequence {
                    return false;
                }
                match outcome {
                    Outcome::Applied { reply } | Outcome::Repeated { reply: Some(reply), .. } => {
                        self.answered(now_units, reply.clone());
                    }
                    // Whether it was applied will never be known; another session is needed.
                    _ => self.session = None,
                }
            }
            _ => return false,
        }
        self.waits_for = Waiting::Nothing;
        true
    }

    pub(super) fn answered(&mut self, now_units: u64, reply: Bytes) {
        let operation = self.history.last_mut().expect("what is answered was begun");
        operation.answered = Some((now_units, reply));
        self.waits_for = Waiting::Nothing;
    }

    /// The query of the read under way.
    pub(super) fn query(&self) -> Option<Bytes> {
        match &self.history.last()?.action {
            Action::Query(query) => Some(query.clone()),
            Action::Command(_) => None,
        }
    }
}
