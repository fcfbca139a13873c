//! Proposals: who may make which, and in which epoch.

use super::epochs::InForce;
use super::{Nodes, Observer, SlotRecord, index};
use crate::sim::rule::Rule;
use crate::{Ballot, Body, Epoch, Membership, Message, Slot, Value};

/// A proposal of one ballot in one slot, as the replicas of one epoch have seen it.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) ballot: Ballot,
    /// The epoch that those who accepted it were in. An acceptance counts in that epoch alone.
    pub(super) epoch: Epoch,
    pub(super) value: Value,
    /// When it was seen first.
    pub(super) first_units: u64,
    /// The nodes that have made a write of it.
    pub(super) made_by: Nodes,
    /// The nodes whose disks have held it.
    pub(super) accepted_by: Nodes,
    /// Whether an accept for it has been seen, and judged by P2c.
    is_judged: bool,
}

impl Proposal {
    /// Whether a quorum has accepted it in the epoch that decides the slot.
    pub(super) fn is_chosen(&self, in_force: &InForce) -> bool {
        self.epoch == in_force.epoch()
            && in_force.votes(self.accepted_by) >= in_force.membership.quorums().accept()
    }
}

impl SlotRecord {
    /// The epoch in which `node` has made a write of its acceptance of `ballot`.
    pub(super) fn made_in(&self, node: usize, ballot: Ballot) -> Option<Epoch> {
        let mut made = self.proposals.iter().rev();
        let is_it = |proposal: &&Proposal| proposal.ballot == ballot && proposal.made_by & (1 << node) != 0;
        made.find(is_it).map(|proposal| proposal.epoch)
    }
}

/// Who has used a ballot, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct BallotRecord {
    /// The node, and in which of its lives.
    pub(super) user: (usize, u64),
    /// The epoch of its phase 1.
    pub(super) prepared_in: Option<Epoch>,
    /// The lowest slot in which it was proposed.
    first_slot: Option<Slot>,
    /// The slot in which its proposer has proposed the next membership, and the epoch before it.
    stopped: Option<(Slot, Epoch)>,
}

impl BallotRecord {
    pub(super) fn new(node: usize, life: u64) -> BallotRecord {
        BallotRecord { user: (node, life), prepared_in: None, first_slot: None, stopped: None }
    }
}

impl Observer {
    /// A leader has made a write of its own acceptance, which begins its proposal.
    pub(super) fn on_own_proposal(
        &mut self,
        (node, life): (usize, u64),
        epoch: Epoch,
        slot: Slot,
        ballot: Ballot,
        value: &Value,
    ) {
        let next = value.as_membership().filter(|next| next.epoch() == epoch.next());
        if let Some(next) = &next {
            let is_fresh = next.ballot() == ballot;
            let has_own_value = !is_fresh || self.has_own_value(node, life, slot);
            self.check(has_own_value, Rule::OwnValueFirst, || {
                format!("node #{node} changes the membership before a value of its own is chosen")
            });
        }
        let record = self.ballots.entry(ballot).or_insert(BallotRecord::new(node, life));
        record.first_slot = Some(record.first_slot.map_or(slot, |first| first.min(slot)));
        let is_behind = record.stopped.is_some_and(|(at, stopped)| slot > at && epoch <= stopped);
        if next.is_some() {
            record.stopped = Some((slot, epoch));
        }
        self.check(!(is_behind && next.is_some()), Rule::OneChangeAtATime, || {
            format!("node #{node} proposes a second membership of one epoch in slot {slot}")
        });
        self.check(!is_behind, Rule::NothingBehindMembership, || {
            format!("node #{node} proposes in slot {slot} behind a membership that is not chosen")
        });
        if let Some(next) = next {
            self.epochs.note_proposed(next);
        }
    }

    /// Whether a slot before `slot` is chosen in which `node` has proposed in this life.
    fn has_own_value(&self, node: usize, life: u64, slot: Slot) -> bool {
        let own = self.ballots.values().rev().filter(|record| record.user == (node, life));
        own.filter_map(|record| record.first_slot).any(|first| first < slot && first <= self.chosen_through)
    }

    /// Judges a proposal by P2c: is there a quorum of acceptors that have promised its ballot, such that
    /// either none of them has accepted anything below it, or its value is that of the highest proposal that
    /// they have? Only voters of its epoch count, and what they have accepted in that epoch.
    ///
    /// The ballot with which an epoch begins is promised by all that enter the epoch. So it needs no phase 1
    /// there, but nobody may have accepted anything below it.
    pub(super) fn on_proposal(
        &mut self,
        node: usize,
        epoch: Epoch,
        ballot: Ballot,
        slot: Slot,
        value: &Value,
    ) {
        let proposal = self.proposal(slot, ballot, epoch, value);
        if std::mem::replace(&mut proposal.is_judged, true) {
            return;
        }
        let Some(in_force) = self.epochs.get(epoch) else { return };
        let (since, voting, quorum) =
            (in_force.since, in_force.voters, in_force.membership.quorums().prepare());
        let begins_epoch = epoch > Epoch(0) && in_force.membership.ballot() == ballot;
        self.check(slot > since, Rule::MembershipOfSlot, || {
            format!("node #{node} proposes in slot {slot} in epoch {epoch}, which begins behind slot {since}")
        });
        let is_prepared = self.ballots.get(&ballot).is_some_and(|record| record.prepared_in == Some(epoch));
        self.check(begins_epoch || is_prepared, Rule::P2c, || {
            format!("node #{node} proposes in slot {slot} under {ballot} without phase 1 in epoch {epoch}")
        });
        let is_earlier = |earlier: &&Proposal| earlier.ballot < ballot && earlier.epoch == epoch;
        let earlier: Vec<&Proposal> = self.slots[index(slot)].proposals.iter().filter(is_earlier).collect();
        if begins_epoch {
            let is_first = earlier.iter().all(|earlier| earlier.accepted_by & voting == 0);
            self.check(is_first, Rule::P2c, || {
                format!(
                    "epoch {epoch} begins with {ballot}, but something below it was accepted in slot {slot}"
                )
            });
            return;
        }
        let has_promised = |&node: &usize| voting & (1 << node) != 0 && self.nodes[node].promised >= ballot;
        let quorum_of = (0..self.nodes.len()).filter(has_promised);
        let highest = |node: usize| {
            let accepted = earlier.iter().filter(|earlier| earlier.accepted_by & (1 << node) != 0);
            accepted.map(|earlier| earlier.ballot).max()
        };
        let bounds: Vec<Option<Ballot>> = quorum_of.map(highest).collect();
        let is_allowed_by = |bound: Option<Ballot>| {
            bounds.contains(&bound) && bounds.iter().filter(|&&held| held <= bound).count() >= quorum
        };
        let same_value = earlier.iter().filter(|earlier| earlier.value == *value);
        let is_allowed =
            is_allowed_by(None) || same_value.map(|earlier| Some(earlier.ballot)).any(is_allowed_by);
        self.check(is_allowed, Rule::P2c, || {
            format!("node #{node} proposes a value under {ballot} in slot {slot} that no quorum of promises allows")
        });
    }

    /// Checks that what only voters may say comes from a voter of its epoch.
    pub(super) fn check_sender(&mut self, node: usize, message: &Message) {
        let epoch = message.epoch;
        let Some(in_force) = self.epochs.get(epoch) else {
            self.check(false, Rule::MembershipOfSlot, || {
                format!("node #{node} is in epoch {epoch}, which has not begun")
            });
            return;
        };
        let is_voter = in_force.voters & (1 << node) != 0;
        let is_a_vote = matches!(
            message.body,
            Body::Probe(_)
                | Body::Consent(_)
                | Body::Prepare(_)
                | Body::Promise(_)
                | Body::Accept(_)
                | Body::Heartbeat(_)
                | Body::TakeOver(_)
        );
        self.check(is_voter || !is_a_vote, Rule::OnlyVotersVote, || {
            format!("node #{node} has no vote in epoch {epoch}, and sends {}", message.body)
        });
    }

    /// A leader that knows everything up to `chosen` asks another node to take over: that node must have told
    /// that it misses no more than `window_slots` of it.
    pub(in crate::sim) fn on_take_over(&mut self, node: usize, to: usize, chosen: Slot, window_slots: u64) {
        let told = self.nodes[to].told;
        self.check(told.advanced_by(window_slots) >= chosen, Rule::SuccessorIsComplete, || {
            format!(
                "node #{node} knows slots through {chosen} and hands over to #{to}, which has told {told}"
            )
        });
    }

    /// A removed node ends in `epoch`: a quorum of the voters must have known durably that this epoch has
    /// begun, as they may have needed the node to find it out.
    pub(in crate::sim) fn on_end(&mut self, node: usize, epoch: Epoch) {
        let Some(in_force) = self.epochs.get(epoch) else { return };
        let is_told = |&voter: &usize| self.nodes[voter].knew >= in_force.since;
        let voters = (0..self.nodes.len()).filter(|voter| in_force.voters & (1 << voter) != 0);
        let (known, quorums) = (voters.filter(is_told).count(), in_force.membership.quorums());
        let is_enough = known >= quorums.prepare().max(quorums.accept());
        self.check(is_enough, Rule::RemovedIsDispensable, || {
            format!("node #{node} ends in epoch {epoch}, but only {known} voters know of it")
        });
    }

    /// The membership that is in force behind all chosen slots.
    pub(in crate::sim) fn membership(&self) -> &Membership {
        &self.epochs.newest().membership
    }

    /// The membership in force, and those that may come in force next.
    pub(in crate::sim) fn possible_memberships(&self) -> impl Iterator<Item = &Membership> {
        self.epochs.possible()
    }

    /// The membership before the one in force, if there was one.
    pub(in crate::sim) fn membership_before(&self) -> Option<&Membership> {
        self.epochs.before_newest().map(|before| &before.membership)
    }

    /// Whether the disk of `node` holds the membership in force as chosen.
    pub(in crate::sim) fn knows_membership(&self, node: usize) -> bool {
        self.nodes[node].chosen >= self.epochs.newest().since
    }

    pub(super) fn proposal(
        &mut self,
        slot: Slot,
        ballot: Ballot,
        epoch: Epoch,
        value: &Value,
    ) -> &mut Proposal {
        let first_units = self.times.now_units;
        let proposals = &mut self.record(slot).proposals;
        let is_same = proposals.iter().all(|proposal| proposal.ballot != ballot || proposal.value == *value);
        let is_it = |proposal: &Proposal| proposal.ballot == ballot && proposal.epoch == epoch;
        let place = proposals.iter().position(is_it).unwrap_or_else(|| {
            let value = value.clone();
            proposals.push(Proposal {
                ballot,
                epoch,
                value,
                first_units,
                made_by: 0,
                accepted_by: 0,
                is_judged: false,
            });
            proposals.len() - 1
        });
        self.check(is_same, Rule::OneValueProposed, || {
            format!("two values are proposed under {ballot} in slot {slot}")
        });
        &mut self.slots[index(slot)].proposals[place]
    }
}
