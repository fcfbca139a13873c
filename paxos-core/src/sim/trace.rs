//! What happened, in Lamport's words.

use crate::{Body, Message, NodeId, Recovered, Slot, Value, Write};

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

    /// Notes what `tell` says, if a trace is kept.
    pub(super) fn event(&mut self, now_units: u64, tell: impl FnOnce() -> String) {
        if self.is_kept {
            self.lines.push(format!("t={:<8} {}", now_units, tell()));
        }
    }

    pub(super) fn send(&mut self, now_units: u64, from: NodeId, message: &Message) {
        self.event(now_units, || format!("node {from} {}", told(&message.body)));
    }

    pub(super) fn receive(&mut self, now_units: u64, to: NodeId, from: NodeId, message: &Message) {
        self.event(now_units, || format!("node {to} hears: node {from} {}", told(&message.body)));
    }

    pub(super) fn synced(&mut self, now_units: u64, node: NodeId, write: &Write) {
        self.event(now_units, || {
            let slots: Vec<u64> = write.entries().iter().map(|(slot, _)| slot.0).collect();
            let hard_state = write.hard_state();
            format!(
                "node {node} has synced: promised {}, chosen through {}, slots {slots:?}",
                hard_state.promised, hard_state.chosen
            )
        });
    }

    pub(super) fn start(&mut self, now_units: u64, node: NodeId, recovered: &Recovered) {
        self.event(now_units, || {
            format!(
                "node {node} starts: promised {}, chosen through {}, {} slots, snapshot of slot {}",
                recovered.hard_state.promised,
                recovered.hard_state.chosen,
                recovered.entries.len(),
                recovered.snapshot.map_or(Slot::ZERO, |meta| meta.slot),
            )
        });
    }

    pub(super) fn apply(&mut self, now_units: u64, node: NodeId, slot: Slot, value: &Value) {
        self.event(now_units, || format!("node {node} applies slot {slot}: {}", short(value)));
    }
}

fn told(body: &Body) -> String {
    match body {
        Body::Probe { ballot } => {
            format!("asks whether others have lost the leader too, for ballot {ballot}")
        }
        Body::Consent { ballot, promised } => format!("consents to {ballot}, having promised {promised}"),
        Body::Prepare { ballot, first } => format!("prepares {ballot} from slot {first} on"),
        Body::Promise { ballot, first, reports, rest } => {
            let slots: Vec<u64> = reports.iter().map(|(slot, _)| slot.0).collect();
            let more = if rest.is_some() { ", more to come" } else { "" };
            format!("promises {ballot}, reporting slots {slots:?} from {first} on{more}")
        }
        Body::Trimmed { below } => format!("has slots before {below} only in a snapshot"),
        Body::Accept { ballot, slot, value, chosen } => {
            format!("asks to accept {ballot} in slot {slot}: {}; chosen through {chosen}", short(value))
        }
        Body::Accepted { ballot, first, last } => format!("has accepted {ballot} in slots {first}..={last}"),
        Body::Reject { ballot, promised } => format!("rejects {ballot}, having promised {promised}"),
        Body::Heartbeat { ballot, chosen, round } => {
            format!("leads under {ballot}, chosen through {chosen}, heartbeat {}", round.0)
        }
        Body::HeartbeatAck { ballot, round } => format!("follows {ballot}, heartbeat {}", round.0),
        Body::Forward { commands } => format!("forwards {} commands", commands.len()),
        Body::ReadRequest { read } => format!("asks where read {} must wait for", read.0),
        Body::ReadGrant { read, slot, .. } => format!("lets read {} wait for slot {slot}", read.0),
        Body::Fetch { first } => format!("asks for chosen values from slot {first} on"),
        Body::Chosen { first, values, chosen } => {
            format!("tells {} chosen values from slot {first} on; chosen through {chosen}", values.len())
        }
        Body::FetchSnapshot { slot, offset } => format!("asks for snapshot {slot} from byte {offset} on"),
        Body::SnapshotChunk { meta, offset, data } => {
            format!("sends {} bytes of snapshot {} from byte {offset} on", data.len(), meta.slot)
        }
    }
}

fn short(value: &Value) -> String {
    if value.is_no_op() {
        return String::from("no-op");
    }
    let fingerprint =
        value.as_bytes().iter().fold(0_u64, |sum, byte| super::machine::mix(sum ^ u64::from(*byte)));
    format!("{} commands (value {:08x})", value.commands().count(), fingerprint as u32)
}
