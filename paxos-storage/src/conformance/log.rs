//! Writes, and what a node remembers: all of it comes back.

use paxos_core::{Ballot, Entry, NodeId, Slot, Value, WriteNumber};

use super::Backend;
use super::checked::{Checked, accepted, membership, recover};
use crate::{
    Founding, FoundingId, KnownPeer, MAX_VALUE_BYTES, Origin, Registry, RestoreId, Start, StorageId,
};

pub(super) fn what_was_persisted_is_recovered(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "what was persisted is recovered");
    checked.persist(Vec::new());
    checked.crash_and_compare();
    checked.persist(vec![accepted(1, 1, 0), (Slot(2), Entry::Chosen { value: Value::no_op() })]);
    checked.hard_state.chosen = Slot(1);
    checked.persist(vec![accepted(5, 2, 100)]);
    checked.crash_and_compare();
    checked.crash_and_compare();
}

pub(super) fn a_membership_is_a_value_like_others(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "a membership is a value like others");
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let value = |epoch| Value::membership(&membership(epoch));
    checked.persist(vec![
        (Slot(1), Entry::Chosen { value: value(1) }),
        (Slot(2), Entry::Accepted { ballot, value: value(2) }),
        accepted(3, 1, 10),
    ]);
    checked.crash_and_compare();
    checked.persist(vec![accepted(2, 2, 10), (Slot(3), Entry::Accepted { ballot, value: value(2) })]);
    checked.crash_and_compare();
}

pub(super) fn a_node_and_its_peers_are_remembered(backend: &mut dyn Backend) {
    let mut storage = backend.make();
    assert_eq!(storage.registry(), Registry::default(), "a new storage remembers nothing");
    recover(storage.as_mut(), "a new storage is recovered");
    let nodes = |count: usize| (1..).map(NodeId).take(count);
    let start = |number: u64| Start { number, nonce: number.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
    let peer =
        |node: NodeId| KnownPeer { storage: StorageId(u128::from(node.0) << 100), start: start(node.0) };
    let founding = |epoch, id| Founding { id, membership: membership(epoch) };
    let rescue = Origin::Rescue { of: FoundingId(u128::MAX - 2) };
    for (peers, origin, founding) in [
        (2, Some(Origin::Backup(RestoreId(5))), None),
        (Registry::MAX_PEERS, Some(rescue), Some(founding(u64::MAX - 7000, Some(FoundingId(u128::MAX - 1))))),
        (1, None, Some(founding(3, None))),
        (0, None, Some(founding(1, Some(FoundingId(7))))),
    ] {
        let peers_known = nodes(peers).map(|node| (node, peer(node))).collect();
        let registry = Registry {
            start: start(peers as u64),
            is_superseded: peers == 1,
            founding,
            origin,
            peers: peers_known,
        };
        storage.remember(&registry).expect("a registry is remembered");
        assert_eq!(storage.registry(), registry, "a registry is known once it is remembered");
        drop(storage);
        storage = backend.open_again();
        assert_eq!(storage.registry(), registry, "a registry is remembered after a crash");
        recover(storage.as_mut(), "a storage that remembers a registry is recovered");
    }
}

pub(super) fn the_latest_entry_of_a_slot_counts(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "the latest entry of a slot counts");
    checked.persist(vec![accepted(1, 1, 10), accepted(2, 1, 10)]);
    checked.persist(vec![accepted(1, 2, 20)]);
    checked.persist(vec![accepted(2, 3, 5), accepted(2, 4, 6)]);
    checked.crash_and_compare();
}

pub(super) fn a_slot_is_overwritten_whatever_it_held(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "a slot is overwritten under a higher ballot, whatever it held");
    let ballot = |round| Ballot { round, node: NodeId(1) };
    let member = |round| Entry::Accepted { ballot: ballot(round), value: Value::membership(&membership(3)) };
    let no_op = |round| Entry::Accepted { ballot: ballot(round), value: Value::no_op() };
    // Each slot goes through all of these, and another one is left in each.
    let lives: [Vec<Entry>; 4] = [
        vec![accepted(1, 1, 5000).1, accepted(1, 2, 10).1, no_op(3), member(4), accepted(1, 5, 7000).1],
        vec![no_op(1), accepted(2, 2, 3000).1, accepted(2, 3, 3000).1, member(4), no_op(5)],
        vec![member(1), no_op(2), accepted(3, 3, 9).1, accepted(3, 4, 8000).1, member(5)],
        vec![
            accepted(4, 1, 1).1,
            member(2),
            no_op(3),
            accepted(4, 4, 100).1,
            Entry::Chosen { value: accepted(4, 4, 100).1.value().clone() },
        ],
    ];
    for stage in 0..lives[0].len() {
        checked.persist((1..).map(Slot).zip(lives.iter().map(|life| life[stage].clone())).collect());
        checked.crash_and_compare();
    }
    // In one write, the later one counts.
    checked.persist((6..=20).map(|round| accepted(2, round, 10_000 >> (round % 8))).collect());
    checked.crash_and_compare();
}

pub(super) fn merged_writes_are_proved_together(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "merged writes are proved together");
    let mut merged = checked.write(vec![accepted(1, 1, 10)]);
    merged.merge(checked.write(vec![accepted(2, 1, 10)]));
    merged.merge(checked.write(Vec::new()));
    let durable = checked.storage().persist(merged).expect("merged writes are persisted");
    assert_eq!(durable.numbers(), (WriteNumber(1), WriteNumber(3)), "merged writes are proved together");
    checked.crash_and_compare();
}

pub(super) fn large_and_many_writes_survive(backend: &mut dyn Backend) {
    let mut checked = Checked::new(backend, "large and many writes survive");
    for slot in 1..=300 {
        checked.persist(vec![accepted(slot, 1, usize::try_from(slot * 37 % 9000).unwrap_or(0))]);
    }
    checked.crash_and_compare();
    checked.persist((301..=340).map(|slot| accepted(slot, 1, 100_000)).collect());
    checked.crash_and_compare();
}

pub(super) fn values_of_all_lengths_survive(backend: &mut dyn Backend) {
    /// The longest command alone in a batch.
    const LONGEST: usize = MAX_VALUE_BYTES - 4;
    let mut checked = Checked::new(backend, "values of all lengths survive");
    let around =
        [512, 4096, 65_536, 1 << 20].map(|bytes| [bytes - 41, bytes - 4, bytes - 1, bytes, bytes + 1]);
    let lengths: Vec<usize> =
        [0, 1, 2, 3, 4, 5, 255].into_iter().chain(around.into_iter().flatten()).collect();
    for (slot, length) in (1..).zip(&lengths) {
        checked.persist(vec![accepted(slot, 1, *length)]);
    }
    checked.crash_and_compare();
    // In one write, short and long values take turns.
    let shuffled = (0..lengths.len()).map(|index| lengths[index * 7 % lengths.len()]);
    checked.persist((1..).zip(shuffled).map(|(slot, length)| accepted(slot, 2, length)).collect());
    checked.crash_and_compare();
    checked.persist(vec![accepted(100, 1, LONGEST)]);
    checked.crash_and_compare();
    checked.persist(vec![
        accepted(101, 1, 0),
        accepted(102, 1, LONGEST),
        accepted(103, 1, LONGEST),
        accepted(104, 1, 1),
    ]);
    checked.crash_and_compare();
}
