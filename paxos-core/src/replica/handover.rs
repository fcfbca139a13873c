//! Handing leadership over to another voter, without waiting for a time-out.
//!
//! The leader stops proposing and asks its successor to prepare a ballot at once. What it proposed before is
//! reported to the successor in phase 1 like any other proposal; commands that come meanwhile wait in the
//! queue, and are forwarded when the successor is heard from. If that does not happen in time, or if the
//! successor declines, the leader goes on as if nothing had been asked: it has promised nobody else until
//! then. Only its lease is gone, as acceptors may let a late prepare of the successor pass.
//!
//! A leader whose priority is 0 hands over by itself, as soon as another voter is fit to lead. It became the
//! leader while its priority was higher, and then got the membership chosen that another leader had proposed.
//! It goes on leading, and serves everything, while no voter is fit. If the one that it asks does not take
//! over, it leads on for an election timeout, and asks another one then.

use super::{HandoverRefusal, Output, ProposerState, Replica, RequestId};
use crate::id::{Ballot, NodeId};
use crate::message::{Decline, TakeOver};
use crate::mutant::{Mutant, mutated};

/// A handover under way, at the leader that hands over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handover {
    /// Who has asked for it; `None` if it makes way for a change of the membership.
    request: Option<RequestId>,
    to: NodeId,
    ballot: Ballot,
    expires_ticks: u64,
}

/// Handovers of this replica.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    under_way: Option<Handover>,
    /// The last ballot under which this replica has asked another one to take over.
    last_ballot: Option<Ballot>,
    /// When this leader may make way by itself.
    makes_way_at_ticks: u64,
    /// Who did not take over when this leader made way. They are asked again after all others.
    unwilling: Vec<NodeId>,
}

impl Handovers {
    pub(super) fn begin_leadership(&mut self) {
        self.makes_way_at_ticks = 0;
        self.unwilling.clear();
    }
}

impl Replica {
    /// Hands leadership over to `to`, or to the fittest voter.
    pub(super) fn on_hand_over(&mut self, request: RequestId, to: Option<NodeId>) {
        let successor = match to {
            Some(to) if to == self.config.node() && self.is_distinguished() => {
                self.outputs.push(Output::HandedOver { request, to });
                return;
            }
            Some(to) => self.check_successor(to).map(|()| to),
            None => self.check_handover().and_then(|()| self.fittest().ok_or(HandoverRefusal::NobodyElse)),
        };
        match successor {
            Ok(to) => self.hand_over(Some(request), to),
            Err(refusal) => self.outputs.push(Output::HandoverRefused { request, refusal }),
        }
    }

    /// Makes way to the fittest voter; returns it, if a voter is fit.
    pub(super) fn hand_over_to_anybody(&mut self) -> Option<NodeId> {
        let to = self.check_handover().ok().and_then(|()| self.fittest())?;
        if self.handovers.unwilling.contains(&to) {
            self.handovers.unwilling.clear(); // All that are fit have been asked.
        }
        self.hand_over(None, to);
        Some(to)
    }

    /// A leader whose priority is 0 makes way, if a voter is fit to lead.
    fn make_way(&mut self) {
        let may_lead = self.config.membership().may_lead(self.config.node());
        if may_lead || self.now_ticks < self.handovers.makes_way_at_ticks {
            return;
        }
        if self.hand_over_to_anybody().is_some() {
            let timeout = u64::from(self.config.settings().election_timeout_ticks);
            self.handovers.makes_way_at_ticks = self.now_ticks + self.patience_ticks() + timeout;
        }
    }

    /// For how long a leader waits for its successor.
    fn patience_ticks(&self) -> u64 {
        u64::from(self.config.settings().election_timeout_ticks).div_ceil(2)
    }

    fn hand_over(&mut self, request: Option<RequestId>, to: NodeId) {
        let ProposerState::Leading(leading) = &self.proposer else { return };
        let ballot = leading.ballot();
        let expires_ticks = self.now_ticks + self.patience_ticks();
        self.handovers.under_way = Some(Handover { request, to, ballot, expires_ticks });
        self.handovers.last_ballot = Some(ballot);
        self.send(to, TakeOver { ballot });
    }

    /// Whether this leader can hand over at all.
    fn check_handover(&self) -> Result<(), HandoverRefusal> {
        if !self.is_distinguished() {
            return Err(HandoverRefusal::NotLeader { leader: self.leader() });
        }
        if let Some(to) = self.successor() {
            return Err(HandoverRefusal::UnderWay { to });
        }
        if self.changes.is_pending() {
            return Err(HandoverRefusal::ChangeUnderWay);
        }
        match &self.proposer {
            ProposerState::Leading(leading) if leading.is_stopped() => Err(HandoverRefusal::ChangeUnderWay),
            ProposerState::Leading(_) => Ok(()),
            _ => Err(HandoverRefusal::NotYet),
        }
    }

    fn check_successor(&self, node: NodeId) -> Result<(), HandoverRefusal> {
        self.check_handover()?;
        let membership = self.config.membership();
        let (slots, limit_slots) = (self.lag_slots(node), self.config.settings().window_slots);
        match membership.member(node) {
            _ if !membership.is_voter(node) => Err(HandoverRefusal::NotAVoter { node }),
            Some(member) if member.priority == 0 => Err(HandoverRefusal::NeverLeads { node }),
            _ if !self.hears(node) => Err(HandoverRefusal::NotHeard { node }),
            _ if slots > limit_slots && !mutated(Mutant::HandedOverToLaggard) => {
                Err(HandoverRefusal::Lags { node, slots, limit_slots })
            }
            _ => Ok(()),
        }
    }

    fn lag_slots(&self, node: NodeId) -> u64 {
        self.log.chosen().0.saturating_sub(self.chosen_at(node).0)
    }

    /// The voter that is fit to lead with the highest priority; of several the most complete one. One that
    /// did not take over comes last.
    fn fittest(&self) -> Option<NodeId> {
        let membership = self.config.membership();
        let fit = membership
            .details()
            .iter()
            .filter(|member| member.id != self.config.node() && self.check_successor(member.id).is_ok());
        let is_willing = |id: NodeId| !self.handovers.unwilling.contains(&id);
        let best = fit.max_by_key(|member| {
            (is_willing(member.id), member.priority, self.chosen_at(member.id), member.id)
        });
        best.map(|member| member.id)
    }

    /// Who is to take over from this replica, while it waits for that.
    pub(super) fn successor(&self) -> Option<NodeId> {
        self.handovers.under_way.map(|handover| handover.to)
    }

    /// Whether commands wait for a successor.
    pub(super) fn is_handing_over(&self) -> bool {
        self.handovers.under_way.is_some()
    }

    /// Whether the leader has asked another node to take over under this ballot: acceptors may let that
    /// node's prepare pass in spite of the lease.
    pub(super) fn has_given_lease_up(&self, ballot: Ballot) -> bool {
        self.handovers.last_ballot == Some(ballot) && !mutated(Mutant::LeaseKeptAfterHandover)
    }

    /// Takes over if this replica follows the sender and is fit to lead.
    pub(super) fn on_take_over(&mut self, from: NodeId, take_over: TakeOver) {
        let TakeOver { ballot } = take_over;
        if self.election.followed() != Some(ballot) || ballot.node != from || self.promised > ballot {
            return;
        }
        let is_idle = matches!(self.proposer, ProposerState::Following);
        if is_idle && self.may_run_for_leader() && !self.is_fetching_snapshot() {
            self.begin_prepare(Some(ballot));
        } else {
            self.send(from, Decline { ballot });
        }
    }

    pub(super) fn on_decline(&mut self, from: NodeId, decline: Decline) {
        let Some(handover) = self.handovers.under_way else { return };
        if handover.to == from && handover.ballot == decline.ballot && self.is_distinguished() {
            self.refuse_handover(HandoverRefusal::Declined { node: from });
        }
    }

    /// The leader goes on if its successor does not appear in time. It makes way if it should not lead.
    pub(super) fn tick_handover(&mut self) {
        if let Some(handover) = self.handovers.under_way
            && self.now_ticks >= handover.expires_ticks
        {
            self.refuse_handover(HandoverRefusal::NotInTime { node: handover.to });
        }
        self.make_way();
    }

    fn refuse_handover(&mut self, refusal: HandoverRefusal) {
        let Some(handover) = self.handovers.under_way.take() else { return };
        match handover.request {
            Some(request) => self.outputs.push(Output::HandoverRefused { request, refusal }),
            None => self.handovers.unwilling.push(handover.to),
        }
    }

    /// A new leader is heard from: commands that waited for it are forwarded.
    pub(super) fn end_handover_to(&mut self, leader: NodeId) {
        let Some(handover) = self.handovers.under_way.take() else { return };
        if let Some(request) = handover.request {
            self.outputs.push(Output::HandedOver { request, to: leader });
        }
        self.forward_queue(leader);
    }

    /// No leader was heard from: commands that waited for it are dropped.
    pub(super) fn end_handover_unheard(&mut self) {
        if self.is_handing_over() {
            self.queue.clear();
            self.refuse_handover(HandoverRefusal::Lost);
        }
    }
}
