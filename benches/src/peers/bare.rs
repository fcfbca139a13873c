//! What no replicated log can do without, under the driver that all share: the floor.
//!
//! Whatever comes in a turn goes to all others in one message, and is committed when so many have it that
//! they are a majority. There are no ballots, no slots and no elections, and nobody finds out if something
//! got lost.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;

use super::driver::{Replica, Turn};

/// What a replica keeps is dropped whenever it is so many commands.
const KEPT_COMMANDS: usize = 100_000;
/// The one that takes commands.
const LEADER: u64 = 1;

/// What replicas say to each other.
#[derive(Debug)]
pub enum Message {
    /// Commands to keep.
    Keep(Arc<Vec<Bytes>>),
    /// So many commands more are kept.
    Kept(usize),
}

/// A replica that keeps what it is told.
#[derive(Debug)]
pub struct Bare {
    id: u64,
    kept: Vec<Arc<Vec<Bytes>>>,
    kept_commands: usize,
    messages: Vec<(u64, Message)>,
    /// How many commands each replica has kept, as far as is known here, replica 1 first.
    counts: Vec<usize>,
    committed: usize,
}

impl Bare {
    /// Replica `id` of 1 to `replicas`.
    #[must_use]
    pub fn new(id: u64, replicas: u64) -> Bare {
        let counts = (0..replicas).map(|_| 0).collect();
        Bare { id, kept: Vec::new(), kept_commands: 0, messages: Vec::new(), counts, committed: 0 }
    }

    fn keep(&mut self, commands: Arc<Vec<Bytes>>) {
        self.kept_commands += commands.len();
        self.kept.push(commands);
        if self.kept_commands >= KEPT_COMMANDS {
            self.kept.clear();
            self.kept_commands = 0;
        }
    }

    fn count(&mut self, replica: u64, more: usize) {
        self.counts[usize::try_from(replica - 1).expect("replicas are few")] += more;
    }
}

impl Replica for Bare {
    type Message = Message;
    type Write = Infallible;

    fn tick(&mut self) {}

    fn receive(&mut self, from: u64, message: Message) {
        match message {
            Message::Keep(commands) => {
                self.messages.push((from, Message::Kept(commands.len())));
                self.keep(commands);
            }
            Message::Kept(more) => self.count(from, more),
        }
    }

    fn propose(&mut self, commands: Vec<Bytes>) {
        self.count(self.id, commands.len());
        let commands = Arc::new(commands);
        let others = (1..).take(self.counts.len()).filter(|&other| other != self.id);
        self.messages.extend(others.map(|other| (other, Message::Keep(Arc::clone(&commands)))));
        self.keep(commands);
    }

    fn finish_turn(&mut self, turn: &mut Turn<Self>) {
        turn.messages.append(&mut self.messages);
        let mut counts = self.counts.clone();
        counts.sort_unstable();
        let by_majority = counts[(counts.len() - 1) / 2];
        turn.committed = by_majority - self.committed;
        self.committed = by_majority;
    }

    fn stored(&mut self, never: Infallible, _: &mut Turn<Self>) {
        match never {}
    }

    fn is_leader(&self) -> bool {
        self.id == LEADER
    }
}
