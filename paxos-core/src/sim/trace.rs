//! The trace of a run, in Lamport's words. Messages look as in `tests/transcripts`, which introduce them.

use std::fmt::Write as _;

use crate::{HardState, Message, NodeId, Recovered, Slot, Value, Write};

/// A trace, if one is kept.
#[derive(Debug)]
pub(super) struct Trace {
    is_kept: bool,
    pub(super) lines: Vec<String>,
}

impl Trace {
    pub(super) fn new(is_kept: bool) -> Trace {
        Trace { is_kept, lines: Vec::new() }
    }

    /// Adds a line, if a trace is kept.
    pub(super) fn event(&mut self, now_units: u64, tell: impl FnOnce() -> String) {
        if self.is_kept {
            self.lines.push(format!("t={:<8} {}", now_units, tell()));
        }
    }

    pub(super) fn send(&mut self, now_units: u64, from: NodeId, message: &Message) {
        self.event(now_units, || format!("node {from} sends: {}", message.body));
    }

    pub(super) fn receive(&mut self, now_units: u64, to: NodeId, from: NodeId, message: &Message) {
        self.event(now_units, || format!("node {to} receives from {from}: {}", message.body));
    }

    pub(super) fn synced(&mut self, now_units: u64, node: NodeId, write: &Write) {
        self.event(now_units, || {
            let HardState { promised, chosen } = write.hard_state();
            let mut line = format!("node {node} has synced: promised {promised}, chosen through {chosen}");
            for (slot, entry) in write.entries() {
                let _ = write!(line, "; slot {slot} = {entry}"); // A string takes all that is written to it.
            }
            line
        });
    }

    pub(super) fn start(&mut self, now_units: u64, node: NodeId, recovered: &Recovered) {
        self.event(now_units, || {
            format!(
                "node {node} starts: promised {}, chosen through {}, {} slots, snapshot of slot {}",
                recovered.hard_state.promised,
                recovered.hard_state.chosen,
                recovered.entries.len(),
                recovered.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot),
            )
        });
    }

    pub(super) fn apply(&mut self, now_units: u64, node: NodeId, slot: Slot, value: &Value) {
        self.event(now_units, || format!("node {node} applies slot {slot}: {value}"));
    }
}
