//! Gives a stopped cluster other members.

use std::collections::BTreeSet;

use paxos_core::{Membership, NodeId, Recovered, Value};
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
/// It reads the whole log, so it takes the storage: open it anew for a node.
///
/// # Errors
///
/// [`NodeError::Settings`] if the storage belongs to no cluster, the members can't be those of its node, or
/// its log has lost what may be a change of the members. [`NodeError::MembersInLog`] if they were changed
/// while the cluster ran: then the log says who they are, whoever has founded the cluster.
/// [`NodeError::Storage`] if it fails.
pub fn refound(mut storage: Box<dyn Storage>, members: &BTreeSet<NodeId>) -> Result<FoundingId, NodeError> {
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
    let recovered = storage.recover()?;
    if let Some(newest) = newest_membership(&recovered).filter(|newest| newest.epoch() > epoch) {
        return Err(NodeError::MembersInLog { members: newest.to_string() });
    }
    if recovered.incomplete_through > recovered.hard_state.chosen {
        return problem(
            "the log has lost entries, and with them maybe a change of the members: replace the node",
        );
    }
    registry.founding = Some(Founding { id: Some(id), membership: membership.in_epoch(epoch) });
    storage.remember(&registry)?;
    Ok(id)
}

/// The membership of the highest epoch in the log or the snapshot, whether or not it is known to be chosen.
fn newest_membership(recovered: &Recovered) -> Option<Membership> {
    let accepted = recovered.entries.iter().filter_map(|(_, entry)| Value::as_membership(entry.value()));
    let in_snapshot = recovered.snapshot.iter().map(|meta| meta.membership.clone());
    accepted.chain(in_snapshot).max_by_key(Membership::epoch)
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use paxos_core::{Ballot, Change, Entry, HardState, Member, Slot, SnapshotMeta, Write, WriteNumber};
    use paxos_storage::memory::MemoryStorage;
    use paxos_storage::{Identity, Registry};

    use super::*;

    const BALLOT: Ballot = Ballot { round: 3, node: NodeId(1) };

    fn founding() -> Membership {
        let member = |id| Member::voter(NodeId(id), format!("host-{id}"));
        Membership::of([1, 2, 3].map(member).to_vec()).expect("these members fit")
    }

    fn changed() -> Membership {
        founding().changed(&Change::Remove { node: NodeId(3) }, BALLOT).expect("it is a member")
    }

    /// The storage of node 1 of a founded cluster, whose log holds these values.
    fn stored(chosen: u64, values: &[Value]) -> MemoryStorage {
        let mut storage = MemoryStorage::new(Identity::new("tested", NodeId(1)));
        let founding = Some(Founding { id: Some(FoundingId(9)), membership: founding() });
        storage.remember(&Registry { founding, ..Registry::default() }).expect("memory does not fail");
        let entry = |(slot, value): (u64, &Value)| {
            (Slot(slot), Entry::Accepted { ballot: BALLOT, value: value.clone() })
        };
        let hard_state = HardState { promised: BALLOT, chosen: Slot(chosen) };
        let write = Write::new(WriteNumber(1), hard_state, (1..).zip(values).map(entry).collect());
        let _durable = storage.persist(write).expect("memory does not fail");
        storage
    }

    fn with_snapshot(mut storage: MemoryStorage, membership: Membership) -> MemoryStorage {
        storage.write_snapshot(Slot(1), 0, b"state").expect("memory does not fail");
        let checksum = crc32c::crc32c(b"state");
        let meta = SnapshotMeta { slot: Slot(1), size_bytes: 5, checksum, membership };
        storage.finish_snapshot(meta).expect("memory does not fail");
        storage
    }

    fn refound_as(storage: &MemoryStorage, ids: &[u64]) -> Result<FoundingId, NodeError> {
        refound(Box::new(storage.clone()), &ids.iter().copied().map(NodeId).collect())
    }

    #[test]
    fn other_members_found_a_stopped_cluster_and_its_log_and_snapshot_stay() {
        let command = Value::batch([&bytes::Bytes::from_static(b"a")]);
        for storage in
            [stored(1, std::slice::from_ref(&command)), with_snapshot(stored(1, &[command]), founding())]
        {
            let id = refound_as(&storage, &[1, 2, 4]).expect("the members were never changed");
            let registered = storage.registry().founding.expect("it is founded");
            assert_eq!(
                (registered.id, registered.membership.to_string().as_str()),
                (Some(id), "epoch 0: 1 2 4")
            );
        }
    }

    #[test]
    fn a_cluster_whose_log_or_snapshot_holds_a_change_of_the_members_is_not_founded_anew() {
        let change = Value::membership(&changed());
        for (what, storage) in [
            ("chosen", stored(1, std::slice::from_ref(&change))),
            ("accepted, and maybe chosen", stored(0, &[change])),
            ("in a snapshot", with_snapshot(stored(1, &[Value::no_op()]), changed())),
        ] {
            let before = storage.registry();
            let refused = refound_as(&storage, &[1, 2, 4]).expect_err(what);
            assert!(
                matches!(&refused, NodeError::MembersInLog { members } if members == "epoch 1: 1 2"),
                "{what}"
            );
            assert!(refused.to_string().contains("epoch 1: 1 2"), "{refused}");
            assert_eq!(storage.registry(), before, "{what}");
        }
    }

    #[test]
    fn members_that_do_not_fit_and_a_storage_without_a_cluster_are_refused() {
        let storage = stored(0, &[]);
        for (members, says) in [(&[2, 3][..], "must include the node"), (&[0, 1], "ids from 1 on")] {
            let refused = refound_as(&storage, members).expect_err("they do not fit").to_string();
            assert!(refused.contains(says), "{refused}");
        }
        let mut storage = storage;
        storage.remember(&Registry::default()).expect("memory does not fail");
        let refused = refound_as(&storage, &[1, 2]).expect_err("it is not founded").to_string();
        assert!(refused.contains("belongs to no cluster"), "{refused}");
    }
}
