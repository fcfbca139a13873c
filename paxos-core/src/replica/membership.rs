//! Changing the membership, and entering the epoch that a new membership begins.
//!
//! A membership is a value of the log. It *stops* its epoch: behind a membership the leader proposes nothing
//! until it is chosen, and then all slots behind it are decided in the next epoch, among the new voters.
//! Whatever was accepted behind it in the old epoch can't have been chosen there: a slot counts as chosen
//! only once all slots before it are, and none of them ends the epoch.
//!
//! # Why no phase 1 is needed
//!
//! A membership holds the ballot under which it was first proposed, and every replica that enters its epoch
//! promises that ballot. So in the new epoch nobody ever accepts a proposal below it, and the condition of
//! *Paxos Made Simple*, section 2.2 (P2c) holds for it at once: no acceptor of the new epoch has accepted
//! anything under a lower ballot. Entering the epoch is the promise. The leader that proposed the membership
//! first therefore goes on under its ballot, one round trip after it stopped. A leader that found it in
//! phase 1 and proposed it again must not: the first one may have got values chosen in the new epoch. It runs
//! phase 1 there, under a ballot of its own, and announces the epoch before that, so that nobody misses the
//! prepare because it has not entered the epoch yet.
//!
//! A membership counts only if it is of the epoch after the present one. One that was accepted and not chosen
//! may be chosen again in a later slot, when its epoch has passed; it changes nothing then.
//!
//! Deliberately absent: joint quorums, as one change at a time moves one vote; and several changes in one
//! value.

use super::{ChangeRefusal, ChangeRequest, Output, ProposerState, Replica, RequestId, Standing};
use crate::config::PhaseOne;
use crate::durable::SnapshotMeta;
use crate::id::{Epoch, NodeId, Slot};
use crate::membership::{Change, MemberIndex, Membership};
use crate::message::{Body, Heartbeat, Message, NewEpoch};
use crate::mutant::{Mutant, mutated};
use crate::value::{Value, ValueKind};

/// The memberships that a replica has gone through, and the change under way.
#[derive(Debug)]
pub(super) struct Changes {
    /// The membership in force behind each of these slots, up to the next one. The first is that of the
    /// newest snapshot or older, the last is the present one.
    history: Vec<(Slot, Membership)>,
    pending: Option<Pending>,
    /// Whether a value is chosen that this replica proposed in its present leadership.
    has_own_value: bool,
    /// If this node is removed: who of the present voters is known to know it.
    told: Vec<NodeId>,
}

/// A change that this leader makes.
#[derive(Debug)]
struct Pending {
    request: ChangeRequest,
    /// The slot in which it is proposed, once it is.
    slot: Option<Slot>,
}

impl Changes {
    pub(super) fn new(slot: Slot, membership: Membership) -> Changes {
        Changes { history: vec![(slot, membership)], pending: None, has_own_value: false, told: Vec::new() }
    }

    /// The membership before the one in force.
    fn previous(&self) -> &Membership {
        &self.history[self.history.len().saturating_sub(2)].1
    }

    /// The slot of the membership in force.
    fn since(&self) -> Slot {
        self.history.last().expect("there is always a membership in force").0
    }

    pub(super) fn push(&mut self, slot: Slot, membership: Membership) {
        self.history.push((slot, membership));
        self.told.clear();
    }

    /// Forgets memberships that were over before `slot`.
    pub(super) fn forget_before(&mut self, slot: Slot) {
        let older = self.history.iter().filter(|(since, _)| *since <= slot).count().saturating_sub(1);
        self.history.drain(..older);
    }

    pub(super) fn begin_leadership(&mut self) {
        self.has_own_value = false;
    }

    pub(super) fn note_own_value(&mut self) {
        self.has_own_value = true;
    }

    /// Whether the membership may be changed: a value of this leadership is chosen, so the leader knows all
    /// that was chosen before.
    fn may_propose(&self) -> bool {
        self.has_own_value || mutated(Mutant::ChangeBeforeOwnValue)
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }
}

impl Replica {
    /// The membership in force behind `slot`, which belongs into a snapshot of that slot. `None` if a newer
    /// snapshot has let this replica forget it.
    #[must_use]
    pub fn membership_at(&self, slot: Slot) -> Option<Membership> {
        let before = self.changes.history.iter().rev().find(|(since, _)| *since <= slot);
        before.map(|(_, membership)| membership.clone())
    }

    /// What this node is in the membership in force, as far as it knows.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (membership, node) = (self.config.membership(), self.config.node());
        match membership.member(node) {
            Some(_) if membership.is_voter(node) => Standing::Voter,
            Some(_) => Standing::Learner,
            None if membership.was_removed(node) => Standing::Removed { may_end: self.may_end() },
            None => Standing::Outsider,
        }
    }

    /// If this replica leads: through which slot `member` is known to know what is chosen, and whether it was
    /// heard from within an election timeout.
    #[must_use]
    pub fn progress_of(&self, member: NodeId) -> Option<(Slot, bool)> {
        matches!(self.proposer, ProposerState::Leading(_))
            .then(|| (self.chosen_at(member), self.hears(member)))
    }

    pub(super) fn is_voter(&self) -> bool {
        self.own_index().is_some_and(|own| self.config.member_map().is_voter(own))
    }

    /// Changes the membership if this replica leads, or says why not.
    pub(super) fn on_change(&mut self, request: ChangeRequest) {
        match self.check_change(&request) {
            Ok(()) => self.changes.pending = Some(Pending { request, slot: None }),
            Err(refusal) => self.refuse_change(request.request, refusal),
        }
    }

    fn refuse_change(&mut self, request: RequestId, refusal: ChangeRefusal) {
        self.outputs.push(Output::ChangeRefused { request, refusal });
    }

    fn check_change(&mut self, request: &ChangeRequest) -> Result<(), ChangeRefusal> {
        let ChangeRequest { change, if_epoch, is_forced, .. } = request;
        if !self.is_distinguished() {
            return Err(ChangeRefusal::NotLeader { leader: self.leader() });
        }
        if let Some(to) = self.successor() {
            return Err(ChangeRefusal::HandingOver { to });
        }
        if let Some(pending) = &self.changes.pending
            && !(pending.slot.is_some() && mutated(Mutant::TwoChangesAtOnce))
        {
            return Err(ChangeRefusal::UnderWay { change: pending.request.change.clone() });
        }
        let epoch = self.config.membership().epoch();
        if if_epoch.is_some_and(|expected| expected != epoch) {
            return Err(ChangeRefusal::OtherEpoch { epoch });
        }
        let next =
            self.config.membership().changed(change, self.promised).map_err(ChangeRefusal::Impossible)?;
        if !is_forced {
            self.check_lag(change)?;
            self.check_live(&next)?;
        }
        if self.ends_leadership(&next) {
            let to = self.hand_over_to_anybody().ok_or(ChangeRefusal::NobodyElseLeads)?;
            return Err(ChangeRefusal::LeaderHandsOver { to });
        }
        Ok(())
    }

    /// Whether this leader can't lead on with `next` in force. One whose priority is 0 already leads because
    /// nobody else can: it makes every change that leaves it its vote.
    fn ends_leadership(&self, next: &Membership) -> bool {
        let own = self.config.node();
        !next.is_voter(own) || (self.config.membership().may_lead(own) && !next.may_lead(own))
    }

    /// A learner is promoted only if it can take part at once.
    fn check_lag(&self, change: &Change) -> Result<(), ChangeRefusal> {
        let Change::Promote { node } = change else { return Ok(()) };
        if !self.hears(*node) {
            return Err(ChangeRefusal::NotHeard { node: *node });
        }
        let slots = self.log.chosen().0.saturating_sub(self.chosen_at(*node).0);
        let limit_slots = self.config.settings().window_slots;
        if slots > limit_slots { Err(ChangeRefusal::LearnerLags { slots, limit_slots }) } else { Ok(()) }
    }

    fn check_live(&self, next: &Membership) -> Result<(), ChangeRefusal> {
        let live = next.voters().filter(|&voter| self.hears(voter)).count();
        let needed = next.quorums().prepare().max(next.quorums().accept());
        if live < needed { Err(ChangeRefusal::NoLiveQuorum { live, needed }) } else { Ok(()) }
    }

    /// Every slot up to the one returned is known to `member` to be chosen, as far as this leader knows.
    pub(super) fn chosen_at(&self, member: NodeId) -> Slot {
        match (&self.proposer, self.config.member_map().index_of(member)) {
            _ if member == self.config.node() => self.log.chosen(),
            (ProposerState::Leading(leading), Some(index)) => leading.peers[index].chosen,
            _ => Slot::ZERO,
        }
    }

    /// Whether this leader has heard from `member`, and that within an election timeout.
    pub(super) fn hears(&self, member: NodeId) -> bool {
        let timeout = u64::from(self.config.settings().election_timeout_ticks);
        match (&self.proposer, self.config.member_map().index_of(member)) {
            _ if member == self.config.node() => true,
            (ProposerState::Leading(leading), Some(index)) => {
                let peer = &leading.peers[index];
                peer.has_answered && self.now_ticks <= peer.heard_at_ticks + timeout
            }
            _ => false,
        }
    }

    /// Proposes the change that waits, as soon as that is allowed: behind everything that is in flight.
    pub(super) fn propose_change(&mut self) {
        let Some(Pending { request, slot: None }) = &self.changes.pending else { return };
        let (request, change) = (request.request, request.change.clone());
        let horizon = self.log.chosen().advanced_by(self.config.horizon_slots());
        let ProposerState::Leading(leading) = &mut self.proposer else { return };
        if leading.is_stopped() && !mutated(Mutant::TwoChangesAtOnce) {
            return;
        }
        if self.config.settings().phase_one == PhaseOne::EveryValue && leading.is_spent() {
            if leading.is_idle() {
                self.begin_prepare(None);
            }
            return;
        }
        if !self.changes.may_propose() {
            if leading.is_idle() {
                let (ballot, slot) = leading.start_slot();
                self.propose(ballot, slot, Value::no_op());
            }
            return;
        }
        if leading.next_slot() > horizon {
            return;
        }
        let ballot = leading.ballot();
        match self.config.membership().changed(&change, ballot) {
            Ok(next) => {
                let (ballot, slot) = leading.start_slot();
                if let Some(pending) = &mut self.changes.pending {
                    pending.slot = Some(slot);
                }
                self.propose(ballot, slot, Value::membership(&next));
                if let ProposerState::Leading(leading) = &mut self.proposer {
                    leading.stop_at(slot);
                }
            }
            Err(error) => {
                self.changes.pending = None;
                self.refuse_change(request, ChangeRefusal::Impossible(error));
            }
        }
    }

    /// The change under way is not this replica's any more.
    pub(super) fn lose_change(&mut self) {
        if let Some(pending) = self.changes.pending.take() {
            self.refuse_change(pending.request.request, ChangeRefusal::Lost);
        }
    }

    /// Whether the log holds the next membership in `slot`, so that slots behind it belong to another epoch.
    pub(super) fn ends_epoch(&self, slot: Slot) -> bool {
        let value = self.log.entry(slot).map(crate::durable::Entry::value);
        let membership = value.filter(|value| value.kind() == ValueKind::Membership);
        let next = self.config.membership().epoch().next();
        membership.and_then(Value::as_membership).is_some_and(|membership| membership.epoch() == next)
    }

    /// Enters the epochs of all memberships that have become chosen.
    pub(super) fn enter_epochs(&mut self) {
        if self.log.has_memberships() {
            self.enter_epochs_of_log();
        }
    }

    fn enter_epochs_of_log(&mut self) {
        let mut after = self.changes.since();
        while let Some((slot, membership)) = self.log.membership_after(after) {
            after = slot;
            if membership.epoch() == self.config.membership().epoch().next() {
                self.enter(slot, membership);
            }
        }
    }

    /// Takes over the membership of a snapshot that has been installed.
    pub(super) fn adopt(&mut self, meta: SnapshotMeta) {
        let is_new = meta.membership.epoch() > self.config.membership().epoch();
        if is_new && !mutated(Mutant::MembershipNotInSnapshot) {
            self.enter(meta.slot, meta.membership);
        }
    }

    /// Puts a chosen membership in force for all slots behind `slot`.
    fn enter(&mut self, slot: Slot, membership: Membership) {
        let ballot = membership.ballot();
        self.tell_leaving(slot, &membership);
        self.config.enter(membership.clone());
        self.changes.push(slot, membership.clone());
        if ballot > self.promised && !mutated(Mutant::FirstBallotNotPromised) {
            self.promise(ballot);
        }
        // So that the next start is in this epoch, too: a node that leaves relies on it.
        self.writes.put_hard_state();
        self.outputs.push(Output::MembershipChanged { slot, membership });
        self.finish_change(slot);
        let may_lead_on =
            self.is_voter() || (mutated(Mutant::RemovedLeaderGoesOn) && self.own_index().is_some());
        match &self.proposer {
            ProposerState::Leading(leading) if may_lead_on => {
                if leading.ballot() == ballot || mutated(Mutant::PhaseOneSkippedAfterTakeover) {
                    self.lead_on(slot);
                } else {
                    self.announce_epoch(slot);
                    self.begin_prepare(None);
                }
            }
            ProposerState::Following => {}
            _ => self.step_down(),
        }
        self.forget_leader_without_vote();
    }

    /// Leads on in the epoch that begins behind `slot`. Nothing is in flight: all slots before it are chosen.
    fn lead_on(&mut self, slot: Slot) {
        let ProposerState::Leading(leading) = &self.proposer else { return };
        let before = self.changes.previous().member_map();
        let mut next = leading.in_next_epoch(before, &self.config, slot, self.now_ticks);
        if mutated(Mutant::ReadsConfirmedByOldEpoch) {
            next.rounds.confirm_all(&self.config);
        }
        self.proposer = ProposerState::Leading(next);
        self.send_heartbeats();
    }

    /// Tells the members of the epoch that begins behind `slot` that its membership is chosen. Who has
    /// accepted that under this leader's ballot enters the epoch, and can answer the prepare that follows.
    fn announce_epoch(&mut self, slot: Slot) {
        let ProposerState::Leading(leading) = &self.proposer else { return };
        let (ballot, round) = (leading.ballot(), self.heartbeats.last_round());
        let time = self.clock.leader_time();
        self.broadcast(Heartbeat { ballot, chosen: slot, round, time });
    }

    /// Tells the members that leave, in their own epoch, that the membership which removes them is chosen.
    /// Others hear it from the first message of the new epoch.
    fn tell_leaving(&mut self, slot: Slot, next: &Membership) {
        let ProposerState::Leading(leading) = &self.proposer else { return };
        let (ballot, round) = (leading.ballot(), self.heartbeats.last_round());
        let time = self.clock.leader_time();
        let removed: Vec<NodeId> = self.config.peers().filter(|&peer| next.member(peer).is_none()).collect();
        for to in removed {
            self.send(to, Heartbeat { ballot, chosen: slot, round, time });
        }
    }

    /// Answers the request for the change that has come in force in `slot`, if it was this replica's.
    fn finish_change(&mut self, slot: Slot) {
        let Some(pending) = self.changes.pending.take() else { return };
        let request = pending.request.request;
        if pending.slot == Some(slot) && matches!(self.proposer, ProposerState::Leading(_)) {
            let epoch = self.config.membership().epoch();
            self.outputs.push(Output::ChangeInForce { request, epoch });
        } else {
            self.refuse_change(request, ChangeRefusal::Lost);
        }
    }

    /// A message of an epoch that is over here. Who asks or claims something is told; answers are ignored.
    pub(super) fn on_outdated(&mut self, from: NodeId, body: &Body) {
        if let Body::Probe(_) | Body::Prepare(_) | Body::Accept(_) | Body::Heartbeat(_) | Body::TakeOver(_) =
            body
        {
            self.tell_epoch(from);
        }
    }

    /// Tells which epoch this replica is in, once a restart can't take it back.
    fn tell_epoch(&mut self, to: NodeId) {
        let message = self.message(NewEpoch { chosen: self.log.chosen() });
        self.writes.answer_after_durable(to, message);
    }

    /// A member that hears no leader, and may not become one, tells its epoch to the others. If it is out of
    /// date it is told so, and learns that it was promoted or removed; if another member is, that one does.
    pub(super) fn tell_epoch_to_members(&mut self) {
        if self.own_index().is_none() {
            return;
        }
        let peers: Vec<NodeId> = self.config.peers().collect();
        for peer in peers {
            self.tell_epoch(peer);
        }
    }

    /// A message of an epoch that this replica has not entered yet. A leader's watermark may be enough to
    /// enter it: what was accepted under that leader's ballot is chosen, whatever the epoch.
    pub(super) fn on_newer_epoch(&mut self, from: NodeId, message: &Message) {
        self.learner.hear_epoch(from, message.epoch);
        if !matches!(self.proposer, ProposerState::Following) {
            self.step_down();
        }
        let (ballot, chosen) = match &message.body {
            Body::Accept(accept) => (accept.ballot, accept.chosen),
            Body::Heartbeat(heartbeat) => (heartbeat.ballot, heartbeat.chosen),
            _ => return,
        };
        if ballot.node == from {
            self.on_watermark(from, ballot, chosen);
        }
    }

    /// A node tells its epoch. If that is a new one here, what is missing is fetched. A sender that is out of
    /// date is told so. One that was removed wants to know whether this replica knows; two removed nodes have
    /// nothing to tell each other, and would answer each other without end.
    pub(super) fn on_new_epoch(&mut self, from: NodeId, epoch: Epoch, new_epoch: NewEpoch) {
        let own = self.config.membership().epoch();
        if epoch > own {
            let is_first = !self.learner.knows_epoch(epoch);
            self.learner.hear_epoch(from, epoch);
            self.learner.hear(from, new_epoch.chosen);
            if !matches!(self.proposer, ProposerState::Following) {
                self.step_down();
            }
            if is_first {
                self.fetch(from);
            }
        } else if epoch < own || (self.config.membership().was_removed(from) && !self.is_removed()) {
            self.tell_epoch(from);
        } else if self.is_removed() && epoch == own && !self.changes.told.contains(&from) {
            self.changes.told.push(from);
        }
    }

    fn is_removed(&self) -> bool {
        self.config.membership().was_removed(self.config.node())
    }

    /// Whether a quorum of the voters knows durably that this node was removed. Before that they may need
    /// this node to find it out.
    fn may_end(&self) -> bool {
        let knows = |voter: &NodeId| self.changes.told.contains(voter);
        let told = self.config.membership().voters().filter(knows).count();
        let quorums = self.config.quorums();
        told >= quorums.prepare().max(quorums.accept()) || mutated(Mutant::RemovedLeavesAtOnce)
    }

    /// Removed, this node tells the others until they are known to know.
    pub(super) fn tick_removed(&mut self) {
        let is_due = self.now_ticks.is_multiple_of(u64::from(self.config.settings().resend_ticks));
        if !is_due || !self.is_removed() || self.may_end() {
            return;
        }
        let is_untold = |voter: &NodeId| !self.changes.told.contains(voter);
        let untold: Vec<NodeId> = self.config.membership().voters().filter(is_untold).collect();
        for voter in untold {
            self.tell_epoch(voter);
        }
    }

    /// This replica's index among the members, if it is one.
    pub(super) fn own_index(&self) -> Option<MemberIndex> {
        self.config.member_map().index_of(self.config.node())
    }
}
