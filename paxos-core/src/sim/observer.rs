//! The observer: it sees everything, trusts only the contents of disks, and checks the rules.
//!
//! No claim of a replica counts here. A value is chosen when a quorum of disks holds it under one ballot; a
//! promise is given when a disk holds it. The observer checks each message, each applied slot and each answer
//! against that.

mod epochs;
mod proposals;
mod snapshots;
mod time;

use std::collections::{BTreeMap, HashSet};

use self::epochs::Epochs;
use self::proposals::{BallotRecord, Proposal};
use self::time::Times;
use super::rule::{Rule, Violation};
use crate::message::{Accept, Accepted, Chosen, Heartbeat, HeartbeatAck, Prepare, Promise, ReadGrant};
use crate::session::{Outcome, SessionId};
use crate::{Ballot, Body, Entry, Epoch, Membership, Message, NodeId, Recovered, Slot, Value, Write};

/// A set of nodes: a bit for each.
type Nodes = u64;

#[derive(Debug)]
pub(super) struct Observer {
    epochs: Epochs,
    /// Every slot up to here is chosen. A slot is judged once all slots before it are: only then it is known
    /// which membership decides it.
    chosen_through: Slot,
    slots: Vec<SlotRecord>,
    nodes: Vec<NodeRecord>,
    ballots: BTreeMap<Ballot, BallotRecord>,
    /// The digest of the state after each slot, of the first node to apply it.
    states: Vec<u64>,
    snapshots: BTreeMap<Slot, u32>,
    applied_commands: HashSet<(SessionId, u64)>,
    /// Commands whose clients have been told that they were applied.
    acknowledged: Vec<(SessionId, u64)>,
    pub(super) times: Times,
    pub(super) violation: Option<Violation>,
}

/// What has happened in a slot.
#[derive(Debug, Default)]
struct SlotRecord {
    proposals: Vec<Proposal>,
    chosen: Option<Value>,
}

#[derive(Debug, Default)]
struct NodeRecord {
    promised: Ballot,
    /// The promise in the last write that was made, which may not be on the disk yet.
    written_promise: Ballot,
    /// What the disk holds in each slot.
    accepted: Vec<Held>,
    /// Every slot up to here is on the disk as chosen, or in a snapshot on it.
    chosen: Slot,
    snapshot: Slot,
    /// The highest watermark that its disk has ever held.
    knew: Slot,
    /// The highest watermark that it has told a leader.
    told: Slot,
    /// The disk has lost entries. The node may have to learn again that entries which it still has are
    /// chosen.
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
    /// An observer of nodes with these ids, members of the cluster or not.
    pub(super) fn new(ids: Vec<NodeId>, founding: Membership) -> Observer {
        Observer {
            nodes: ids.iter().map(|_| NodeRecord::default()).collect(),
            epochs: Epochs::new(ids, founding),
            chosen_through: Slot::ZERO,
            slots: Vec::new(),
            ballots: BTreeMap::new(),
            states: Vec::new(),
            snapshots: BTreeMap::new(),
            applied_commands: HashSet::new(),
            acknowledged: Vec::new(),
            times: Times::default(),
            violation: None,
        }
    }

    /// Records the first broken rule.
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

    /// A replica has made a write; it will be on the disk after all those made before, or never. The replica
    /// is in `epoch`, and `epoch_of` tells in which epoch it takes part in deciding a slot.
    pub(super) fn on_write(
        &mut self,
        (node, life): (usize, u64),
        epoch: Epoch,
        epoch_of: impl Fn(Slot) -> Epoch,
        write: &Write,
    ) {
        let (promised, chosen) = (write.hard_state().promised, write.hard_state().chosen);
        let before = self.nodes[node].written_promise;
        self.check_epoch(node, epoch, chosen);
        if let Some(in_force) = self.epochs.get(epoch) {
            let first = in_force.membership.ballot();
            self.check(promised >= first, Rule::PromiseKept, || {
                format!(
                    "node #{node} is in epoch {epoch}, which begins with {first}, and has promised {promised}"
                )
            });
        }
        for (slot, entry) in write.entries() {
            if let Entry::Accepted { ballot, value } = entry {
                self.check(*ballot >= before, Rule::PromiseKept, || {
                    format!("node #{node} accepts {ballot} in slot {slot} after it has promised {before}")
                });
                let epoch = epoch_of(*slot);
                self.proposal(*slot, *ballot, epoch, value).made_by |= 1 << node;
                if ballot.node == self.epochs.id(node) {
                    self.on_leading(node, epoch, *ballot);
                    self.on_own_proposal((node, life), epoch, *slot, *ballot, value);
                }
            }
        }
        self.nodes[node].written_promise = promised.max(before);
    }

    /// Checks that a node which knows everything up to `chosen` is in the epoch that the memberships among
    /// that have begun.
    pub(super) fn check_epoch(&mut self, node: usize, epoch: Epoch, chosen: Slot) {
        let right = self.epochs.behind(chosen).epoch();
        self.check(epoch == right || chosen > self.chosen_through, Rule::MembershipOfSlot, || {
            format!("node #{node} is in epoch {epoch} behind slot {chosen}, where epoch {right} is in force")
        });
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
        self.forget_time(node);
        let (promised, record) = (recovered.hard_state.promised, &self.nodes[node]);
        let (before, snapshot) =
            (record.promised, recovered.snapshot.as_ref().map_or(Slot::ZERO, |meta| meta.slot));
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
                    format!("node #{node} takes a value in slot {slot} for chosen that is not: {chosen:?} is")
                });
            }
        }
    }

    fn on_acceptance(&mut self, node: usize, slot: Slot, ballot: Ballot, value: &Value) {
        let made_in = self.record(slot).made_in(node, ballot);
        let epoch = made_in.unwrap_or(self.epochs.of(slot).epoch());
        self.proposal(slot, ballot, epoch, value).accepted_by |= 1 << node;
        if slot > self.chosen_through {
            self.choose_next();
            return;
        }
        let is_same = self.has_one_value(slot);
        self.check(is_same, Rule::OneValueChosen, || {
            format!("in slot {slot} a second value is chosen, under ballot {ballot}")
        });
    }

    /// Finds out what is chosen in the first slot that is not known to be, and in those behind it.
    fn choose_next(&mut self) {
        loop {
            let slot = self.chosen_through.next();
            let in_force = self.epochs.newest();
            let Some(record) = self.slots.get_mut(index(slot)) else { return };
            let mut proposals = record.proposals.iter();
            let Some(proposal) = proposals.find(|proposal| proposal.is_chosen(in_force)) else { return };
            let (value, ballot) = (proposal.value.clone(), proposal.ballot);
            let same = record.proposals.iter().filter(|proposal| proposal.value == value);
            let origin = same.min_by_key(|proposal| proposal.ballot);
            let origin = origin.map_or((ballot, 0), |origin| (origin.ballot, origin.first_units));
            record.chosen = Some(value.clone());
            self.chosen_through = slot;
            let is_same = self.has_one_value(slot);
            self.check(is_same, Rule::OneValueChosen, || format!("in slot {slot} two values are chosen"));
            self.on_time_chosen(slot, &value, ballot, origin);
            if let Some(membership) = value.as_membership()
                && let Some((rule, what)) = self.epochs.on_chosen(slot, membership)
            {
                self.check(false, rule, || what);
            }
        }
    }

    /// Whether no quorum of the right epoch has accepted another value in a chosen slot than the chosen one.
    fn has_one_value(&self, slot: Slot) -> bool {
        let (in_force, record) = (self.epochs.of(slot), &self.slots[index(slot)]);
        let mut chosen = record.proposals.iter().filter(|proposal| proposal.is_chosen(in_force));
        chosen.all(|proposal| Some(&proposal.value) == record.chosen.as_ref())
    }

    /// A disk holds a watermark: everything up to here is chosen.
    fn on_watermark(&mut self, node: usize, chosen: Slot) {
        let mut slot = self.nodes[node].chosen.max(self.nodes[node].snapshot);
        while slot < chosen {
            slot = slot.next();
            let is_right = self.is_chosen(slot) && self.holds_chosen(node, slot);
            self.check(is_right, Rule::OnlyChosenLearned, || {
                format!("the disk of node #{node} holds slot {slot} as chosen, but it is not")
            });
        }
        self.nodes[node].chosen = slot;
        self.nodes[node].knew = slot.max(self.nodes[node].knew);
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
        let (promised, epoch) = (self.nodes[node].promised, message.epoch);
        self.check_sender(node, message);
        match &message.body {
            Body::Prepare(Prepare { ballot, .. }) => {
                self.check(promised >= *ballot, Rule::DurableBeforeSent, || {
                    format!("node #{node} prepares {ballot}, but its disk holds {promised}")
                });
                let record = self.ballots.entry(*ballot).or_insert(BallotRecord::new(node, life));
                record.prepared_in = Some(epoch);
                let user = record.user;
                self.check(user == (node, life), Rule::BallotsUsedOnce, || {
                    format!("node #{node} uses ballot {ballot} a second time")
                });
            }
            Body::Promise(Promise { ballot, reports, .. }) => {
                self.on_promise_of_time(node, *ballot);
                self.check(promised >= *ballot, Rule::DurableBeforeSent, || {
                    format!("node #{node} promises {ballot}, but its disk holds {promised}")
                });
                for (slot, entry) in reports {
                    if let Entry::Chosen { value } = entry {
                        let is_right = self.chosen(*slot) == Some(value);
                        self.check(is_right, Rule::OnlyChosenLearned, || {
                            format!("node #{node} reports a value as chosen in slot {slot} that is not")
                        });
                    }
                }
            }
            Body::HeartbeatAck(HeartbeatAck { ballot, chosen, .. }) => {
                self.hear_time(node);
                self.nodes[node].told = self.nodes[node].told.max(*chosen);
                let written = self.nodes[node].written_promise;
                self.check(written <= *ballot, Rule::PromiseKept, || {
                    format!("node #{node} follows {ballot} after it has promised {written}")
                });
            }
            Body::Accept(Accept { ballot, slot, value, chosen }) => {
                let user = self.ballots.get(ballot).map(|record| record.user);
                self.check(user == Some((node, life)), Rule::BallotsUsedOnce, || {
                    format!(
                        "node #{node} proposes under {ballot}, which it has not prepared since it started"
                    )
                });
                self.on_proposal(node, epoch, *ballot, *slot, value);
                self.on_claim(node, *chosen);
            }
            Body::Accepted(Accepted { ballot, first, last }) => {
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
            Body::Heartbeat(Heartbeat { ballot, chosen, .. }) => {
                self.on_leading(node, epoch, *ballot);
                self.on_claim(node, *chosen);
            }
            Body::ReadGrant(ReadGrant { chosen, .. }) => self.on_claim(node, *chosen),
            Body::Chosen(Chosen { first, values, chosen }) => {
                self.on_claim(node, *chosen);
                let mut slot = *first;
                for value in values {
                    let is_right = self.chosen(slot) == Some(value);
                    self.check(is_right, Rule::OnlyChosenLearned, || {
                        format!("node #{node} sends a value for slot {slot} that is not chosen there")
                    });
                    slot = slot.next();
                }
            }
            _ => {}
        }
    }

    /// A node sends a watermark: everything up to here is chosen.
    fn on_claim(&mut self, node: usize, chosen: Slot) {
        let is_right = chosen == Slot::ZERO || self.is_chosen(chosen);
        self.check(is_right, Rule::OnlyChosenLearned, || {
            format!("node #{node} sends the watermark {chosen}, but that slot is not chosen")
        });
    }

    pub(super) fn on_apply(&mut self, node: usize, slot: Slot, value: &Value, state: u64) {
        let is_chosen = self.chosen(slot) == Some(value);
        self.check(is_chosen, Rule::AppliedInOrder, || {
            format!("node #{node} applies a value in slot {slot} that is not chosen there")
        });
        if index(slot) == self.states.len() {
            self.states.push(state);
        }
        self.check_state(node, slot, state);
    }

    /// Checks that the state of `node` after `slot` equals that of other nodes.
    pub(super) fn check_state(&mut self, node: usize, slot: Slot, state: u64) {
        let expected = slot.0.checked_sub(1).map_or(Some(state), |_| self.states.get(index(slot)).copied());
        let id = self.epochs.id(node);
        self.check(expected == Some(state), Rule::SameState, || {
            format!("node {id} is in another state after slot {slot} than others were")
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

    /// A client has been told the outcome of its command.
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
}

/// The place of a slot in what is kept for each.
fn index(slot: Slot) -> usize {
    usize::try_from(slot.0.saturating_sub(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
