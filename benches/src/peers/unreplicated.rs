//! No protocol at all under the driver that all share: what clients and inboxes cost alone.

use std::convert::Infallible;

use bytes::Bytes;

use super::driver::{Replica, Turn};

/// Counts commands as committed as soon as they come. Replica 1 is the one that takes them.
#[derive(Debug)]
pub struct Unreplicated {
    leads: bool,
    committed: usize,
}

impl Unreplicated {
    /// Replica `id`.
    #[must_use]
    pub fn new(id: u64) -> Unreplicated {
        Unreplicated { leads: id == 1, committed: 0 }
    }
}

impl Replica for Unreplicated {
    type Message = ();
    type Write = Infallible;

    fn tick(&mut self) {}

    fn receive(&mut self, _: u64, (): ()) {}

    fn propose(&mut self, commands: Vec<Bytes>) {
        self.committed += commands.len();
    }

    fn finish_turn(&mut self, turn: &mut Turn<Self>) {
        turn.committed = std::mem::take(&mut self.committed);
    }

    fn stored(&mut self, never: Infallible, _: &mut Turn<Self>) {
        match never {}
    }

    fn is_leader(&self) -> bool {
        self.leads
    }
}
