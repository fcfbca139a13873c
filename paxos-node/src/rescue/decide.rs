//! What becomes of the log: a pure function of the disks.

use std::collections::{BTreeMap, BTreeSet};

use paxos_core::{Ballot, Change, Entry, Member, MemberRole, Membership, NodeId, Slot, Value};

use super::RescueError;
use super::disk::Disk;

/// What a rescue writes to the disk that it goes on from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Decision {
    /// The position of that disk among all.
    pub(super) base: usize,
    /// What it knows to be chosen, and keeps.
    pub(super) kept_through: Slot,
    /// Through here, what was accepted counts as chosen.
    pub(super) adopted_through: Slot,
    /// How many of these slots become no-ops, as no disk holds anything for them.
    pub(super) holes: u64,
    /// The values of all slots behind `kept_through`: what was accepted, and then the changes.
    pub(super) values: Vec<(Slot, Value)>,
    /// The members afterwards.
    pub(super) membership: Membership,
    /// The members before.
    pub(super) before: Membership,
    /// Above all promises.
    pub(super) ballot: Ballot,
    /// Whether the lost nodes may have chosen something of which no disk knows.
    pub(super) may_have_chosen_more: bool,
}

impl Decision {
    /// The slot of the last change.
    pub(super) fn last_slot(&self) -> Slot {
        self.values.last().map_or(self.adopted_through, |(slot, _)| *slot)
    }
}

/// Decides how to go on with these disks, which are of one cluster and of different nodes.
pub(super) fn decide(disks: &[Disk]) -> Result<Decision, RescueError> {
    let knows_most = |disk: &&Disk| (disk.inspection.chosen, disk.accepted_through());
    let best = disks.iter().max_by_key(knows_most).ok_or(RescueError::NoDisk)?;
    let (base, node) = (disks.iter().position(|disk| disk.node() == best.node()).unwrap_or(0), best.node());
    let kept_through = best.inspection.chosen;
    let adopted_through = disks.iter().map(Disk::accepted_through).max().unwrap_or(kept_through);
    let mut membership = best.membership();
    let (mut values, mut holes, mut slot) = (Vec::new(), 0, kept_through);
    while slot < adopted_through {
        slot = slot.next();
        let accepted = adopted(disks, slot);
        holes += u64::from(accepted.is_none());
        let value = accepted.unwrap_or_else(Value::no_op);
        let next = value.as_membership().filter(|next| next.epoch() == membership.epoch().next());
        membership = next.unwrap_or(membership);
        values.push((slot, value));
    }
    check_survivors(disks, &membership)?;
    let promises = disks.iter().map(|disk| disk.inspection.promised).chain([membership.ballot()]);
    let ballot = promises.max().unwrap_or(Ballot::ZERO).successor_for(node);
    let before = membership.clone();
    for change in changes(&membership, &disks.iter().map(Disk::node).collect()) {
        membership = membership.changed(&change, ballot).map_err(RescueError::Change)?;
        slot = slot.next();
        values.push((slot, Value::membership(&membership)));
    }
    let voters = before.voters().count();
    let lost = voters - disks.iter().filter(|disk| before.is_voter(disk.node())).count();
    let is_damaged = best.inspection.incomplete_through > kept_through;
    let may_have_chosen_more = lost >= before.quorums().accept() || is_damaged;
    Ok(Decision {
        base,
        kept_through,
        adopted_through,
        holes,
        values,
        membership,
        before,
        ballot,
        may_have_chosen_more,
    })
}

/// The value of a slot that a leader would propose who has heard from all these nodes.
fn adopted(disks: &[Disk], slot: Slot) -> Option<Value> {
    let mut best: Option<(Ballot, &Value)> = None;
    for entry in disks.iter().filter_map(|disk| disk.entries.get(&slot)) {
        match entry {
            Entry::Chosen { value } => return Some(value.clone()),
            Entry::Accepted { ballot, value } if best.is_none_or(|(highest, _)| highest < *ballot) => {
                best = Some((*ballot, value));
            }
            _ => {}
        }
    }
    best.map(|(_, value)| value.clone())
}

/// Whether all are members, and too few.
fn check_survivors(disks: &[Disk], membership: &Membership) -> Result<(), RescueError> {
    for disk in disks {
        if membership.member(disk.node()).is_none() {
            return Err(RescueError::NoMember {
                directory: disk.directory.clone(),
                node: disk.node(),
                members: membership.to_string(),
            });
        }
    }
    let voters = disks.iter().filter(|disk| membership.is_voter(disk.node())).count();
    let quorums = membership.quorums();
    let needed = quorums.prepare().max(quorums.accept());
    if voters >= needed {
        return Err(RescueError::NotLost { voters, needed, members: membership.to_string() });
    }
    Ok(())
}

/// The changes that leave only the survivors, so that one of them may lead.
fn changes(membership: &Membership, survivors: &BTreeSet<NodeId>) -> Vec<Change> {
    let members: BTreeMap<NodeId, &Member> =
        membership.details().iter().map(|member| (member.id, member)).collect();
    let survives = |node: &NodeId| survivors.contains(node);
    let is_voter = |node: &NodeId| membership.is_voter(*node);
    let mut changes = Vec::new();
    let voters: Vec<NodeId> = members.keys().copied().filter(survives).filter(is_voter).collect();
    let mut left = voters.clone();
    if voters.is_empty() {
        // Learners alone are left: they know what was chosen, and are the best there is.
        let learners = members.values().filter(|member| member.role == MemberRole::Learner);
        left = learners.map(|member| member.id).filter(survives).collect();
        changes.extend(left.iter().map(|node| Change::Promote { node: *node }));
    }
    if left.iter().all(|node| members[node].priority == 0) {
        let priority = Member::DEFAULT_PRIORITY;
        changes.extend(left.iter().map(|node| Change::Prioritize { node: *node, priority }));
    }
    let lost = members.keys().filter(|node| !survives(node));
    changes.extend(lost.map(|node| Change::Remove { node: *node }));
    changes
}
