//! Finding out what is chosen: from the leader's watermark where the accepts have come, else by fetching.
//!
//! A learner fetches the values that it misses from the leader or from a peer that has reported a higher
//! watermark. It first asks for as many values as fit into a message. If that is not all, it knows how many
//! slots a piece holds, and asks for a window of pieces. What has come counts in the window until it is
//! durable, so that values never come faster than the disk takes them. If no answer comes, it asks the next
//! peer in turn.

use std::collections::VecDeque;

use super::pieces::{Pieces, window_pieces};
use super::{ProposerState, Replica};
use crate::durable::{Entry, WriteNumber};
use crate::id::{Ballot, Epoch, NodeId, Slot};
use crate::message::{Chosen, Fetch, Trimmed};
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

/// For how many ticks a gap may stay before it is fetched: until then its accept is more likely late than
/// lost.
const PATIENCE_TICKS: u64 = 2;
/// A piece that is asked for has this part (in eighths) of the slots that would fit into a message, so that
/// it is rarely cut short.
const PIECE_EIGHTHS: usize = 7;

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
    fetching: Option<Fetching>,
    /// Whether nothing more is asked for.
    is_paused: bool,
    /// The newest epoch heard of, and the node that was heard from last in it.
    newest_epoch: (Epoch, NodeId),
}

/// A fetch of the values that this replica misses. A piece of it is open until its slots are known to be
/// chosen: from the answer, a snapshot, or the leader's watermark.
#[derive(Debug)]
struct Fetching {
    /// The peer asked last.
    of: NodeId,
    /// Positions are slots.
    pieces: Pieces<Vec<Value>>,
    /// How many slots a piece holds; 0 until the first has come.
    piece_slots: u64,
    /// The writes with which the pieces that have come become durable.
    writes: VecDeque<WriteNumber>,
}

impl Learner {
    pub(super) fn new(own: NodeId, chosen: Slot) -> Learner {
        Learner {
            known_chosen: chosen,
            source: own,
            claim: (Ballot::ZERO, Slot::ZERO),
            stands_at: (chosen, 0),
            fetching: None,
            is_paused: false,
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
    /// What is missing at the first one of another leader is fetched at once: a leader proposes nothing again
    /// that it knew to be chosen when it began, so no accept of it is on its way.
    pub(super) fn on_watermark(&mut self, from: NodeId, ballot: Ballot, chosen: Slot) {
        let before = self.learner.claim.0;
        let is_another_leader = ballot > before && ballot.node != before.node;
        self.learner.hear(from, chosen);
        self.learner.claim = self.learner.claim.max((ballot, chosen));
        let (ballot, chosen) = self.learner.claim;
        self.log.advance_under(ballot, chosen);
        self.enter_epochs();
        if is_another_leader && self.log.chosen() < chosen && self.may_fetch() {
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
        if is_patient || self.learner.is_paused || !(misses_some || self.repairs_through().is_some()) {
            return;
        }
        if self.is_fetching() {
            self.turn_if_silent();
            // What was under way may be known from accepts by now, while what was lost waits for its turn.
            self.fetch_more();
        } else if is_epoch_over {
            self.fetch(self.learner.newest_epoch.1);
        } else if misses_some {
            self.fetch(self.learner.source);
        } else {
            self.fetch(self.leader().unwrap_or(self.learner.source));
        }
    }

    /// Whether values may be asked for: the driver takes them, and no snapshot is to come before them.
    fn may_fetch(&self) -> bool {
        !self.learner.is_paused && !self.is_fetching_snapshot()
    }

    /// Whether an answer is awaited that may bring something new.
    fn is_fetching(&mut self) -> bool {
        let next = self.log.chosen().next();
        self.learner.fetching.as_mut().is_some_and(|fetching| {
            fetching.pieces.forget_before(next.0);
            // While the window is full of what is not durable, it goes on by itself.
            fetching.pieces.is_open() || !fetching.writes.is_empty()
        })
    }

    /// If nothing comes any more, another peer is to be asked for what is missing.
    fn turn_if_silent(&mut self) {
        let patience_ticks = u64::from(self.config.settings().resend_ticks);
        let Some(fetching) = &mut self.learner.fetching else { return };
        if !is_silent(&fetching.pieces, self.now_ticks, patience_ticks) {
            return;
        }
        fetching.pieces.lose_all();
        // Rotates from the peer asked last, not from the source, which may change with every message: the
        // same peer would always come next.
        let of = self.peer_after(self.learner.fetching.as_ref().map_or(self.learner.source, |last| last.of));
        if let Some(fetching) = &mut self.learner.fetching {
            fetching.of = of;
        }
    }

    /// Asks for as many values as fit into a message; what an earlier fetch has asked for is forgotten.
    pub(super) fn fetch(&mut self, of: NodeId) {
        let own = self.config.node();
        let of = if of == own { self.peer_after(own) } else { of };
        let first = self.log.chosen().next();
        let pieces = Pieces::ask_from(first.0, self.now_ticks);
        self.learner.fetching = Some(Fetching { of, pieces, piece_slots: 0, writes: VecDeque::new() });
        self.send(of, Fetch::all_from(first));
    }

    /// Goes on with a fetch, if one is under way.
    #[inline]
    pub(super) fn fetch_more(&mut self) {
        if self.learner.fetching.is_some() {
            self.fill_window();
        }
    }

    /// Asks for as many pieces as may be under way.
    fn fill_window(&mut self) {
        let (settings, known, next) =
            (self.config.settings(), self.learner.known_chosen, self.log.chosen().next());
        let window = window_pieces(settings, settings.chunk_bytes as u64);
        while let Some(fetching) = &mut self.learner.fetching {
            while fetching.writes.front().is_some_and(|write| *write <= self.writes.durable()) {
                fetching.writes.pop_front();
                fetching.pieces.on_stored();
            }
            if self.learner.is_paused {
                return;
            }
            fetching.pieces.forget_before(next.0);
            let length = fetching.piece_slots;
            // Before the first answer it is not known how many slots a piece holds.
            let end = if length > 0 { known.next().0 } else { next.0 };
            let Some((first, end)) = fetching.pieces.next_to_ask(end, length, window, self.now_ticks) else {
                break;
            };
            let last = (length > 0).then_some(Slot(end - 1));
            let (of, ahead_slots) = (fetching.of, first - next.0);
            self.send(of, Fetch { first: Slot(first), last, ahead_slots });
        }
        // What is missing later may merely be late, and is asked for after a while.
        if !self.is_fetching() {
            self.stop_fetching();
        }
    }

    /// Takes in whether the driver can take no more values for now. The time until then does not count as
    /// silence.
    pub(super) fn on_pause_fetching(&mut self, is_paused: bool) {
        self.learner.is_paused = is_paused;
        if let Some(fetching) = &mut self.learner.fetching {
            fetching.pieces.hear(self.now_ticks);
        }
        self.fetch_more();
    }

    /// Forgets what was asked for: it comes as a snapshot, or is not needed.
    pub(super) fn stop_fetching(&mut self) {
        self.learner.fetching = None;
    }

    /// Answers with the chosen values asked for, as many as fit into a message. Keeps those behind them for
    /// the peer.
    pub(super) fn on_fetch(&mut self, from: NodeId, fetch: Fetch) {
        let first = fetch.first;
        let (chosen, chunk_bytes) = (self.log.chosen(), self.config.settings().chunk_bytes);
        if first <= self.log.trimmed() {
            self.send(from, Trimmed { below: self.log.trimmed().next() });
            return;
        }
        let (mut values, mut bytes) = (Vec::new(), 0);
        for (slot, entry) in self.log.reports_from(first) {
            let is_beyond = fetch.last.is_some_and(|last| slot > last);
            if is_beyond || !is_served(slot, chosen) || bytes > chunk_bytes {
                break;
            }
            bytes += carried_bytes(entry.value());
            values.push(entry.value().clone());
        }
        if values.is_empty() {
            self.fill_for_repair(first);
        } else {
            self.keep_for(from, None, fetch.first_missing().previous());
            self.send(from, Chosen { first, values, chosen });
        }
    }

    /// Learns values, and asks for more if the answer brought some but not all.
    pub(super) fn on_chosen(&mut self, from: NodeId, answer: Chosen) {
        let Chosen { first, values, chosen } = answer;
        // A leader has proposed in every slot that can be new to it, and counts the acceptances itself.
        if matches!(self.proposer, ProposerState::Leading(_)) {
            return;
        }
        if self.is_fetching() && self.take_in_piece(from, first, &values) {
            self.learner.hear(from, chosen);
            self.learn_pieces();
            self.fetch_more();
            return;
        }
        // What was not asked for, or of another peer before.
        let before = self.log.chosen();
        if self.learner.is_paused || first > before.next() {
            return;
        }
        let end = first.advanced_by(values.len() as u64);
        self.learn_all(first, values);
        self.learner.hear(from, chosen);
        let chosen = self.log.chosen();
        if chosen > before && self.learner.known_chosen > chosen && end > chosen && !self.is_fetching() {
            self.fetch(from);
        }
    }

    /// Keeps an answer until all before it is known; `false` if it was not asked for.
    fn take_in_piece(&mut self, from: NodeId, first: Slot, values: &[Value]) -> bool {
        let chunk_bytes = self.config.settings().chunk_bytes;
        let Some(fetching) = &mut self.learner.fetching else { return false };
        let Some(most_end) = fetching.pieces.wanted(first.0) else { return false };
        if values.is_empty() {
            return false;
        }
        let bytes: usize = values.iter().map(carried_bytes).sum();
        let fitting = values.len() * chunk_bytes / bytes.max(1) * PIECE_EIGHTHS / 8;
        fetching.piece_slots = (fitting as u64).max(1);
        fetching.of = from;
        let most = usize::try_from(most_end - first.0).unwrap_or(usize::MAX);
        let values = values[..values.len().min(most)].to_vec();
        let end = first.advanced_by(values.len() as u64);
        fetching.pieces.take_in(first.0, end.0, values, self.now_ticks);
        true
    }

    /// Learns the pieces before which nothing is missing.
    fn learn_pieces(&mut self) {
        while let Some(fetching) = &mut self.learner.fetching
            && let Some((first, values)) = fetching.pieces.pop()
        {
            self.learn_all(Slot(first), values);
            let write = self.writes.number();
            if let Some(fetching) = &mut self.learner.fetching {
                fetching.writes.push_back(write);
            }
        }
    }

    fn learn_all(&mut self, first: Slot, values: Vec<Value>) {
        let mut slot = first;
        for value in values {
            self.learn(slot, value);
            slot = slot.next();
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
fn is_silent(pieces: &Pieces<Vec<Value>>, now_ticks: u64, patience_ticks: u64) -> bool {
    pieces.is_silent(now_ticks, patience_ticks) && !mutated(Mutant::FetchNeverResent)
}

/// What a value counts for in a message of [`chunk_bytes`](crate::ProtocolSettings::chunk_bytes).
fn carried_bytes(value: &Value) -> usize {
    value.size_bytes() + size_of::<Value>()
}

/// Whether a fetch is answered with the value in `slot`: only if it is chosen.
fn is_served(slot: Slot, chosen: Slot) -> bool {
    slot <= chosen || mutated(Mutant::FetchServesUnchosen)
}

/// Whether the value that is chosen is the one that this replica has accepted.
fn is_same(accepted: &Value, chosen: &Value) -> bool {
    accepted == chosen || mutated(Mutant::LearnKeepsOwnValue)
}
