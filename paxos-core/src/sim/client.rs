//! Simulated clients: each has one operation at a time, and repeats it at another node if it gets no answer.

use bytes::Bytes;

use super::disk::Disk;
use super::event::Event;
use super::history::{Action, Operation};
use super::machine::Machine;
use super::scenario::TICK_UNITS;
use super::world::World;
use crate::random::Random;
use crate::session::{Outcome, SessionCommand, SessionId};
use crate::{Input, ReadId};

/// The longest that a client waits before it asks again: in calm, every node must have been asked in time.
const MAX_PATIENCE_TICKS: u64 = 200;

/// How long a client waits before it tries another node, after one that was down or has refused.
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
    /// Each planned event of this client carries the number that was current; an event with an older number
    /// is ignored.
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

    /// Begins the next operation, or repeats the one that waits. `numbers` counts up for every operation.
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
            SessionCommand::Apply { session, sequence, unanswered_from, command }
        } else {
            self.nonce = *numbers;
            SessionCommand::Open { nonce: *numbers }
        };
        let command = request.encode();
        self.waits_for = Waiting::Command(command.clone());
        Asking::Propose(command)
    }

    /// How long it waits for an answer: `first_ticks` at first, and twice as long each time that it asks
    /// again, so that repeated commands do not pile up at a slow leader.
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

    /// Takes the outcome of a command that its node has executed; returns whether the client waits for it.
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

    /// What it asks for, if that is anything of the state machine.
    fn action(&self) -> Option<&Action> {
        let asks = match self.waits_for {
            Waiting::Nothing => false,
            Waiting::Command(_) => self.session.is_some(), // Else it opens one.
            Waiting::Read(_) => true,
        };
        self.history.last().filter(|_| asks).map(|operation| &operation.action)
    }

    /// The query of the read under way.
    pub(super) fn query(&self) -> Option<Bytes> {
        match &self.history.last()?.action {
            Action::Query(query) => Some(query.clone()),
            Action::Command(_) => None,
        }
    }
}

impl<M: Machine, D: Disk> World<M, D> {
    /// `node`, or once calm has returned the next one that is a member: a run must not end before a client
    /// has found one among nodes that know no leader.
    fn member_to_ask(&self, node: usize) -> usize {
        let count = self.nodes.len();
        let mut next = (node..node + count).map(|next| next % count);
        next.find(|next| !self.is_calm || self.must_agree(&self.nodes[*next])).unwrap_or(node)
    }

    /// A client begins its next operation, or repeats the one that it waits for.
    pub(super) fn on_client(&mut self, index: usize, turn: u64) {
        let now = self.schedule.now_units();
        let client = &mut self.clients[index];
        if client.turn != turn || (client.is_idle() && !self.clients_may_begin) {
            return;
        }
        if self.client_random.one_in(50) {
            client.node = self.client_random.index(self.nodes.len());
        } else if !client.is_idle() || !self.nodes[client.node].is_up() {
            client.node = (client.node + 1) % self.nodes.len();
        }
        let node = self.member_to_ask(self.clients[index].node);
        let client = &mut self.clients[index];
        client.node = node;
        let random = &mut self.client_random;
        let asking = client.ask::<M>(now, self.scenario.reads, &mut self.numbers, random);
        let input = match asking {
            Asking::Propose(command) => Input::Propose { commands: vec![command] },
            Asking::Read => {
                self.numbers += 1;
                let read = ReadId(self.numbers);
                client.waits_for = Waiting::Read(read);
                if self.nodes[node].is_up() {
                    self.nodes[node].reads.insert(read, (index, self.observer.last_applied()));
                }
                Input::Read { read }
            }
        };
        let what = if matches!(input, Input::Read { .. }) { "a read" } else { "a command" };
        let id = self.nodes[node].id;
        self.trace.event(now, || format!("client {index} asks node {id} for {what}"));
        if let Some(action) = self.clients[index].action().filter(|_| self.clients[index].asked_again == 0) {
            self.trace.machine(now, || format!("client {index} asks node {id}: {}", M::show(action)));
        }
        let is_paused = self.nodes[node].paused_until_units > now;
        let patience_ticks = if self.nodes[node].is_up() {
            self.clients[index].patience_ticks(self.scenario.retry_ticks)
        } else {
            TURNED_AWAY_TICKS
        };
        self.wake_client(index, patience_ticks * TICK_UNITS);
        if !is_paused {
            self.step(node, input);
        }
    }

    /// Adds to a brief trace that a client was answered.
    pub(super) fn tell_answer(&mut self, client: usize) {
        if let Some(Operation { action, answered: Some((at_units, answer)), .. }) =
            self.clients[client].history.last()
            && *at_units == self.schedule.now_units()
        {
            let shown = || format!("client {client} is answered: {}", M::show_answer(action, answer));
            self.trace.machine(*at_units, shown);
        }
    }

    pub(super) fn wake_client(&mut self, client: usize, delay_units: u64) {
        self.clients[client].turn += 1;
        self.schedule.after(delay_units, Event::Client(client, self.clients[client].turn));
    }
}
