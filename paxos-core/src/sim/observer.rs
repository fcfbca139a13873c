//! The one who sees everything, and believes only what is on disks.
//!
//! No claim of a replica counts here. A value is chosen when a quorum of disks holds it under one ballot; a promise
//! is given when a disk holds it. Against that the observer holds each message, each applied slot and each answer.

use std::collections::{BTreeMap, HashSet};

use super::rule::{Rule, Violation};
use crate::session::{Outcome, SessionId};
use crate::{Ballot, Body, Config, Entry, Message, Quorums, Recovered, Slot, Value, Write};

/// Members by their bits.
type Nodes = u64;

#[derive(Debug)]
pub(super) struct Observer {
    quorums: Quorums,
    slots: Vec<SlotRecord>,
    nodes: Vec<NodeRecord>,
    /// Who has used a ballot, and in which of its lives.
    ballots: BTreeMap<Ballot, (usize, u64)>,
    /// The state after each slot, as the first one to apply it had it.
    states: Vec<u64>,
    snapshots: BTreeMap<Slot, u32>,
    applied_commands: HashSet<(SessionId, u64)>,
    /// Commands whose clients have been told that they were applied.
    acknowledged: Vec<(SessionId, u64)>,
    pub(super) violation: Option<Violation>,
}

/// What has happened in a slot.
#[derive(Debug, Default)]
struct SlotRecord {
    proposals: Vec<Proposal>,
    chosen: Option<Value>,
}

#[derive(Debug)]
struct Proposal {
    ballot: Ballot,
    value: Value,
    /// On whose disks it has been.
    accepted_by: Nodes,
    /// Whether an accept for it has been seen, and judged by P2c.
    is_judged: bool,
}

#[derive(Debug, Default)]
struct NodeRecord {
    promised: Ballot,
    /// The promise in the last write that was made, which may not be on the disk yet.
    written_promise: Ballot,
    /// For each slot what the disk holds.
    accepted: Vec<Held>,
    /// Every slot up to here is on the disk as chosen, or in a snapshot on it.
    chosen: Slot,
    snapshot: Slot,
    /// The disk has lost entries. It may then have to learn again that others are chosen, though it holds them.
    has_forgotten: bool,
}

#[derive(Clone, Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Accepted(Ballot),
    Chosen,
}

impl Observer {
    pub(super) fn new(config: &Config) -> Observer {
        Observer {
            quorums: config.quorums(),
            slots: Vec::new(),
            nodes: config.members().iter().map(|_| NodeRecord::default()).collect(),
            ballots: BTreeMap::new(),
            states: Vec::new(),
            snapshots: BTreeMap::new(),
            applied_commands: HashSet::new(),
            acknowledged: Vec::new(),
            violation: None,
        }
    }

    /// Takes note of the first broken rule.
    pub(super) fn check(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation { rule, what: what() });
        }
    }

    /// The last slot that has been applied anywhere.
    pub(super) fn last_applied(&self) -> Slot {
        Slot(self.states.len() as u64)
    }

    fn is_chosen(&self, slot: Slot) -> bool {
        self.chosen(slot).is_some()
    }

    fn chosen(&self, slot: Slot) -> Option<&Value> {
        self.slots.get(index(slot))?.chosen.as_ref()
    }

    /// What has been applied anywhere, slot by slot.
    pub(super) fn log(&self) -> impl Iterator<Item = (Slot, &Value)> {
        let slots = (1..=self.last_applied().0).map(Slot);
        slots.map_while(|slot| Some((slot, self.chosen(slot)?)))
    }

    /// A replica has made a write; it will be on the disk after all those made before, or never.
    pub(super) fn on_write(&mut self, node: usize, write: &Write) {
        let before = self.nodes[node].written_promise;
        for (slot, entry) in write.entries() {
            if let Entry::Accepted { ballot, .. } = entry {
                self.check(*ballot >= before, Rule::PromiseKept, || {
                    format!("node #{node} accepts {ballot} in slot {slot} after it has promised {before}")
                });
            }
        }
        self.nodes[node].written_promise = write.hard_state().promised.max(before);
    }

    /// A write is on a disk for good.
    pub(super) fn on_durable(&mut self, node: usize, write: &Write) {
        let promised = write.hard_state().promised;
        let before = self.nodes[node].promised;
        self.check(promised >= before, Rule::NothingTakenBack, || {
            format!("node #{node} had promised {before} and writes {promised}")
        });
        self.nodes[node].promised = promised.max(before);
        for (slot, entry) in write.entries() {
            self.on_entry(node, *slot, entry);
        }
        self.on_watermark(node, write.hard_state().chosen);
    }

    /// A node has started again: its disk must hold all that it held, and may hold more than was known.
    pub(super) fn on_recovered(&mut self, node: usize, recovered: &Recovered) {
        let (promised, record) = (recovered.hard_state.promised, &self.nodes[node]);
        let (before, snapshot) = (record.promised, recovered.snapshot.map_or(Slot::ZERO, |meta| meta.slot));
        let mut missing = None;
        let mut entries = recovered.entries.iter().peekable();
        for (position, held) in record.accepted.iter().enumerate().skip(snapshot.0 as usize) {
            let slot = Slot(position as u64 + 1);
            while entries.peek().is_some_and(|(there, _)| *there < slot) {
                entries.next();
            }
            let there = entries.peek().filter(|(there, _)| *there == slot).map(|(_, entry)| entry);
            let is_kept = match (held, there) {
                (Held::Nothing, _) | (_, Some(Entry::Chosen { .. })) => true,
                (Held::Accepted(ballot), Some(Entry::Accepted { ballot: there, .. })) => there >= ballot,
                (Held::Chosen, Some(Entry::Accepted { .. })) => {
                    slot <= recovered.hard_state.chosen || record.has_forgotten
                }
                (_, None) => slot <= recovered.incomplete_through,
            };
            if !is_kept {
                missing = missing.or(Some(slot));
            }
        }
        self.check(promised >= before, Rule::NothingTakenBack, || {
            format!("node #{node} had promised {before} and comes back with {promised}")
        });
        self.check(missing.is_none(), Rule::NothingTakenBack, || {
            format!("node #{node} comes back without what it held in slot {missing:?}")
        });
        self.nodes[node].promised = promised.max(before);
        self.nodes[node].written_promise = promised;
        if recovered.incomplete_through > Slot::ZERO || snapshot < self.nodes[node].snapshot {
            self.forget(node, recovered);
        }
        self.nodes[node].snapshot = snapshot.max(self.nodes[node].snapshot);
        for (slot, entry) in &recovered.entries {
            self.on_entry(node, *slot, entry);
        }
        self.on_watermark(node, recovered.hard_state.chosen.max(snapshot));
    }

    /// A disk has lost some of what it held.
    fn forget(&mut self, node: usize, recovered: &Recovered) {
        let through = recovered.incomplete_through.max(self.nodes[node].snapshot);
        let through = index(through.next()).min(self.nodes[node].accepted.len());
        self.nodes[node].accepted[..through].fill(Held::Nothing);
        self.nodes[node].chosen = recovered.hard_state.chosen.min(self.nodes[node].chosen);
        self.nodes[node].snapshot = Slot::ZERO;
        self.nodes[node].has_forgotten = true;
    }

    fn on_entry(&mut self, node: usize, slot: Slot, entry: &Entry) {
        match entry {
            Entry::Accepted { ballot, value } => {
                let promised = self.nodes[node].promised;
                self.check(*ballot <= promised, Rule::NothingTakenBack, || {
                    format!("node #{node} accepts {ballot} in slot {slot} without a promise above {promised}")
                });
                let held = self.held(node, slot);
                let goes_back = matches!(held, Held::Accepted(before) if *ballot < *before);
                *held = Held::Accepted(*ballot);
                self.check(!goes_back, Rule::NothingTakenBack, || {
                    format!("node #{node} replaces what it accepted in slot {slot} by {ballot}")
                });
                self.on_acceptance(node, slot, *ballot, value);
            }
            Entry::Chosen { value } => {
                *self.held(node, slot) = Held::Chosen;
                let chosen = self.record(slot).chosen.clone();
                self.check(chosen.as_ref() == Some(value), Rule::OnlyChosenLearned, || {
                    format!("node #{node} takes for chosen in slot {slot} what is not: {chosen:?} is")
                });
            }
        }
    }

    fn on_acceptance(&mut self, node: usize, slot: Slot, ballot: Ballot, value: &Value) {
        let quorum = self.quorums.accept();
        let proposal = self.proposal(slot, ballot, value);
        proposal.accepted_by |= 1 << node;
        if (proposal.accepted_by.count_ones() as usize) < quorum {
            return;
        }
        let chosen = self.record(slot).chosen.get_or_insert_with(|| value.clone());
        let is_same = *chosen == *value;
        self.check(is_same, Rule::OneValueChosen, || {
            format!("in slot {slot} a second value is chosen, under ballot {ballot}")
        });
    }

    /// A disk says that everything up to here is chosen.
    fn on_watermark(&mut self, node: usize, chosen: Slot) {
        let mut slot = self.nodes[node].chosen.max(self.nodes[node].snapshot);
        while slot < chosen {
            slot = slot.next();
            let is_right = self.is_chosen(slot) && self.holds_chosen(node, slot);
            self.check(is_right, Rule::OnlyChosenLearned, || {
                format!("the disk of node #{node} takes slot {slot} for chosen, wrongly")
            });
        }
        self.nodes[node].chosen = slot;
    }

    fn holds_chosen(&self, node: usize, slot: Slot) -> bool {
        match self.nodes[node].accepted.get(index(slot)) {
            _ if slot <= self.nodes[node].snapshot => true,
            Some(Held::Chosen) => true,
            Some(Held::Accepted(ballot)) => {
                let record = &self.slots[index(slot)];
                let accepted = record.proposals.iter().find(|proposal| proposal.ballot == *ballot);
                accepted.is_some_and(|accepted| Some(&accepted.value) == record.chosen.as_ref())
            }
            _ => false,
        }
    }

    pub(super) fn on_send(&mut self, node: usize, life: u64, message: &Message) {
        let promised = self.nodes[node].promised;
        match &message.body {
            Body::Prepare { ballot, .. } => {
                self.check(promised >= *ballot, Rule::DurableBeforeSent, || {
                    format!("node #{node} prepares {ballot}, but its disk holds {promised}")
                });
                let user = *self.ballots.entry(*ballot).or_insert((node, life));
                self.check(user == (node, life), Rule::BallotsUsedOnce, || {
                    format!("node #{node} uses ballot {ballot} a second time")
                });
            }
            Body::Promise { ballot, .. } => {
                self.check(promised >= *ballot, Rule::DurableBeforeSent, || {
                    format!("node #{node} promises {ballot}, but its disk holds {promised}")
                });
            }
            Body::HeartbeatAck { ballot, .. } => {
                let written = self.nodes[node].written_promise;
                self.check(written <= *ballot, Rule::PromiseKept, || {
                    format!("node #{node} follows {ballot} after it has promised {written}")
                });
            }
            Body::Accept { ballot, slot, value, chosen } => {
                let user = self.ballots.get(ballot).copied();
                self.check(user == Some((node, life)), Rule::BallotsUsedOnce, || {
                    format!(
                        "node #{node} proposes under {ballot}, which it has not prepared since it started"
                    )
                });
                self.on_proposal(node, *ballot, *slot, value);
                self.on_claim(node, *chosen);
            }
            Body::Accepted { ballot, first, last } => {
                let mut slot = *first;
                while slot <= *last {
                    let is_durable = match self.nodes[node].accepted.get(index(slot)) {
                        Some(Held::Accepted(held)) if held >= ballot => true,
                        _ => self.is_chosen(slot) && self.holds_chosen(node, slot),
                    };
                    self.check(is_durable, Rule::DurableBeforeSent, || {
                        format!(
                            "node #{node} says it has accepted {ballot} in slot {slot}, its disk does not"
                        )
                    });
                    slot = slot.next();
                }
            }
            Body::Heartbeat { chosen, .. } | Body::ReadGrant { chosen, .. } => self.on_claim(node, *chosen),
            Body::Chosen { first, values, chosen } => {
                self.on_claim(node, *chosen);
                let mut slot = *first;
                for value in values {
                    let is_right = self.chosen(slot) == Some(value);
                    self.check(is_right, Rule::OnlyChosenLearned, || {
                        format!("node #{node} tells as chosen in slot {slot} what is not")
                    });
                    slot = slot.next();
                }
            }
            _ => {}
        }
    }

    /// Somebody tells others that everything up to here is chosen.
    fn on_claim(&mut self, node: usize, chosen: Slot) {
        let is_right = chosen == Slot::ZERO || self.is_chosen(chosen);
        self.check(is_right, Rule::OnlyChosenLearned, || {
            format!("node #{node} tells that slot {chosen} is chosen, which it is not")
        });
    }

    /// Judges a proposal by P2c: is there a quorum of acceptors that have promised its ballot, such that either none
    /// of them has accepted anything below it, or its value is that of the highest proposal that they have?
    fn on_proposal(&mut self, node: usize, ballot: Ballot, slot: Slot, value: &Value) {
        let proposal = self.proposal(slot, ballot, value);
        if std::mem::replace(&mut proposal.is_judged, true) {
            return;
        }
        let quorum = self.quorums.prepare();
        let promised: Vec<usize> =
            (0..self.nodes.len()).filter(|&node| self.nodes[node].promised >= ballot).collect();
        let earlier: Vec<&Proposal> =
            self.slots[index(slot)].proposals.iter().filter(|earlier| earlier.ballot < ballot).collect();
        let highest = |node: usize| {
            let accepted = earlier.iter().filter(|earlier| earlier.accepted_by & (1 << node) != 0);
            accepted.map(|earlier| earlier.ballot).max()
        };
        let bounds: Vec<Option<Ballot>> = promised.iter().map(|&node| highest(node)).collect();
        let allowed = |bound: Option<Ballot>| {
            bounds.contains(&bound) && bounds.iter().filter(|&&held| held <= bound).count() >= quorum
        };
        let same_value = earlier.iter().filter(|earlier| earlier.value == *value);
        let is_allowed = allowed(None) || same_value.map(|earlier| Some(earlier.ballot)).any(allowed);
        self.check(is_allowed, Rule::P2c, || {
            format!("node #{node} proposes under {ballot} in slot {slot} what no quorum of promises allows")
        });
    }

    pub(super) fn on_apply(&mut self, node: usize, slot: Slot, value: &Value, state: u64) {
        let is_chosen = self.chosen(slot) == Some(value);
        self.check(is_chosen, Rule::AppliedInOrder, || {
            format!("node #{node} applies in slot {slot} what is not chosen there")
        });
        if index(slot) == self.states.len() {
            self.states.push(state);
        }
        self.check_state(node, slot, state);
    }

    /// Whether the state of `node` after `slot` is the one that others had.
    pub(super) fn check_state(&mut self, node: usize, slot: Slot, state: u64) {
        let expected = slot.0.checked_sub(1).map_or(Some(state), |_| self.states.get(index(slot)).copied());
        self.check(expected == Some(state), Rule::SameState, || {
            format!("node #{node} is in another state after slot {slot} than others were")
        });
    }

    pub(super) fn on_outcome(&mut self, slot: Slot, key: (SessionId, u64), outcome: &Outcome) {
        // Only the first replica to get here says something new.
        if index(slot) == self.states.len() && matches!(outcome, Outcome::Applied { .. }) {
            let is_first = self.applied_commands.insert(key);
            self.check(is_first, Rule::AppliedOnce, || {
                format!("command {} of session {:?} is applied again in slot {slot}", key.1, key.0)
            });
        }
    }

    /// A client has been told what became of its command.
    pub(super) fn on_acknowledged(&mut self, key: (SessionId, u64), outcome: &Outcome) {
        if matches!(outcome, Outcome::Applied { .. } | Outcome::Repeated { .. }) {
            self.acknowledged.push(key);
        }
    }

    /// The log has been applied once more, from its first slot on; `applied` is what it did to the machine.
    pub(super) fn on_replayed(&mut self, state: u64, applied: &HashSet<(SessionId, u64)>) {
        let expected = self.states.last().copied().unwrap_or(state);
        self.check(state == expected, Rule::SameState, || {
            String::from("the log, applied once more from its first slot on, leads to another state")
        });
        let lost = self.acknowledged.iter().find(|key| !applied.contains(key)).copied();
        self.check(lost.is_none(), Rule::Acknowledged, || {
            format!("a client was told that its command was applied, but the log lacks it: {lost:?}")
        });
    }

    /// A snapshot of `slot` has been taken.
    pub(super) fn on_snapshot(&mut self, node: usize, slot: Slot, checksum: u32) {
        let first = *self.snapshots.entry(slot).or_insert(checksum);
        self.check(first == checksum, Rule::SnapshotIsState, || {
            format!("the snapshot of slot {slot} by node #{node} differs from that of another")
        });
    }

    /// A snapshot is on a disk, whose slots before it may be gone.
    pub(super) fn on_snapshot_stored(&mut self, node: usize, slot: Slot) {
        let record = &mut self.nodes[node];
        record.snapshot = record.snapshot.max(slot);
        record.chosen = record.chosen.max(slot);
    }

    fn record(&mut self, slot: Slot) -> &mut SlotRecord {
        if index(slot) >= self.slots.len() {
            self.slots.resize_with(index(slot) + 1, SlotRecord::default);
        }
        &mut self.slots[index(slot)]
    }

    fn held(&mut self, node: usize, slot: Slot) -> &mut Held {
        let accepted = &mut self.nodes[node].accepted;
        if index(slot) >= accepted.len() {
            accepted.resize(index(slot) + 1, Held::Nothing);
        }
        &mut accepted[index(slot)]
    }

    fn proposal(&mut self, slot: Slot, ballot: Ballot, value: &Value) -> &mut Proposal {
        let proposals = &mut self.record(slot).proposals;
        let place = proposals.iter().position(|proposal| proposal.ballot == ballot).unwrap_or_else(|| {
            let value = value.clone();
            proposals.push(Proposal { ballot, value, accepted_by: 0, is_judged: false });
            proposals.len() - 1
        });
        let is_same = proposals[place].value == *value;
        self.check(is_same, Rule::OneValueProposed, || {
            format!("two values are proposed under {ballot} in slot {slot}")
        });
        &mut self.slots[index(slot)].proposals[place]
    }
}

/// The place of a slot in what is kept for each.
fn index(slot: Slot) -> usize {
    usize::try_from(slot.0.saturating_sub(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
