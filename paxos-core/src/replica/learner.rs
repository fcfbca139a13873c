//! Finding out what is chosen: from the leader's watermark where the accepts have come, else by fetching.
//!
//! A learner fetches the values that it misses in bounded pieces, from the leader or from a peer that has
//! reported a higher watermark. If no answer comes, it asks the next peer in turn.

use super::{ProposerState, Replica};
use crate::durable::Entry;
use crate::id::{Ballot, Epoch, NodeId, Slot};
use crate::message::{Chosen, Fetch, Trimmed};
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

/// For how many ticks a gap may stay before it is fetched: until then its accept is more likely late than
/// lost.
const PATIENCE_TICKS: u64 = 2;

/// What is known to be chosen elsewhere, and the fetch under way.
#[derive(Debug)]
pub(super) struct Learner {
    /// The highest slot that any peer has reported as chosen.
    known_chosen: Slot,
    /// The peer that reported `known_chosen`; it is asked first.
    source: NodeId,
    /// The highest ballot of a leader heard from, and the last watermark that came under it.
    claim: (Ballot, Slot),
    /// This replica's own watermark, and the tick of its last change.
    stands_at: (Slot, u64),
    /// The last fetch.
    asked: Option<Asked>,
    /// The newest epoch heard of, and the node that was heard from last in it.
    newest_epoch: (Epoch, NodeId),
}

/// A fetch of the slots from `first` on. It is open until this replica knows that slot to be chosen: from the
/// answer, a snapshot, or the leader's watermark.
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
            newest_epoch: (Epoch(0), own),
        }
    }

    pub(super) fn known_chosen(&self) -> Slot {
        self.known_chosen
    }

    pub(super) fn knows_epoch(&self, epoch: Epoch) -> bool {
        self.newest_epoch.0 >= epoch
    }

    /// Hears that `from` is in `epoch`.
    pub(super) fn hear_epoch(&mut self, from: NodeId, epoch: Epoch) {
        if epoch >= self.newest_epoch.0 {
            self.newest_epoch = (epoch, from);
        }
    }

    pub(super) fn hear(&mut self, from: NodeId, chosen: Slot) {
        if chosen > self.known_chosen {
            self.known_chosen = chosen;
            self.source = from;
        }
    }
}

impl Replica {
    /// Takes over a leader's watermark, as far as the log holds what was accepted under the leader's ballot.
    ///
    /// What is missing at the first one of another leader is fetched at once: a leader proposes nothing again that it
    /// knew to be chosen when it began, so no accept of it is on its way.
    pub(super) fn on_watermark(&mut self, from: NodeId, ballot: Ballot, chosen: Slot) {
        let before = self.learner.claim.0;
        let is_another_leader = ballot > before && ballot.node != before.node;
        self.learner.hear(from, chosen);
        self.learner.claim = self.learner.claim.max((ballot, chosen));
        let (ballot, chosen) = self.learner.claim;
        self.log.advance_under(ballot, chosen);
        self.enter_epochs();
        if is_another_leader && self.log.chosen() < chosen && !self.is_fetching_snapshot() {
            self.fetch(from);
        }
    }

    pub(super) fn tick_learner(&mut self) {
        let chosen = self.log.chosen();
        if self.learner.stands_at.0 != chosen {
            self.learner.stands_at = (chosen, self.now_ticks);
        }
        if self.tick_transfer() || matches!(self.proposer, ProposerState::Leading(_)) {
            return;
        }
        let is_epoch_over = self.learner.newest_epoch.0 > self.config.membership().epoch();
        let misses_some = self.learner.known_chosen > chosen || is_epoch_over;
        let is_patient = self.now_ticks < self.learner.stands_at.1 + PATIENCE_TICKS;
        if is_patient || !(misses_some || self.repairs_through().is_some()) {
            return;
        }
        let resend = u64::from(self.config.settings().resend_ticks);
        match self.learner.asked.filter(|asked| asked.first > chosen) {
            Some(open) if !is_overdue(open, self.now_ticks, resend) => {}
            // Rotates from the peer asked last, not from the source, which may change with every message: the
            // same peer would always come next.
            Some(open) => self.fetch(self.peer_after(open.of)),
            None if is_epoch_over => self.fetch(self.learner.newest_epoch.1),
            None if misses_some => self.fetch(self.learner.source),
            None => self.fetch(self.leader().unwrap_or(self.learner.source)),
        }
    }

    pub(super) fn fetch(&mut self, of: NodeId) {
        let own = self.config.node();
        let of = if of == own { self.peer_after(own) } else { of };
        let first = self.log.chosen().next();
        self.learner.asked = Some(Asked { of, first, at_ticks: self.now_ticks });
        self.send(of, Fetch { first });
    }

    /// Answers with as many chosen values as fit into a message.
    pub(super) fn on_fetch(&mut self, from: NodeId, fetch: Fetch) {
        let first = fetch.first;
        let chosen = self.log.chosen();
        if first <= self.log.trimmed() {
            self.send(from, Trimmed { below: self.log.trimmed().next() });
            return;
        }
        let (mut values, mut bytes) = (Vec::new(), 0);
        for (slot, entry) in self.log.reports_from(first) {
            if !is_served(slot, chosen) || bytes > self.config.settings().chunk_bytes {
                break;
            }
            bytes += entry.value().size_bytes() + size_of::<Value>();
            values.push(entry.value().clone());
        }
        if values.is_empty() {
            self.fill_for_repair(first);
        } else {
            self.send(from, Chosen { first, values, chosen });
        }
    }

    /// Learns values, and asks for more if the answer brought some but not all.
    pub(super) fn on_chosen(&mut self, from: NodeId, answer: Chosen) {
        let Chosen { first, values, chosen } = answer;
        // A leader has proposed in every slot that can be new to it, and counts the acceptances itself.
        if matches!(self.proposer, ProposerState::Leading(_)) || first > self.log.chosen().next() {
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
            self.fetch(from);
        }
    }

    /// Notes a value that a peer knows to be chosen.
    pub(super) fn learn(&mut self, slot: Slot, value: Value) {
        if self.log.is_chosen(slot) {
            return;
        }
        if self.log.entry(slot).is_some_and(|entry| is_same(entry.value(), &value)) {
            self.log.mark_chosen(slot);
        } else {
            let entry = Entry::Chosen { value };
            self.log.put(slot, entry.clone());
            self.writes.put(slot, entry);
        }
        self.log.advance();
        self.enter_epochs();
    }

    /// The peer with the next higher id, or the lowest one. Peers that have told of what this replica does
    /// not know have their turn among the members: of a new membership it may know nobody else.
    pub(super) fn peer_after(&self, peer: NodeId) -> NodeId {
        let told = [self.learner.source, self.learner.newest_epoch.1];
        let told = told.into_iter().filter(|&told| told != self.config.node());
        let peers = || self.config.peers().chain(told.clone());
        peers().filter(|&next| next > peer).min().or_else(|| peers().min()).unwrap_or(peer)
    }
}

/// Whether a question has waited for an answer too long.
fn is_overdue(asked: Asked, now_ticks: u64, resend_ticks: u64) -> bool {
    now_ticks >= asked.at_ticks + resend_ticks && !mutated(Mutant::FetchNeverResent)
}

/// Whether a fetch is answered with the value in `slot`: only if it is chosen.
fn is_served(slot: Slot, chosen: Slot) -> bool {
    slot <= chosen || mutated(Mutant::FetchServesUnchosen)
}

/// Whether the value that is chosen is the one that this replica has accepted.
fn is_same(accepted: &Value, chosen: &Value) -> bool {
    accepted == chosen || mutated(Mutant::LearnKeepsOwnValue)
}
