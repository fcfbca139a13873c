//! Corrects entries and watermark after damage or the loss of a snapshot.

use std::collections::BTreeMap;

use paxos_core::{Entry, HardState, Slot};

/// Corrects entries and hard state for the slots in `lost`. Returns the last slot whose acceptance is
/// unknown, or zero if all are known.
///
/// `snapshot` is the slot of the newest whole snapshot, and `lost_snapshot_slot` that of a newer one that is
/// lost, or zero.
pub(crate) fn account_for_losses(
    entries: &mut BTreeMap<Slot, Entry>,
    hard_state: &mut HardState,
    snapshot: Slot,
    lost_snapshot_slot: Slot,
    lost: &[(Slot, Slot)],
) -> Slot {
    if lost.is_empty() && lost_snapshot_slot <= snapshot {
        return Slot::ZERO;
    }
    // The watermark must fall below the first missing slot. It still says that the values in the slots above
    // are chosen, so these become chosen entries.
    let known_chosen_after = snapshot.max(lost_snapshot_slot);
    for (slot, entry) in entries.range_mut(known_chosen_after.next()..) {
        if *slot <= hard_state.chosen {
            *entry = Entry::Chosen { value: entry.value().clone() };
        }
    }
    let mut chosen = snapshot;
    while chosen < hard_state.chosen && matches!(entries.get(&chosen.next()), Some(Entry::Chosen { .. })) {
        chosen = chosen.next();
    }
    let not_known_chosen = (snapshot.next(), hard_state.chosen.max(lost_snapshot_slot));
    hard_state.chosen = chosen;
    let last_missing = |&(first, last): &(Slot, Slot)| {
        (first.max(snapshot.next()).0..=last.0).rev().map(Slot).find(|slot| !entries.contains_key(slot))
    };
    lost.iter().chain([&not_known_chosen]).filter_map(last_missing).max().unwrap_or(Slot::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use paxos_core::{Ballot, NodeId, Value};

    fn accepted() -> Entry {
        Entry::Accepted { ballot: Ballot { round: 1, node: NodeId(1) }, value: Value::no_op() }
    }

    fn corrected(
        slots: &[u64],
        chosen: u64,
        snapshot: u64,
        distrusted: u64,
        lost: &[(u64, u64)],
    ) -> (u64, u64, Vec<u64>) {
        let mut entries: BTreeMap<Slot, Entry> = slots.iter().map(|slot| (Slot(*slot), accepted())).collect();
        let mut hard_state = HardState { chosen: Slot(chosen), ..HardState::default() };
        let lost: Vec<_> = lost.iter().map(|(first, last)| (Slot(*first), Slot(*last))).collect();
        let through =
            account_for_losses(&mut entries, &mut hard_state, Slot(snapshot), Slot(distrusted), &lost);
        let known = entries.iter().filter(|(_, entry)| matches!(entry, Entry::Chosen { .. }));
        (through.0, hard_state.chosen.0, known.map(|(slot, _)| slot.0).collect())
    }

    #[test]
    fn the_watermark_comes_down_below_what_is_missing_and_lives_on_in_the_slots_above() {
        assert_eq!(corrected(&[1, 3, 4, 5], 4, 0, 0, &[(2, 2)]), (2, 1, vec![1, 3, 4]));
    }

    #[test]
    fn what_was_written_anew_is_not_missing() {
        assert_eq!(corrected(&[1, 2, 3], 2, 0, 0, &[(2, 3)]), (0, 2, vec![1, 2]));
    }

    #[test]
    fn what_a_snapshot_covers_is_not_missing() {
        assert_eq!(corrected(&[5], 5, 4, 0, &[(1, 3)]), (0, 5, vec![5]));
    }

    #[test]
    fn unchosen_slots_may_be_missing_too() {
        assert_eq!(corrected(&[1, 2], 2, 0, 0, &[(3, 6)]), (6, 2, vec![1, 2]));
    }

    #[test]
    fn below_a_lost_snapshot_acceptances_are_kept_but_not_taken_for_chosen() {
        assert_eq!(corrected(&[8, 9, 10, 11, 12], 11, 5, 10, &[]), (7, 5, vec![11]));
        assert_eq!(corrected(&[6, 7], 10, 5, 10, &[]), (10, 5, vec![]));
    }
}
