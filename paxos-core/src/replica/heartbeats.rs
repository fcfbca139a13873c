//! Heartbeats, and what rests on them: the chosen watermark that they carry, the confirmation of reads, and
//! the leader's lease.
//!
//! # The lease
//!
//! With [`ReadMode::Lease`] a follower that answers a heartbeat grants the leader a lease: for `lease_ticks`
//! from then on it promises nobody else, and does not run for leader. The leader may answer reads alone while
//! a quorum's leases last. It counts them from when it *sent* the heartbeat, which is earlier than any
//! follower received it, and stops `drift_ticks` early, as clocks may run at slightly different speeds. A
//! lease is not written to stable storage, so a replica that restarts acts as if it had granted one just
//! before.

use std::collections::VecDeque;

use super::{ProposerState, Replica};
use crate::clock::LeaderTime;
use crate::config::{AnnounceChosen, Config, ReadMode};
use crate::id::{Ballot, NodeId, Slot};
use crate::membership::{MemberIndex, PerMember};
use crate::message::{Heartbeat, HeartbeatAck, HeartbeatRound};
use crate::mutant::{Mutant, mutated};

/// The part of the heartbeats' state that outlasts a single leadership.
#[derive(Debug)]
pub(super) struct Heartbeats {
    /// The last round of heartbeats that this replica has sent, in any leadership.
    last_round: HeartbeatRound,
    /// As a follower: until then it promises nobody but the leader to which it has granted the lease.
    lease_granted_until_ticks: u64,
}

impl Heartbeats {
    pub(super) fn at_start(config: &Config) -> Heartbeats {
        let lease_granted_until_ticks = match config.settings().reads {
            ReadMode::Lease { lease_ticks, .. } if assumes_lease_at_start() => lease_end(0, lease_ticks),
            _ => 0,
        };
        Heartbeats { last_round: HeartbeatRound(0), lease_granted_until_ticks }
    }

    pub(super) fn last_round(&self) -> HeartbeatRound {
        self.last_round
    }

    fn next_round(&mut self) -> HeartbeatRound {
        self.last_round.0 += 1;
        self.last_round
    }
}

/// The heartbeats of one leadership, and which of them its members have answered.
#[derive(Debug)]
pub(super) struct HeartbeatRounds {
    /// When each heartbeat left, from the last one that a quorum has answered on.
    sent: VecDeque<(HeartbeatRound, u64)>,
    /// The last heartbeat that each member has answered. The leader answers its own at once.
    answered: PerMember<HeartbeatRound>,
    /// The last heartbeat that a quorum has answered.
    confirmed: HeartbeatRound,
    next_ticks: u64,
}

impl HeartbeatRounds {
    pub(super) fn new(config: &Config) -> HeartbeatRounds {
        let mut answered = PerMember::new(config.member_map(), HeartbeatRound(0));
        if let Some(own) = config.member_map().index_of(config.node()) {
            answered[own] = HeartbeatRound(u64::MAX);
        }
        let confirmed = confirmed_round(config, &answered);
        HeartbeatRounds { sent: VecDeque::new(), answered, confirmed, next_ticks: 0 }
    }

    /// Whether it is time for the next heartbeat.
    pub(super) fn is_due(&self, now_ticks: u64) -> bool {
        now_ticks >= self.next_ticks
    }

    /// The last heartbeat that a quorum has answered.
    pub(super) fn confirmed(&self) -> HeartbeatRound {
        self.confirmed
    }

    /// For a mutant: takes all heartbeats so far for answered.
    pub(super) fn confirm_all(&mut self, config: &Config) {
        self.answered = PerMember::new(config.member_map(), HeartbeatRound(u64::MAX));
        self.confirmed = HeartbeatRound(u64::MAX);
    }

    fn note_answer(&mut self, peer: MemberIndex, round: HeartbeatRound, config: &Config) {
        if round > self.answered[peer] {
            self.answered[peer] = round;
            self.confirmed = confirmed_round(config, &self.answered);
        }
    }

    /// When the last heartbeat left that a quorum has answered.
    fn confirmed_at_ticks(&self) -> Option<u64> {
        let is_confirmed = |(round, _): &&(HeartbeatRound, u64)| *round <= self.confirmed;
        self.sent.iter().rev().find(is_confirmed).map(|(_, at_ticks)| *at_ticks)
    }

    /// Notes that a heartbeat leaves, and forgets those that are no longer needed.
    fn push(&mut self, round: HeartbeatRound, now_ticks: u64, config: &Config) {
        while self.sent.get(1).is_some_and(|(round, _)| *round <= self.confirmed) {
            self.sent.pop_front();
        }
        self.sent.push_back((round, now_ticks));
        self.next_ticks = now_ticks + u64::from(config.settings().heartbeat_ticks);
    }
}

impl Replica {
    pub(super) fn send_heartbeats(&mut self) {
        let chosen = self.announced_chosen();
        let ProposerState::Leading(leading) = &mut self.proposer else { return };
        let round = self.heartbeats.next_round();
        leading.rounds.push(round, self.now_ticks, &self.config);
        leading.announced = chosen;
        let ballot = leading.ballot();
        let time = self.clock.leader_time();
        self.broadcast(Heartbeat { ballot, chosen, round, time });
    }

    /// Follows the leader, grants it the lease, and takes over its watermark.
    pub(super) fn on_heartbeat(&mut self, from: NodeId, heartbeat: Heartbeat) {
        let Heartbeat { ballot, chosen, round, time } = heartbeat;
        if !self.follow(from, ballot) {
            if acknowledges_any_leader() {
                let chosen = self.log.chosen();
                self.send(from, HeartbeatAck { ballot, round, chosen });
            }
            return;
        }
        if !mutated(Mutant::HeartbeatTimeIgnored) {
            self.clock.hear_leader(LeaderTime { ballot, time });
        }
        if let ReadMode::Lease { lease_ticks, .. } = self.config.settings().reads {
            self.heartbeats.lease_granted_until_ticks = lease_end(self.now_ticks, lease_ticks);
        }
        let known = self.log.chosen();
        self.send(from, HeartbeatAck { ballot, round, chosen: known });
        self.on_watermark(from, ballot, chosen);
    }

    pub(super) fn on_heartbeat_ack(&mut self, peer: MemberIndex, ack: HeartbeatAck) {
        let ProposerState::Leading(leading) = &mut self.proposer else { return };
        if leading.ballot() == ack.ballot {
            leading.peers[peer].note_answer(self.now_ticks);
            leading.peers[peer].chosen = ack.chosen.max(leading.peers[peer].chosen);
            leading.rounds.note_answer(peer, ack.round, &self.config);
        }
    }

    /// The watermark to announce to peers.
    pub(super) fn announced_chosen(&self) -> Slot {
        if mutated(Mutant::ChosenAnnouncedEarly) { self.log.last() } else { self.log.chosen() }
    }

    /// Announces what is chosen, if no accept of this step has done so: to all peers, or to those whose
    /// forwarded commands are chosen. Others learn it from the next accept or heartbeat.
    pub(super) fn announce_chosen(&mut self) {
        let ProposerState::Leading(leading) = &mut self.proposer else { return };
        let chosen = self.log.chosen();
        if leading.announced >= chosen {
            return;
        }
        let announced = leading.announced;
        let (ballot, round) = (leading.ballot(), self.heartbeats.last_round);
        let waits = |&member: &MemberIndex| match self.config.settings().announce_chosen {
            AnnounceChosen::Piggybacked => leading.peers[member].forwarded_through > announced,
            AnnounceChosen::AtOnce => self.config.member_map().id(member) != self.config.node(),
        };
        let waiting: Vec<MemberIndex> = self.config.member_map().indices().filter(waits).collect();
        if waiting.is_empty() {
            return;
        }
        leading.announced = chosen;
        let time = self.clock.leader_time();
        for member in waiting {
            let to = self.config.member_map().id(member);
            self.send(to, Heartbeat { ballot, chosen, round, time });
        }
    }

    /// Whether this follower's lease to some leader has not ended.
    pub(super) fn grants_lease(&self) -> bool {
        self.now_ticks < self.heartbeats.lease_granted_until_ticks
    }

    /// Whether this acceptor has granted a lease, which has not ended, to a leader other than `candidate`.
    /// A leader that has handed over under the ballot `handed_over` has given its lease up.
    pub(super) fn is_leased_to_another(&self, candidate: NodeId, handed_over: Option<Ballot>) -> bool {
        matches!(self.config.settings().reads, ReadMode::Lease { .. })
            && self.leader() != Some(candidate)
            && !(handed_over.is_some() && handed_over == self.election.followed())
            && self.grants_lease()
            && !mutated(Mutant::LeaseNotHeld)
    }

    /// Whether this replica will still be allowed to answer reads alone after `ticks` more ticks, if it hears
    /// nothing until then.
    pub(crate) fn holds_lease_in(&self, ticks: u64) -> bool {
        self.lease_until_ticks().is_some_and(|until_ticks| self.now_ticks + ticks < until_ticks)
    }

    /// When the leader's lease ends that a quorum has granted.
    fn lease_until_ticks(&self) -> Option<u64> {
        let ReadMode::Lease { lease_ticks, drift_ticks } = self.config.settings().reads else { return None };
        let ProposerState::Leading(leading) = &self.proposer else { return None };
        if leading.is_stopped() || self.has_given_lease_up(leading.ballot()) {
            return None;
        }
        let sent_at_ticks = leading.rounds.confirmed_at_ticks()?;
        let from_ticks = if mutated(Mutant::LeaseFromReceipt) {
            leading.peers.iter().map(|peer| peer.heard_at_ticks).max()?
        } else {
            sent_at_ticks
        };
        Some(from_ticks + usable_lease_ticks(lease_ticks, drift_ticks))
    }

    /// The ballot under which it leads now, for an observer outside of the cluster.
    #[cfg(feature = "sim")]
    pub(crate) fn leads_under(&self) -> Option<Ballot> {
        match &self.proposer {
            ProposerState::Leading(leading) => Some(leading.ballot()),
            _ => None,
        }
    }
}

/// The last heartbeat that a quorum has answered, given the last one that each member has.
fn confirmed_round(config: &Config, answered: &PerMember<HeartbeatRound>) -> HeartbeatRound {
    config.quorums().reached_by_quorum(&config.member_map().voters().map(|voter| answered[voter]))
}

/// When a lease ends that a follower grants now. One tick more, as both sides count whole ticks.
fn lease_end(now_ticks: u64, lease_ticks: u32) -> u64 {
    now_ticks + u64::from(lease_ticks) + 1
}

/// How long the leader relies on a lease. One tick less, as both sides count whole ticks.
fn usable_lease_ticks(lease_ticks: u32, drift_ticks: u32) -> u64 {
    let drift_ticks = if mutated(Mutant::LeaseIgnoresDrift) { 0 } else { drift_ticks };
    u64::from(lease_ticks - drift_ticks - 1)
}

/// Whether a replica that starts acts as if it had granted a lease just before, which it always does.
fn assumes_lease_at_start() -> bool {
    !mutated(Mutant::LeaseForgottenAtRestart)
}

/// Whether heartbeats of a leader that this replica refuses are acknowledged, which they never are.
fn acknowledges_any_leader() -> bool {
    mutated(Mutant::AckAfterHigherPromise)
}
