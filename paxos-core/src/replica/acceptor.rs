//! The acceptor's side of every slot: phases 1b and 2b of *Paxos Made Simple*, section 2.2.

use super::writes::Consequence;
use super::{Output, Replica};
use crate::config::ReadMode;
use crate::durable::Entry;
use crate::id::{Ballot, NodeId, Slot};
use crate::log::Log;
use crate::message::Body;
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

impl Replica {
    /// Phase 1b: "If an acceptor receives a prepare request with number n greater than that of any prepare
    /// request to which it has already responded, then it responds to the request with a promise not to accept
    /// any more proposals numbered less than n and with the highest-numbered proposal (if any) that it has
    /// accepted" - here for every slot from `first` on.
    ///
    /// The same prepare again is answered again: the answer may have got lost, and a long report comes in parts.
    pub(super) fn on_prepare(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        first: Slot,
        outputs: &mut Vec<Output>,
    ) {
        if ballot.node != from || self.is_leased_to_another(from) {
            return;
        }
        if ballot < self.promised && mutated(Mutant::PrepareBelowPromise) {
            self.promised = Ballot::ZERO;
        }
        if ballot < self.promised {
            self.send(from, Body::Reject { ballot, promised: self.promised }, outputs);
            return;
        }
        if first <= self.log.trimmed() && !mutated(Mutant::PromiseIgnoresTrimmed) {
            self.send(from, Body::Trimmed { below: self.log.trimmed().next() }, outputs);
            return;
        }
        if !self.remembers_from(first) {
            return;
        }
        if ballot > self.promised && !mutated(Mutant::PromiseNotRaised) {
            if self.leader() != Some(from) {
                self.step_down(outputs);
            }
            self.put_off_election();
            self.promise(ballot);
        }
        let (reports, rest) = report(&self.log, first, self.config.options().chunk_bytes);
        let body = Body::Promise { ballot, first, reports, rest };
        self.writes.then_once(from, body);
    }

    /// Phase 2b: "If an acceptor receives an accept request for a proposal numbered n, it accepts the proposal
    /// unless it has already responded to a prepare request having a number greater than n."
    pub(super) fn on_accept(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        slot: Slot,
        value: Value,
        chosen: Slot,
        outputs: &mut Vec<Output>,
    ) {
        if !self.follow(from, ballot, outputs) {
            return;
        }
        let acceptance = Body::Accepted { ballot, first: slot, last: slot };
        if self.log.is_chosen(slot) {
            // The value is chosen, so the proposal carries the same one (P2c): nothing is left to be recorded.
            self.writes.then_once(from, acceptance);
        } else if slot <= self.log.chosen().advanced_by(self.config.horizon_slots()) {
            if ballot > self.promised && !mutated(Mutant::AcceptDoesNotRaisePromise) {
                self.promise(ballot);
            }
            if matches!(self.log.entry(slot), Some(Entry::Accepted { ballot: same, .. }) if *same == ballot) {
                self.writes.then_once(from, acceptance);
            } else {
                let entry = Entry::Accepted { ballot, value };
                self.log.put(slot, entry.clone());
                if !mutated(Mutant::AcceptanceNotWritten) {
                    self.writes.put(slot, entry);
                }
                self.writes.then(Consequence::Send { to: from, body: acceptance });
            }
        }
        self.on_watermark(from, ballot, chosen);
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

    /// Whether this acceptor has granted a lease to a leader other than `candidate` which may not have expired.
    fn is_leased_to_another(&self, candidate: NodeId) -> bool {
        matches!(self.config.options().reads, ReadMode::Lease { .. })
            && self.leader() != Some(candidate)
            && self.now_ticks < self.election.lease_granted_until_ticks
            && !mutated(Mutant::LeaseNotHeld)
    }
}

/// The entries from `first` on until they exceed `chunk_bytes`, and the slot from which to go on, if any.
fn report(log: &Log, first: Slot, chunk_bytes: usize) -> (Vec<(Slot, Entry)>, Option<Slot>) {
    let mut reports = Vec::new();
    let mut bytes = 0;
    for (slot, entry) in log.reports_from(first) {
        let is_omitted = match entry {
            Entry::Accepted { .. } => mutated(Mutant::PromiseForgetsAccepted),
            Entry::Chosen { .. } => mutated(Mutant::PromiseOmitsChosen),
        };
        if is_omitted {
            continue;
        }
        if bytes > chunk_bytes {
            return (reports, (!mutated(Mutant::PromiseCutShort)).then_some(slot));
        }
        bytes += entry.value().size_bytes() + size_of::<(Slot, Entry)>();
        reports.push((slot, entry));
    }
    (reports, None)
}
