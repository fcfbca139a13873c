//! The acceptor of every slot: phases 1b and 2b of *Paxos Made Simple*, section 2.2.

use super::writes::Consequence;
use super::{ProposerState, Replica};
use crate::durable::Entry;
use crate::id::{Ballot, NodeId, Slot};
use crate::log::Log;
use crate::message::{Accept, Accepted, Prepare, Promise, Reject, Trimmed};
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

impl Replica {
    /// Phase 1b: "If an acceptor receives a prepare request with number n greater than that of any prepare
    /// request to which it has already responded, then it responds to the request with a promise not to
    /// accept any more proposals numbered less than n and with the highest-numbered proposal (if any) that it
    /// has accepted" - here for every slot from `first` on.
    ///
    /// The same prepare again is answered again: the answer may have been lost, and a long report comes in
    /// parts.
    pub(super) fn on_prepare(&mut self, from: NodeId, prepare: Prepare) {
        let Prepare { ballot, first, handed_over } = prepare;
        if ballot.node != from || !self.may_promise() || self.is_leased_to_another(from, handed_over) {
            return;
        }
        if self.refuses_prepare(ballot) {
            self.send(from, Reject { ballot, promised: self.promised });
            return;
        }
        if self.is_trimmed(first) {
            self.send(from, Trimmed { below: self.log.trimmed().next() });
            return;
        }
        if !self.remembers_from(first) {
            return;
        }
        if self.must_raise_promise(ballot) {
            let is_follower = matches!(self.proposer, ProposerState::Following);
            // One that was asked to take over prepares while it follows the leader.
            if !is_follower || self.leader() != Some(from) {
                self.step_down();
            }
            self.put_off_election();
            self.promise(ballot);
        }
        let (reports, rest) = report(&self.log, first, self.config.settings().chunk_bytes);
        let time = self.clock.told_to_candidates();
        let promise = self.message(Promise { ballot, first, reports, rest, time });
        self.writes.answer_after_durable(from, promise);
    }

    /// Phase 2b: "If an acceptor receives an accept request for a proposal numbered n, it accepts the
    /// proposal unless it has already responded to a prepare request having a number greater than n."
    pub(super) fn on_accept(&mut self, from: NodeId, accept: Accept) {
        let Accept { ballot, slot, value, chosen } = accept;
        if !self.follow(from, ballot) {
            return;
        }
        let acceptance = self.message(Accepted { ballot, first: slot, last: slot });
        if self.log.is_chosen(slot) {
            // By P2c the proposal carries the chosen value, so there is nothing left to record.
            self.writes.answer_after_durable(from, acceptance);
        } else if slot <= self.log.chosen().advanced_by(self.config.horizon_slots()) {
            if self.has_accepted(ballot, slot) {
                self.writes.answer_after_durable(from, acceptance);
            } else {
                self.accept(ballot, slot, value);
                self.writes.after_durable(Consequence::Send { to: from, message: acceptance });
            }
        }
        self.on_watermark(from, ballot, chosen);
    }

    /// Accepts a proposal; the write of this step holds it, and the promise that goes with it.
    fn accept(&mut self, ballot: Ballot, slot: Slot, value: Value) {
        if ballot > self.promised && !mutated(Mutant::AcceptDoesNotRaisePromise) {
            self.promise(ballot);
        }
        let entry = Entry::Accepted { ballot, value };
        self.log.put(slot, entry.clone());
        if !mutated(Mutant::AcceptanceNotWritten) {
            self.writes.put(slot, entry);
        }
    }

    /// Raises the promise; the write of this step holds it.
    pub(super) fn promise(&mut self, ballot: Ballot) {
        assert!(ballot > self.promised, "a promise is never taken back");
        self.promised = ballot;
        self.election.see(ballot);
        if !mutated(Mutant::PromiseNotWritten) {
            self.writes.put_hard_state();
        }
    }

    /// Whether this node has a vote: only a voter promises, and consents to an election.
    pub(super) fn may_promise(&self) -> bool {
        self.is_voter() || (self.own_index().is_some() && mutated(Mutant::LearnerPromises))
    }

    /// Whether a prepare comes too late: a higher ballot is promised.
    fn refuses_prepare(&mut self, ballot: Ballot) -> bool {
        let is_below = ballot < self.promised;
        if is_below && mutated(Mutant::PrepareBelowPromise) {
            self.promised = Ballot::ZERO;
            return false;
        }
        is_below
    }

    /// Whether a prepare is not covered by the promise that this acceptor has given already.
    fn must_raise_promise(&self, ballot: Ballot) -> bool {
        ballot > self.promised && !mutated(Mutant::PromiseNotRaised)
    }

    /// Whether some slot from `first` on exists here only in a snapshot.
    fn is_trimmed(&self, first: Slot) -> bool {
        first <= self.log.trimmed() && !mutated(Mutant::PromiseIgnoresTrimmed)
    }

    fn has_accepted(&self, ballot: Ballot, slot: Slot) -> bool {
        matches!(self.log.entry(slot), Some(Entry::Accepted { ballot: accepted, .. }) if *accepted == ballot)
    }
}

/// The entries from `first` on until they exceed `chunk_bytes`, and the slot at which the next part begins,
/// if any is left.
fn report(log: &Log, first: Slot, chunk_bytes: usize) -> (Vec<(Slot, Entry)>, Option<Slot>) {
    let mut reports = Vec::new();
    let mut bytes = 0;
    for (slot, entry) in log.reports_from(first).filter(|(_, entry)| is_reported(entry)) {
        if bytes > chunk_bytes {
            return (reports, rest_from(slot));
        }
        bytes += entry.value().size_bytes() + size_of::<(Slot, Entry)>();
        reports.push((slot, entry));
    }
    (reports, None)
}

/// Whether a promise reports this entry, which it always does.
fn is_reported(entry: &Entry) -> bool {
    match entry {
        Entry::Accepted { .. } => !mutated(Mutant::PromiseForgetsAccepted),
        Entry::Chosen { .. } => !mutated(Mutant::PromiseOmitsChosen),
    }
}

/// Tells the proposer where the next part of a report begins.
fn rest_from(slot: Slot) -> Option<Slot> {
    (!mutated(Mutant::PromiseCutShort)).then_some(slot)
}
