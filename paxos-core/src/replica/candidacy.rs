//! Following a leader, and finding out that it is lost.
//!
//! A node that misses the leader first *probes*: only if a quorum misses it too does it use up a ballot. So a
//! node behind a bad link can't depose a leader that serves everyone else. Candidates that collide back off
//! for a random time that doubles (*Paxos Made Simple*, section 2.4, on why a distinguished proposer is
//! needed).

use super::{ProposerState, Replica};
use crate::config::Config;
use crate::id::{Ballot, NodeId};
use crate::membership::{MemberIndex, MemberSet};
use crate::message::{Consent, Probe, Reject};
use crate::mutant::{Mutant, mutated};
use crate::random::Random;

/// After this many lost duels the back-off grows no further.
const MAX_BACKOFF_DOUBLINGS: u32 = 4;

/// What a replica knows about the leader, and when it will look for another.
#[derive(Debug)]
pub(super) struct Election {
    contact: Option<Contact>,
    /// The highest ballot that this replica has heard of; its own next one goes above it.
    seen: Ballot,
    /// When to look for a new leader unless one is heard from.
    deadline_ticks: u64,
    lost_duels: u32,
}

/// The leader that this replica follows, or this replica itself while it leads.
#[derive(Clone, Copy, Debug)]
struct Contact {
    ballot: Ballot,
    heard_at_ticks: u64,
}

impl Election {
    pub(super) fn at_start(config: &Config, promised: Ballot, random: &mut Random) -> Election {
        let timeout = u64::from(config.settings().election_timeout_ticks);
        let deadline_ticks = timeout + random.below(timeout) + headstart_ticks(config);
        Election { contact: None, seen: promised, deadline_ticks, lost_duels: 0 }
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        self.contact.map(|contact| contact.ballot.node)
    }

    pub(super) fn see(&mut self, ballot: Ballot) {
        self.seen = self.seen.max(ballot);
    }

    pub(super) fn seen(&self) -> Ballot {
        self.seen
    }

    /// Takes the proposer of `ballot` for the leader.
    pub(super) fn hear_leader(&mut self, ballot: Ballot, now_ticks: u64) {
        if self.followed() != Some(ballot) {
            self.see(ballot);
            self.lost_duels = 0;
        }
        self.contact = Some(Contact { ballot, heard_at_ticks: now_ticks });
    }

    /// The ballot of the leader that is followed, if any is.
    pub(super) fn followed(&self) -> Option<Ballot> {
        self.contact.map(|contact| contact.ballot)
    }
}

/// Asking whether a quorum has lost the leader.
#[derive(Debug)]
pub(super) struct Probing {
    ballot: Ballot,
    consents: MemberSet,
    expires_ticks: u64,
}

impl Replica {
    pub(super) fn tick_following(&mut self) {
        let is_leader_lost = self.now_ticks >= self.election.deadline_ticks;
        if is_leader_lost && !self.config.membership().may_lead(self.config.node()) {
            self.put_off_election();
            self.tell_epoch_to_members();
        } else if is_leader_lost && !self.grants_lease() && self.may_run_for_leader() {
            self.end_handover_unheard();
            self.election.contact = None;
            let mut consents = MemberSet::default();
            consents.extend(self.own_index());
            let ballot = self.election.seen.successor_for(self.config.node());
            let expires_ticks = self.random_timeout_ticks();
            self.proposer = ProposerState::Probing(Probing { ballot, consents, expires_ticks });
            self.broadcast(Probe { ballot });
            self.prepare_if_quorum_consents();
        }
    }

    pub(super) fn tick_probing(&mut self) {
        let ProposerState::Probing(probing) = &self.proposer else { return };
        let (ballot, expires_ticks) = (probing.ballot, probing.expires_ticks);
        if self.now_ticks >= expires_ticks {
            self.proposer = ProposerState::Following;
            self.tick_following();
        } else if self.now_ticks.is_multiple_of(u64::from(self.config.settings().resend_ticks)) {
            self.broadcast(Probe { ballot });
        }
    }

    /// Consents unless this replica has a leader, is one, or is about to be.
    pub(super) fn on_probe(&mut self, from: NodeId, probe: Probe) {
        let is_proposer = matches!(self.proposer, ProposerState::Leading(_) | ProposerState::Preparing(_));
        if !is_proposer && !self.hears_leader() && self.may_promise() {
            self.send(from, Consent { ballot: probe.ballot, promised: self.promised });
        }
    }

    pub(super) fn on_consent(&mut self, peer: MemberIndex, consent: Consent) {
        self.election.see(consent.promised);
        let ProposerState::Probing(probing) = &mut self.proposer else { return };
        if probing.ballot == consent.ballot {
            probing.consents.insert(peer);
            self.prepare_if_quorum_consents();
        }
    }

    fn prepare_if_quorum_consents(&mut self) {
        let ProposerState::Probing(probing) = &self.proposer else { return };
        if self.config.quorums().enough_promises(self.config.member_map().votes(probing.consents)) {
            self.begin_prepare(None);
        }
    }

    /// A higher ballot stands in the way of this replica's current one. A late reject of an older one changes
    /// nothing.
    pub(super) fn on_reject(&mut self, reject: Reject) {
        self.election.see(reject.promised);
        let current = match &self.proposer {
            ProposerState::Preparing(preparing) => preparing.ballot(),
            ProposerState::Leading(leading) => leading.ballot(),
            ProposerState::Following | ProposerState::Probing(_) => return,
        };
        if reject.ballot == current && reject.promised > current {
            self.lose_duel();
        }
    }

    /// Phase 1 did not succeed: goes back to following and waits longer each time.
    pub(super) fn lose_duel(&mut self) {
        self.election.lost_duels = (self.election.lost_duels + 1).min(MAX_BACKOFF_DOUBLINGS);
        self.step_down();
    }

    /// Stops proposing. Commands that wait to be proposed are dropped: their drivers propose them again
    /// elsewhere. Only if leadership was handed over they wait for the new leader.
    pub(super) fn step_down(&mut self) {
        self.proposer = ProposerState::Following;
        self.election.contact = None;
        if !self.is_handing_over() {
            self.queue.clear();
        }
        self.lose_change();
        self.refuse_unconfirmed_reads();
        self.put_off_election();
    }

    /// Takes the sender of a heartbeat or accept for the leader, unless a higher ballot is known.
    pub(super) fn follow(&mut self, from: NodeId, ballot: Ballot) -> bool {
        if ballot.node != from {
            return false;
        }
        let highest = self.promised.max(self.election.followed().unwrap_or(Ballot::ZERO));
        if is_outdated(ballot, highest) {
            self.send(from, Reject { ballot, promised: highest });
            return false;
        }
        if !matches!(self.proposer, ProposerState::Following) {
            self.step_down();
        }
        self.election.hear_leader(ballot, self.now_ticks);
        self.put_off_election();
        self.end_handover_to(from);
        true
    }

    /// Forgets a leader that the membership in force gives no vote.
    pub(super) fn forget_leader_without_vote(&mut self) {
        let has_vote = |leader| self.config.membership().is_voter(leader);
        if self.leader().is_some_and(|leader| !has_vote(leader)) {
            self.election.contact = None;
        }
    }

    /// Whether the leader has been heard from so lately that nobody should take its place.
    fn hears_leader(&self) -> bool {
        let timeout = u64::from(self.config.settings().election_timeout_ticks);
        self.election.contact.is_some_and(|contact| self.now_ticks < contact.heard_at_ticks + timeout)
    }

    /// Whether this replica is the distinguished proposer, even if it is between two ballots of its own.
    pub(super) fn is_distinguished(&self) -> bool {
        self.leader() == Some(self.config.node())
    }

    /// A voter that others precede waits one more time-out, so that they run first.
    pub(super) fn put_off_election(&mut self) {
        self.election.deadline_ticks = self.random_timeout_ticks() + headstart_ticks(&self.config);
    }

    pub(super) fn random_timeout_ticks(&mut self) -> u64 {
        let timeout = u64::from(self.config.settings().election_timeout_ticks);
        self.now_ticks + timeout + self.random.below(timeout << self.election.lost_duels)
    }
}

/// For how long this node lets voters with a higher priority go first, if there are any.
fn headstart_ticks(config: &Config) -> u64 {
    let is_preceded = config.membership().is_preceded(config.node());
    if is_preceded { u64::from(config.settings().election_timeout_ticks) } else { 0 }
}

/// Whether a leader's ballot comes too late.
fn is_outdated(ballot: Ballot, highest: Ballot) -> bool {
    ballot < highest && !mutated(Mutant::AcceptBelowPromise)
}
