//! Finding out what is chosen: from the leader's watermark where the accepts have come, else by asking.
//!
//! What a learner misses it fetches in bounded pieces, from the leader or from whoever knows more; a lost answer
//! is asked for again, of the next member in turn.

use super::{Output, Replica, State};
use crate::config::ReadMode;
use crate::durable::Entry;
use crate::id::{Ballot, NodeId, Slot};
use crate::message::{Body, HeartbeatRound};
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

/// For how many ticks a gap may stay before it is fetched: until then it is more likely overtaken than lost.
const PATIENCE_TICKS: u64 = 2;

/// Catching up.
#[derive(Debug)]
pub(super) struct Learner {
    /// The highest slot that anybody has told to be chosen.
    known_chosen: Slot,
    /// Who has told, and is asked first.
    source: NodeId,
    /// The last word of the leader with the highest ballot: all slots through this one are chosen.
    claim: (Ballot, Slot),
    /// The watermark, and since when it has been there.
    stands_at: (Slot, u64),
    /// The last question for values.
    asked: Option<Asked>,
}

/// A question for the values of the slots from `first` on. It is open until that slot is chosen, however this replica
/// has learned so: from the answer, a snapshot, or the leader's watermark.
#[derive(Clone, Copy, Debug)]
struct Asked {
    of: NodeId,
    first: Slot,
    at_ticks: u64,
}

impl Learner {
    pub(super) fn new(own: NodeId, chosen: Slot) -> Learner {
        Learner {
            known_chosen: chosen,
            source: own,
            claim: (Ballot::ZERO, Slot::ZERO),
            stands_at: (chosen, 0),
            asked: None,
        }
    }

    pub(super) fn known_chosen(&self) -> Slot {
        self.known_chosen
    }

    fn hear(&mut self, from: NodeId, chosen: Slot) {
        if chosen > self.known_chosen {
            self.known_chosen = chosen;
            self.source = from;
        }
    }
}

impl Replica {
    pub(super) fn on_heartbeat(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        chosen: Slot,
        round: HeartbeatRound,
        outputs: &mut Vec<Output>,
    ) {
        if !self.follow(from, ballot, outputs) {
            if mutated(Mutant::AckAfterHigherPromise) {
                self.send(from, Body::HeartbeatAck { ballot, round }, outputs);
            }
            return;
        }
        if let ReadMode::Lease { lease_ticks, .. } = self.config.options().reads {
            self.election.lease_granted_until_ticks = self.now_ticks + u64::from(lease_ticks) + 1;
        }
        self.send(from, Body::HeartbeatAck { ballot, round }, outputs);
        self.on_watermark(from, ballot, chosen);
    }

    /// Takes a leader's word for what is chosen.
    pub(super) fn on_watermark(&mut self, from: NodeId, ballot: Ballot, chosen: Slot) {
        self.learner.hear(from, chosen);
        self.learner.claim = self.learner.claim.max((ballot, chosen));
        let (ballot, chosen) = self.learner.claim;
        self.log.advance_under(ballot, chosen);
    }

    pub(super) fn tick_learner(&mut self, outputs: &mut Vec<Output>) {
        let chosen = self.log.chosen();
        if self.learner.stands_at.0 != chosen {
            self.learner.stands_at = (chosen, self.now_ticks);
        }
        if self.tick_transfer(outputs) || matches!(self.state, State::Leading(_)) {
            return;
        }
        let misses_some = self.learner.known_chosen > chosen;
        let is_patient = self.now_ticks < self.learner.stands_at.1 + PATIENCE_TICKS;
        if is_patient || !(misses_some || self.repairs_through().is_some()) {
            return;
        }
        let resend = u64::from(self.config.options().resend_ticks);
        match self.learner.asked.filter(|asked| asked.first > chosen) {
            Some(open) if self.now_ticks < open.at_ticks + resend || mutated(Mutant::FetchNeverResent) => {}
            // Not after the source: where that is set anew with every message, the same member would always come next.
            Some(open) => self.fetch(self.member_after(open.of), outputs),
            None if misses_some => self.fetch(self.learner.source, outputs),
            None => self.fetch(self.leader().unwrap_or(self.learner.source), outputs),
        }
    }

    fn fetch(&mut self, of: NodeId, outputs: &mut Vec<Output>) {
        let own = self.config.node();
        let of = if of == own { self.member_after(own) } else { of };
        let first = self.log.chosen().next();
        self.learner.asked = Some(Asked { of, first, at_ticks: self.now_ticks });
        self.send(of, Body::Fetch { first }, outputs);
    }

    /// Answers with as many chosen values as fit into a message.
    pub(super) fn on_fetch(&mut self, from: NodeId, first: Slot, outputs: &mut Vec<Output>) {
        let chosen = self.log.chosen();
        if first <= self.log.trimmed() {
            self.send(from, Body::Trimmed { below: self.log.trimmed().next() }, outputs);
            return;
        }
        let (mut values, mut bytes) = (Vec::new(), 0);
        for (slot, entry) in self.log.reports_from(first) {
            let is_unchosen = slot > chosen && !mutated(Mutant::FetchServesUnchosen);
            if is_unchosen || bytes > self.config.options().chunk_bytes {
                break;
            }
            bytes += entry.value().size_bytes() + size_of::<Value>();
            values.push(entry.value().clone());
        }
        if values.is_empty() {
            self.fill_for_repair(first, outputs);
        } else {
            self.send(from, Body::Chosen { first, values, chosen }, outputs);
        }
    }

    pub(super) fn on_chosen(
        &mut self,
        from: NodeId,
        first: Slot,
        values: Vec<Value>,
        chosen: Slot,
        outputs: &mut Vec<Output>,
    ) {
        // A leader has proposed in every slot that can be new to it, and counts for itself.
        if matches!(self.state, State::Leading(_)) || first > self.log.chosen().next() {
            return;
        }
        let before = self.log.chosen();
        let mut slot = first;
        for value in values {
            self.learn(slot, value);
            slot = slot.next();
        }
        self.learner.hear(from, chosen);
        let chosen = self.log.chosen();
        if chosen > before && self.learner.known_chosen > chosen && slot > chosen {
            self.fetch(from, outputs);
        }
    }

    /// Notes a value that somebody knows to be chosen.
    pub(super) fn learn(&mut self, slot: Slot, value: Value) {
        if self.log.is_chosen(slot) {
            return;
        }
        let keeps = mutated(Mutant::LearnKeepsOwnValue);
        if self.log.entry(slot).is_some_and(|entry| *entry.value() == value || keeps) {
            self.log.mark_chosen(slot);
        } else {
            let entry = Entry::Chosen { value };
            self.log.put(slot, entry.clone());
            self.writes.put(slot, entry);
        }
        self.log.advance();
    }

    /// The member with the next higher id, or the lowest one, leaving this replica out.
    pub(super) fn member_after(&self, member: NodeId) -> NodeId {
        let peers = || self.config.peers();
        peers().find(|&peer| peer > member).or_else(|| peers().next()).unwrap_or(member)
    }
}
