//! Taking over as the leader: phase 1 over all open slots, and proposing again what it reports.

use std::collections::BTreeMap;

use super::leader::Leading;
use super::writes::Consequence;
use super::{ProposerState, Replica};
use crate::clock::Beginning;
use crate::durable::Entry;
use crate::id::{Ballot, Slot};
use crate::membership::{MemberIndex, Members, PerMember};
use crate::message::{Prepare, Promise};
use crate::mutant::{Mutant, mutated};
use crate::value::Value;

/// For each slot the proposal with the highest ballot that a peer has reported.
type Reported = BTreeMap<Slot, (Ballot, Value)>;

/// Phase 1 under way.
#[derive(Debug)]
pub(super) struct Preparing {
    ballot: Ballot,
    first: Slot,
    /// The ballot of the leader that has asked this replica to take over, if one has.
    handed_over: Option<Ballot>,
    is_own_promise_durable: bool,
    reports_of: PerMember<ReportOf>,
    highest: Reported,
    resend_ticks: u64,
    expires_ticks: u64,
}

/// How much of a member's report has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReportOf {
    /// Everything before this slot.
    UpTo(Slot),
    /// Everything.
    Whole,
}

impl Preparing {
    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Whether `promise` is the part of a report that `peer` was asked for last.
    fn expects(&self, peer: MemberIndex, promise: &Promise) -> bool {
        let is_current = self.ballot == promise.ballot || mutated(Mutant::PromiseOfOlderBallotCounts);
        is_current && self.reports_of[peer] == ReportOf::UpTo(promise.first)
    }

    /// Keeps the proposal of the highest ballot in each slot.
    fn take_report(&mut self, slot: Slot, ballot: Ballot, value: Value) {
        let highest = self.highest.entry(slot).or_insert_with(|| (ballot, value.clone()));
        if ballot > highest.0 || mutated(Mutant::LastReportWins) {
            *highest = (ballot, value);
        }
    }

    /// How many voters have reported everything.
    fn whole_reports(&self, members: &Members) -> usize {
        members.voters().filter(|&voter| self.reports_of[voter] == ReportOf::Whole).count()
    }
}

impl Replica {
    /// Phase 1a: picks a ballot above all it knows of and promises it. The prepare leaves when that is
    /// durable, so that no restart can ever use the ballot again. `handed_over` is the ballot of the leader
    /// that has asked for it, if one has.
    pub(super) fn begin_prepare(&mut self, handed_over: Option<Ballot>) {
        let Some(ballot) = self.next_ballot() else { return };
        if ballot > self.promised {
            self.promise(ballot);
        }
        let first = self.log.chosen().next();
        self.proposer = ProposerState::Preparing(Preparing {
            ballot,
            first,
            handed_over,
            is_own_promise_durable: false,
            reports_of: PerMember::new(self.config.member_map(), ReportOf::UpTo(first)),
            highest: BTreeMap::new(),
            resend_ticks: self.now_ticks + u64::from(self.config.settings().resend_ticks),
            expires_ticks: self.random_timeout_ticks(),
        });
        self.writes.after_durable(Consequence::OwnPromise { ballot });
    }

    /// A ballot above all that this replica has promised or heard of. `None` if the rounds are used up: only
    /// a broken peer can have brought them that far.
    fn next_ballot(&self) -> Option<Ballot> {
        if self.promised.node == self.config.node() && mutated(Mutant::OldBallotReused) {
            return Some(self.promised);
        }
        let ballot = self.election.seen().max(self.promised).successor_for(self.config.node());
        (ballot > self.promised).then_some(ballot)
    }

    /// Counts this candidate's own promise, and sends the prepare to the others.
    pub(super) fn on_own_promise(&mut self, ballot: Ballot) {
        let own = self.own_index();
        let ProposerState::Preparing(preparing) = &mut self.proposer else { return };
        if let Some(own) = own
            && preparing.ballot == ballot
        {
            preparing.is_own_promise_durable = true;
            preparing.reports_of[own] = ReportOf::Whole;
            let (first, handed_over) = (preparing.first, preparing.handed_over);
            self.broadcast(Prepare { ballot, first, handed_over });
            self.lead_if_quorum_promises();
        }
    }

    /// Collects reports until a quorum's are complete.
    pub(super) fn on_promise(&mut self, peer: MemberIndex, promise: Promise) {
        let ProposerState::Preparing(preparing) = &self.proposer else { return };
        if !preparing.expects(peer, &promise) || !is_well_formed(&promise) {
            return;
        }
        if let Some(time) = promise.time {
            self.clock.hear_estimate(time);
        }
        for (slot, entry) in promise.reports {
            match entry {
                Entry::Chosen { value } => self.learn(slot, value),
                Entry::Accepted { ballot, value } => {
                    let ProposerState::Preparing(preparing) = &mut self.proposer else { return };
                    preparing.take_report(slot, ballot, value);
                }
            }
        }
        let ProposerState::Preparing(preparing) = &mut self.proposer else { return };
        if let Some(first) = promise.rest {
            preparing.reports_of[peer] = ReportOf::UpTo(first);
            let (ballot, handed_over) = (promise.ballot, preparing.handed_over);
            self.send(self.config.member_map().id(peer), Prepare { ballot, first, handed_over });
        } else {
            preparing.reports_of[peer] = ReportOf::Whole;
            self.lead_if_quorum_promises();
        }
    }

    fn lead_if_quorum_promises(&mut self) {
        let ProposerState::Preparing(preparing) = &mut self.proposer else { return };
        let promises = preparing.whole_reports(self.config.member_map());
        let has_quorum = self.config.quorums().enough_promises(promises);
        if !preparing.is_own_promise_durable || !has_quorum {
            return;
        }
        let (ballot, highest) = (preparing.ballot, std::mem::take(&mut preparing.highest));
        let is_whole = |&member: &MemberIndex| preparing.reports_of[member] == ReportOf::Whole;
        let heard: Vec<MemberIndex> = self.config.member_map().voters().filter(is_whole).collect();
        let was_distinguished = self.is_distinguished();
        self.election.hear_leader(ballot, self.now_ticks);
        self.stop_transfer();
        self.stop_fetching();
        let last = self.last_open_slot(&highest);
        let mut leading = Leading::new(&self.config, ballot, last, self.now_ticks);
        for member in heard {
            leading.peers[member].note_answer(self.now_ticks);
        }
        self.proposer = ProposerState::Leading(leading);
        let beginning = self.clock.begin_to_lead(ballot);
        self.keep_above_chosen();
        let last = self.propose_open_slots(ballot, highest, last);
        if beginning == Beginning::FromWallClock {
            self.clock.skip_to_floor();
        }
        self.reads.wait_for_takeover(last);
        if !was_distinguished {
            self.changes.begin_leadership();
            self.handovers.begin_leadership();
            self.send_heartbeats();
        }
    }

    /// The last slot in which a value may have been chosen under an earlier ballot.
    fn last_open_slot(&self, highest: &Reported) -> Slot {
        match highest.last_key_value() {
            Some((&reported, _)) if !mutated(Mutant::TakeoverMissesReported) => reported.max(self.log.last()),
            _ => self.log.last(),
        }
    }

    /// Proposes in every open slot between the watermark and `last`: "the value of the highest-numbered
    /// proposal among the responses" (phase 2a), or where there is none a no-op, to fill the hole (section
    /// 3).
    ///
    /// A membership ends the epoch: slots behind it belong to the next one, whatever was accepted there in
    /// this one. Returns the last slot that was looked at.
    fn propose_open_slots(&mut self, ballot: Ballot, mut highest: Reported, last: Slot) -> Slot {
        let mut slot = self.log.chosen().next();
        while slot <= last {
            if !self.log.is_chosen(slot) {
                let constraint = self.highest_accepted(slot, highest.remove(&slot));
                if constraint.is_some() || fills_holes() {
                    let value = constraint.map_or_else(Value::no_op, |value| self.timed_again(value));
                    self.propose(ballot, slot, value);
                }
            } else if let Some(chosen) = self.log.entry(slot) {
                self.clock.keep_above(chosen.value().time());
            }
            if self.ends_epoch(slot) {
                if let ProposerState::Leading(leading) = &mut self.proposer {
                    leading.stop_at(slot);
                }
                return slot;
            }
            slot = slot.next();
        }
        last
    }

    /// The value of the highest-numbered proposal that a quorum has accepted in `slot`, given the highest
    /// that the peers have reported: this replica's own acceptance counts, too.
    fn highest_accepted(&self, slot: Slot, reported: Option<(Ballot, Value)>) -> Option<Value> {
        let reported = reported.filter(|_| !mutated(Mutant::ReportsIgnored));
        let own = match self.log.entry(slot) {
            Some(Entry::Accepted { ballot, value }) if !mutated(Mutant::OwnAcceptedIgnored) => {
                Some((*ballot, value.clone()))
            }
            _ => None,
        };
        let highest = [reported, own].into_iter().flatten().max_by_key(|(ballot, _)| *ballot);
        highest.map(|(_, value)| value)
    }

    /// This leader's time is no lower than that of what it knows to be chosen. Not all of that may have been
    /// applied yet: promises have reported some of it just now.
    fn keep_above_chosen(&mut self) {
        if mutated(Mutant::ChosenTimesIgnored) {
            return;
        }
        self.clock.keep_above(self.clock.applied());
        let mut slot = self.applied.next();
        while slot <= self.log.chosen() {
            if let Some(entry) = self.log.entry(slot) {
                self.clock.keep_above(entry.value().time());
            }
            slot = slot.next();
        }
    }

    /// A value that is proposed again, which always keeps its time: it is a part of the value (P2c).
    fn timed_again(&mut self, value: Value) -> Value {
        if mutated(Mutant::ValueProposedAgainGetsNewTime) { value.at(self.clock.stamp()) } else { value }
    }

    pub(super) fn tick_preparing(&mut self) {
        let ProposerState::Preparing(preparing) = &mut self.proposer else { return };
        if self.now_ticks >= preparing.expires_ticks {
            self.lose_duel();
        } else if preparing.is_own_promise_durable && self.now_ticks >= preparing.resend_ticks {
            let resend = u64::from(self.config.settings().resend_ticks);
            preparing.resend_ticks = self.now_ticks + resend;
            self.resend_prepares();
        }
    }

    /// Asks every member again whose report is not complete.
    fn resend_prepares(&mut self) {
        let ProposerState::Preparing(preparing) = &self.proposer else { return };
        let (ballot, handed_over) = (preparing.ballot, preparing.handed_over);
        let unanswered: Vec<(MemberIndex, Slot)> = (self.config.member_map().voters())
            .filter_map(|peer| match preparing.reports_of[peer] {
                ReportOf::UpTo(first) => Some((peer, first)),
                ReportOf::Whole => None,
            })
            .collect();
        for (peer, first) in unanswered {
            let to = self.config.member_map().id(peer);
            if to != self.config.node() {
                self.send(to, Prepare { ballot, first, handed_over });
            }
        }
    }

    /// Gives up phase 1 after a peer has said that it needs slots which exist only in a snapshot.
    pub(super) fn abandon_candidacy(&mut self) {
        if matches!(self.proposer, ProposerState::Preparing(_)) {
            self.step_down();
        }
    }
}

/// Whether a new leader proposes a no-op in a slot of which nothing was reported, which it always does.
fn fills_holes() -> bool {
    !mutated(Mutant::HoleSkipped)
}

/// Whether a correct acceptor can have given this promise.
fn is_well_formed(promise: &Promise) -> bool {
    let Promise { ballot, first, reports, rest, .. } = promise;
    let ascending = reports.is_sorted_by(|(before, _), (after, _)| before < after);
    let from_first = reports.first().is_none_or(|(slot, _)| slot >= first);
    let before_rest = rest.is_none_or(|rest| reports.last().is_some_and(|(slot, _)| *slot < rest));
    let below =
        |entry: &Entry| !matches!(entry, Entry::Accepted { ballot: accepted, .. } if accepted >= ballot);
    ascending && from_first && before_rest && reports.iter().all(|(_, entry)| below(entry))
}
