//! Who may propose: finding out that the leader is gone, and phase 1 over all open slots.
//!
//! A node that misses the leader first *probes*: only if a quorum misses it too does it use up a ballot. So a
//! node behind a bad link can't depose a leader that serves everyone else. Candidates that collide back off
//! for a random time that doubles (*Paxos Made Simple*, section 2.4, on why a distinguished proposer is needed).

use std::collections::BTreeMap;

use super::writes::Consequence;
use super::{Leading, Output, Replica, State};
use crate::config::{Config, ReadMode};
use crate::durable::Entry;
use crate::id::{Ballot, NodeId, Slot};
use crate::message::Body;
use crate::mutant::{Mutant, mutated};
use crate::quorum::{MemberIndex, MemberSet, PerMember};
use crate::random::Random;
use crate::value::Value;

/// After this many lost duels the back-off grows no further.
const MAX_BACKOFF_DOUBLINGS: u32 = 4;

/// What a replica knows about who leads.
#[derive(Debug)]
pub(super) struct Election {
    contact: Option<Contact>,
    /// The highest ballot heard of; the next own one goes above it.
    seen: Ballot,
    /// When to look for a new leader unless one is heard from.
    deadline_ticks: u64,
    lost_duels: u32,
    /// Until then no promise is given to anyone but the leader that holds the lease.
    pub(super) lease_granted_until_ticks: u64,
}

/// The leader that is followed (or that this replica itself is).
#[derive(Clone, Copy, Debug)]
struct Contact {
    ballot: Ballot,
    heard_at_ticks: u64,
}

impl Election {
    pub(super) fn at_start(config: &Config, promised: Ballot, random: &mut Random) -> Election {
        let timeout = u64::from(config.options().election_timeout_ticks);
        // A lease may have been granted just before the restart, and that is not written down.
        let lease_granted_until_ticks = match config.options().reads {
            ReadMode::Lease { lease_ticks, .. } if !mutated(Mutant::LeaseForgottenAtRestart) => {
                u64::from(lease_ticks) + 1
            }
            _ => 0,
        };
        Election {
            contact: None,
            seen: promised,
            deadline_ticks: timeout + random.below(timeout),
            lost_duels: 0,
            lease_granted_until_ticks,
        }
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        self.contact.map(|contact| contact.ballot.node)
    }

    pub(super) fn see(&mut self, ballot: Ballot) {
        self.seen = self.seen.max(ballot);
    }
}

/// Asking whether a quorum has lost the leader.
#[derive(Debug)]
pub(super) struct Probing {
    ballot: Ballot,
    consents: MemberSet,
    expires_ticks: u64,
}

/// Phase 1 under way.
#[derive(Debug)]
pub(super) struct Preparing {
    ballot: Ballot,
    first: Slot,
    own_promise_durable: bool,
    reports_of: PerMember<ReportOf>,
    /// For each slot the proposal with the highest ballot that a peer has reported.
    highest: BTreeMap<Slot, (Ballot, Value)>,
    resend_ticks: u64,
    expires_ticks: u64,
}

/// How much of a peer's report has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReportOf {
    /// All before this slot.
    UpTo(Slot),
    /// All.
    Whole,
}

impl Replica {
    pub(super) fn tick_following(&mut self, outputs: &mut Vec<Output>) {
        let lost = self.now_ticks >= self.election.deadline_ticks;
        let may_run = self.now_ticks >= self.election.lease_granted_until_ticks && self.may_run_for_leader();
        if lost && may_run {
            self.election.contact = None;
            let mut consents = MemberSet::default();
            consents.insert(self.own_index());
            let ballot = self.election.seen.successor_for(self.config.node());
            let expires_ticks = self.random_timeout_ticks();
            self.state = State::Probing(Probing { ballot, consents, expires_ticks });
            self.broadcast(Body::Probe { ballot }, outputs);
            self.prepare_if_quorum_consents();
        }
    }

    pub(super) fn tick_probing(&mut self, outputs: &mut Vec<Output>) {
        let State::Probing(probing) = &self.state else { return };
        let (ballot, expires_ticks) = (probing.ballot, probing.expires_ticks);
        if self.now_ticks >= expires_ticks {
            self.state = State::Following;
            self.tick_following(outputs);
        } else if self.now_ticks.is_multiple_of(u64::from(self.config.options().resend_ticks)) {
            self.broadcast(Body::Probe { ballot }, outputs);
        }
    }

    pub(super) fn tick_preparing(&mut self, outputs: &mut Vec<Output>) {
        let resend = u64::from(self.config.options().resend_ticks);
        let State::Preparing(preparing) = &mut self.state else { return };
        if self.now_ticks >= preparing.expires_ticks {
            self.lose_duel(outputs);
        } else if preparing.own_promise_durable && self.now_ticks >= preparing.resend_ticks {
            preparing.resend_ticks = self.now_ticks + resend;
            let ballot = preparing.ballot;
            let unanswered: Vec<(MemberIndex, Slot)> = (self.config.member_map().indices())
                .filter_map(|peer| match preparing.reports_of[peer] {
                    ReportOf::UpTo(first) => Some((peer, first)),
                    ReportOf::Whole => None,
                })
                .collect();
            for (peer, first) in unanswered {
                let to = self.config.member_map().id(peer);
                if to != self.config.node() {
                    self.send(to, Body::Prepare { ballot, first }, outputs);
                }
            }
        }
    }

    /// Consents unless this replica has a leader, is one, or is about to be.
    pub(super) fn on_probe(&mut self, from: NodeId, ballot: Ballot, outputs: &mut Vec<Output>) {
        let occupied = matches!(self.state, State::Leading(_) | State::Preparing(_));
        if !occupied && !self.hears_leader() {
            self.send(from, Body::Consent { ballot, promised: self.promised }, outputs);
        }
    }

    pub(super) fn on_consent(&mut self, from: MemberIndex, ballot: Ballot, promised: Ballot) {
        self.election.see(promised);
        let State::Probing(probing) = &mut self.state else { return };
        if probing.ballot == ballot {
            probing.consents.insert(from);
            self.prepare_if_quorum_consents();
        }
    }

    fn prepare_if_quorum_consents(&mut self) {
        let State::Probing(probing) = &self.state else { return };
        if probing.consents.len() >= self.config.quorums().prepare() {
            self.begin_prepare();
        }
    }

    /// Phase 1a: picks a ballot above all it knows of and promises it. The prepare leaves when that is durable,
    /// so that no restart can ever use the ballot again.
    pub(super) fn begin_prepare(&mut self) {
        let mut ballot = self.election.seen.max(self.promised).successor_for(self.config.node());
        if ballot <= self.promised {
            return; // The rounds are used up: only a broken peer can have brought them that far.
        }
        if self.promised.node == self.config.node() && mutated(Mutant::OldBallotReused) {
            ballot = self.promised;
        } else {
            self.promise(ballot);
        }
        let first = self.log.chosen().next();
        self.state = State::Preparing(Preparing {
            ballot,
            first,
            own_promise_durable: false,
            reports_of: PerMember::new(self.config.member_map(), ReportOf::UpTo(first)),
            highest: BTreeMap::new(),
            resend_ticks: self.now_ticks + u64::from(self.config.options().resend_ticks),
            expires_ticks: self.random_timeout_ticks(),
        });
        self.writes.then(Consequence::OwnPromise { ballot });
    }

    pub(super) fn on_own_promise(&mut self, ballot: Ballot, outputs: &mut Vec<Output>) {
        let own = self.own_index();
        let State::Preparing(preparing) = &mut self.state else { return };
        if preparing.ballot == ballot {
            preparing.own_promise_durable = true;
            preparing.reports_of[own] = ReportOf::Whole;
            let first = preparing.first;
            self.broadcast(Body::Prepare { ballot, first }, outputs);
            self.lead_if_quorum_promises(outputs);
        }
    }

    pub(super) fn on_promise(
        &mut self,
        from: MemberIndex,
        ballot: Ballot,
        first: Slot,
        reports: Vec<(Slot, Entry)>,
        rest: Option<Slot>,
        outputs: &mut Vec<Output>,
    ) {
        let State::Preparing(preparing) = &self.state else { return };
        let is_current = preparing.ballot == ballot || mutated(Mutant::PromiseOfOlderBallotCounts);
        let expected = is_current && preparing.reports_of[from] == ReportOf::UpTo(first);
        if !expected || !is_well_formed(ballot, first, &reports, rest) {
            return;
        }
        for (slot, entry) in reports {
            self.take_report(slot, entry);
        }
        let State::Preparing(preparing) = &mut self.state else { return };
        if let Some(next) = rest {
            preparing.reports_of[from] = ReportOf::UpTo(next);
            let to = self.config.member_map().id(from);
            self.send(to, Body::Prepare { ballot, first: next }, outputs);
        } else {
            preparing.reports_of[from] = ReportOf::Whole;
            self.lead_if_quorum_promises(outputs);
        }
    }

    fn take_report(&mut self, slot: Slot, entry: Entry) {
        match entry {
            Entry::Chosen { value } => self.learn(slot, value),
            Entry::Accepted { ballot, value } => {
                let State::Preparing(preparing) = &mut self.state else { return };
                let highest = preparing.highest.entry(slot).or_insert_with(|| (ballot, value.clone()));
                if ballot > highest.0 || mutated(Mutant::LastReportWins) {
                    *highest = (ballot, value);
                }
            }
        }
    }

    fn lead_if_quorum_promises(&mut self, outputs: &mut Vec<Output>) {
        let State::Preparing(preparing) = &mut self.state else { return };
        let is_whole = |peer: &MemberIndex| preparing.reports_of[*peer] == ReportOf::Whole;
        let whole = self.config.member_map().indices().filter(is_whole).count();
        let whole = whole + usize::from(mutated(Mutant::PrepareQuorumOffByOne));
        if !preparing.own_promise_durable || whole < self.config.quorums().prepare() {
            return;
        }
        let (ballot, highest) = (preparing.ballot, std::mem::take(&mut preparing.highest));
        let returning = self.is_distinguished();
        self.election.contact = Some(Contact { ballot, heard_at_ticks: self.now_ticks });
        self.election.lost_duels = 0;
        self.stop_transfer();
        let mut last = highest.last_key_value().map_or(Slot::ZERO, |(&slot, _)| slot).max(self.log.last());
        if mutated(Mutant::TakeoverMissesReported) {
            last = self.log.last();
        }
        self.state = State::Leading(Leading::new(&self.config, ballot, last, self.now_ticks));
        self.propose_open_slots(ballot, highest, last, outputs);
        self.reads.wait_for_takeover(last);
        if !returning {
            self.send_heartbeats(outputs);
        }
    }

    /// Proposes in every slot that is open between the watermark and the last one heard of: "the value of the
    /// highest-numbered proposal among the responses" (phase 2a), or where there is none a no-op, to fill the
    /// hole (section 3).
    fn propose_open_slots(
        &mut self,
        ballot: Ballot,
        mut highest: BTreeMap<Slot, (Ballot, Value)>,
        last: Slot,
        outputs: &mut Vec<Output>,
    ) {
        let mut slot = self.log.chosen().next();
        while slot <= last {
            if !self.log.is_chosen(slot) {
                let reported = highest.remove(&slot).filter(|_| !mutated(Mutant::ReportsIgnored));
                let own = match self.log.entry(slot) {
                    Some(Entry::Accepted { ballot, value }) if !mutated(Mutant::OwnAcceptedIgnored) => {
                        Some((*ballot, value.clone()))
                    }
                    _ => None,
                };
                let constraint = [reported, own].into_iter().flatten().max_by_key(|(ballot, _)| *ballot);
                if constraint.is_some() || !mutated(Mutant::HoleSkipped) {
                    let value = constraint.map_or_else(Value::no_op, |(_, value)| value);
                    self.propose(ballot, slot, value, outputs);
                }
            }
            slot = slot.next();
        }
    }

    /// A higher ballot stands in the way of one of ours. A late word about an older one changes nothing.
    pub(super) fn on_reject(&mut self, ballot: Ballot, promised: Ballot, outputs: &mut Vec<Output>) {
        self.election.see(promised);
        let current = match &self.state {
            State::Preparing(preparing) => preparing.ballot,
            State::Leading(leading) => leading.ballot(),
            State::Following | State::Probing(_) => return,
        };
        if ballot == current && promised > current {
            self.lose_duel(outputs);
        }
    }

    /// Phase 1 did not succeed: goes back to following and waits longer each time.
    pub(super) fn lose_duel(&mut self, outputs: &mut Vec<Output>) {
        self.election.lost_duels = (self.election.lost_duels + 1).min(MAX_BACKOFF_DOUBLINGS);
        self.step_down(outputs);
    }

    /// Stops proposing. What waits to be proposed is dropped: its driver proposes it again elsewhere.
    pub(super) fn step_down(&mut self, outputs: &mut Vec<Output>) {
        self.state = State::Following;
        self.election.contact = None;
        self.queue.clear();
        self.reads.refuse_unconfirmed(outputs);
        self.put_off_election();
    }

    /// Takes the sender of a heartbeat or accept for the leader, unless a higher ballot is known.
    pub(super) fn follow(&mut self, from: NodeId, ballot: Ballot, outputs: &mut Vec<Output>) -> bool {
        let followed = self.election.contact.map_or(Ballot::ZERO, |contact| contact.ballot);
        let highest = self.promised.max(followed);
        if ballot.node != from {
            return false;
        }
        if ballot < highest && !mutated(Mutant::AcceptBelowPromise) {
            self.send(from, Body::Reject { ballot, promised: highest }, outputs);
            return false;
        }
        if !matches!(self.state, State::Following) {
            self.step_down(outputs);
        }
        if followed != ballot {
            self.election.see(ballot);
            self.election.lost_duels = 0;
        }
        self.election.contact = Some(Contact { ballot, heard_at_ticks: self.now_ticks });
        self.put_off_election();
        true
    }

    /// Whether the leader has been heard from so lately that nobody should take its place.
    fn hears_leader(&self) -> bool {
        let timeout = u64::from(self.config.options().election_timeout_ticks);
        self.election.contact.is_some_and(|contact| self.now_ticks < contact.heard_at_ticks + timeout)
    }

    /// Whether this replica is the distinguished proposer, even if it is between two ballots of its own.
    pub(super) fn is_distinguished(&self) -> bool {
        self.leader() == Some(self.config.node())
    }

    /// Gives up phase 1 after a peer has said that it needs slots which exist only in a snapshot.
    pub(super) fn abandon_candidacy(&mut self, outputs: &mut Vec<Output>) {
        if matches!(self.state, State::Preparing(_)) {
            self.step_down(outputs);
        }
    }

    pub(super) fn put_off_election(&mut self) {
        self.election.deadline_ticks = self.random_timeout_ticks();
    }

    fn random_timeout_ticks(&mut self) -> u64 {
        let timeout = u64::from(self.config.options().election_timeout_ticks);
        self.now_ticks + timeout + self.random.below(timeout << self.election.lost_duels)
    }
}

/// Whether a promise is one that a correct acceptor can have given to `ballot`.
fn is_well_formed(ballot: Ballot, first: Slot, reports: &[(Slot, Entry)], rest: Option<Slot>) -> bool {
    let ascending = reports.is_sorted_by(|(before, _), (after, _)| before < after);
    let from_first = reports.first().is_none_or(|(slot, _)| *slot >= first);
    let before_rest = rest.is_none_or(|rest| reports.last().is_some_and(|(slot, _)| *slot < rest));
    let below =
        |entry: &Entry| !matches!(entry, Entry::Accepted { ballot: accepted, .. } if *accepted >= ballot);
    ascending && from_first && before_rest && reports.iter().all(|(_, entry)| below(entry))
}
