//! The trace of a run, in Lamport's words. Messages look as in `tests/transcripts`, which introduce them.

use std::fmt::Write as _;

use crate::{HardState, Message, NodeId, Recovered, Slot, Value, Write};

/// What a trace tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Detail {
    /// What the state machine sees, and what befalls the nodes.
    Machine,
    /// All that nodes send, receive, store and apply, and what befalls them.
    Everything,
}

/// A trace, if one is kept.
#[derive(Debug)]
pub(super) struct Trace {
    detail: Option<Detail>,
    pub(super) lines: Vec<String>,
}

impl Trace {
    pub(super) fn new(detail: Option<Detail>) -> Trace {
        Trace { detail, lines: Vec::new() }
    }

    /// Adds a line to a trace of everything.
    pub(super) fn event(&mut self, now_units: u64, tell: impl FnOnce() -> String) {
        if self.detail == Some(Detail::Everything) {
            self.add(now_units, &tell());
        }
    }

    /// Adds a line about what befalls a node, to any trace.
    pub(super) fn trouble(&mut self, now_units: u64, tell: impl FnOnce() -> String) {
        if self.detail.is_some() {
            self.add(now_units, &tell());
        }
    }

    /// Adds a line about what the state machine sees, to a brief trace.
    pub(super) fn machine(&mut self, now_units: u64, tell: impl FnOnce() -> String) {
        if self.detail == Some(Detail::Machine) {
            self.add(now_units, &tell());
        }
    }

    fn add(&mut self, now_units: u64, line: &str) {
        self.lines.push(format!("t={now_units:<8} {line}"));
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
        let snapshot = recovered.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot);
        self.event(now_units, || {
            format!(
                "node {node} starts: promised {}, chosen through {}, {} slots, snapshot of slot {snapshot}",
                recovered.hard_state.promised,
                recovered.hard_state.chosen,
                recovered.entries.len(),
            )
        });
        self.machine(now_units, || match snapshot {
            Slot::ZERO => format!("node {node} starts with an empty state"),
            slot => format!("node {node} starts with the snapshot of slot {slot}"),
        });
    }

    pub(super) fn apply(&mut self, now_units: u64, node: NodeId, slot: Slot, value: &Value) {
        self.event(now_units, || format!("node {node} applies slot {slot}: {value}"));
    }
}
