//! Gives a stopped cluster other members.

use std::collections::BTreeSet;

use paxos_core::{Membership, NodeId};
use paxos_storage::{Founding, FoundingId, Storage};

use super::rules::refounded;
use crate::error::NodeError;

/// Gives the stopped cluster to which `storage` belongs other members.
///
/// Call it with the storage of each node that stays, with the same members, after all nodes were stopped with
/// the same chosen slots. Nothing checks that, and what only the leaving nodes have is lost. The result is
/// another founding, with the same name on all nodes; nodes whose storage was left out are refused. New
/// members join with empty storages.
///
/// # Errors
///
/// [`NodeError::Settings`] if the storage belongs to no cluster or the members can't be those of its node,
/// [`NodeError::Storage`] if it fails.
pub fn refound(storage: &mut dyn Storage, members: &BTreeSet<NodeId>) -> Result<FoundingId, NodeError> {
    let mut registry = storage.registry();
    let problem = |problem| Err(NodeError::Settings(problem));
    if !members.contains(&storage.identity().node()) {
        return problem("the members must include the node whose storage it is");
    }
    let ids: Vec<NodeId> = members.iter().copied().collect();
    let Ok(membership) = Membership::new(&ids) else {
        return problem("members are at most 64, with ids from 1 on");
    };
    let Some(founding) = &registry.founding else {
        return problem(
            "the storage belongs to no cluster yet: start its node with the members that it should have",
        );
    };
    let Some(old) = founding.id else {
        return problem(
            "the founding of the cluster has no name yet: start all its nodes once, until their status shows one",
        );
    };
    let (id, epoch) = (refounded(old, members), founding.membership.epoch());
    registry.founding = Some(Founding { id: Some(id), membership: membership.in_epoch(epoch) });
    storage.remember(&registry)?;
    Ok(id)
}
