//! A state machine that costs nothing, for what measures a node and not what it serves.

use std::io;

use bytes::Bytes;
use paxos_node::{Applying, SnapshotWriter, StateMachine};

/// Answers nothing and remembers nothing.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, _: Applying, _: &Bytes) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }

    fn digest(&self) -> u64 {
        0
    }
}
