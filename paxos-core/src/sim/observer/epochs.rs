//! The memberships, as the disks have chosen them: which one is in force for which slots.

use std::collections::BTreeSet;

use super::Nodes;
use crate::sim::rule::Rule;
use crate::{Epoch, Membership, NodeId, Slot};

/// All memberships that have been in force.
#[derive(Debug)]
pub(super) struct Epochs {
    /// The ids of all nodes, members or not.
    ids: Vec<NodeId>,
    /// The place of each is its epoch.
    in_force: Vec<InForce>,
    /// Who was a member once and is not any more.
    removed: BTreeSet<NodeId>,
    /// Memberships of the next epoch that were proposed: one of them may be chosen.
    proposed: Vec<Membership>,
}

/// A membership that is in force, or was.
#[derive(Debug)]
pub(super) struct InForce {
    /// It is in force for the slots behind this one.
    pub(super) since: Slot,
    pub(super) membership: Membership,
    pub(super) voters: Nodes,
}

impl InForce {
    fn new(ids: &[NodeId], since: Slot, membership: Membership) -> InForce {
        let bits = ids.iter().enumerate().filter(|(_, id)| membership.is_voter(**id));
        let voters = bits.fold(0, |voters, (place, _)| voters | 1 << place);
        InForce { since, membership, voters }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.membership.epoch()
    }

    pub(super) fn votes(&self, nodes: Nodes) -> usize {
        (nodes & self.voters).count_ones() as usize
    }
}

impl Epochs {
    pub(super) fn new(ids: Vec<NodeId>, founding: Membership) -> Epochs {
        let in_force = vec![InForce::new(&ids, Slot::ZERO, founding)];
        Epochs { ids, in_force, removed: BTreeSet::new(), proposed: Vec::new() }
    }

    pub(super) fn id(&self, node: usize) -> NodeId {
        self.ids[node]
    }

    pub(super) fn newest(&self) -> &InForce {
        self.in_force.last().expect("there is always a membership in force")
    }

    /// The membership before the newest one, if there was one.
    pub(super) fn before_newest(&self) -> Option<&InForce> {
        self.in_force.iter().rev().nth(1)
    }

    pub(super) fn get(&self, epoch: Epoch) -> Option<&InForce> {
        self.in_force.get(usize::try_from(epoch.0).ok()?)
    }

    /// The membership in force behind `slot`.
    pub(super) fn behind(&self, slot: Slot) -> &InForce {
        let before = self.in_force.iter().rev().find(|in_force| in_force.since <= slot);
        before.expect("the founding membership is in force from the start")
    }

    /// The membership among whose voters `slot` is decided.
    pub(super) fn of(&self, slot: Slot) -> &InForce {
        self.behind(slot.previous())
    }

    /// A membership has been proposed.
    pub(super) fn note_proposed(&mut self, membership: Membership) {
        if membership.epoch() == self.newest().epoch().next() && !self.proposed.contains(&membership) {
            self.proposed.push(membership);
        }
    }

    /// The membership in force, and those that may come in force next.
    pub(super) fn possible(&self) -> impl Iterator<Item = &Membership> {
        std::iter::once(&self.newest().membership).chain(&self.proposed)
    }

    /// A membership has been chosen in `slot`. One that is not of the next epoch changes nothing. Returns a
    /// rule that the new membership breaks, and how.
    pub(super) fn on_chosen(&mut self, slot: Slot, next: Membership) -> Option<(Rule, String)> {
        let before = self.newest().membership.clone();
        if next.epoch() != before.epoch().next() {
            return None;
        }
        let gone = before.members().iter().filter(|&&id| next.member(id).is_none());
        self.removed.extend(gone);
        let problem = self.problem(&before, &next);
        self.in_force.push(InForce::new(&self.ids, slot, next));
        self.proposed.clear();
        problem
    }

    fn problem(&self, before: &Membership, next: &Membership) -> Option<(Rule, String)> {
        if let Some(id) = next.members().iter().find(|id| self.removed.contains(id)) {
            return Some((Rule::IdsUsedOnce, format!("{next}: node {id} was removed before")));
        }
        if next.format_level() < before.format_level() {
            return Some((Rule::LevelKept, format!("{next} comes after {before}")));
        }
        let mut addresses: Vec<&str> = next.details().iter().map(|member| member.address.as_str()).collect();
        addresses.sort_unstable();
        if addresses.windows(2).any(|pair| pair[0] == pair[1] && !pair[0].is_empty()) {
            return Some((Rule::OneAddressEach, format!("{next}: two members share an address")));
        }
        let ids: BTreeSet<&NodeId> = before.members().iter().chain(next.members()).collect();
        let changed = ids.into_iter().filter(|id| before.member(**id) != next.member(**id));
        if changed.count() > 1 {
            return Some((Rule::OneChangeAtATime, format!("{next} comes after {before}")));
        }
        None
    }
}
