//! Reading the log back, and making its end ready for writes.
//!
//! - A **torn tail** is cut, with all other frames of the same write, and what was there is made zero before anything
//!   is written again, so that no stale frame can ever look like a later one.
//! - **Damage** behind which the newest promise is still known is passed over. The replica is told up to which slot it
//!   may have forgotten what it had accepted; nothing is changed, so that every later start finds the same until
//!   the segment is freed.
//! - Other damage is refused, and nothing is changed.
//!
//! The last acknowledged frame has nothing behind it and could be taken for a torn one if it rots. A mark behind
//! it makes that impossible.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use paxos_core::{Entry, HardState, Slot};

use super::During;
use super::disk::Disk;
use super::log::{Extent, Tail};
use super::meta::{self, Description, Meta};
use super::scan::{Scan, Sight};
use super::segment::{self, Segment};
use crate::{Damage, DamageCause, Error};

/// What the log holds, and where it goes on.
#[derive(Debug)]
pub(super) struct RecoveredLog {
    pub(super) entries: BTreeMap<Slot, Entry>,
    /// Slots that damage has cost.
    pub(super) lost: Vec<(Slot, Slot)>,
    pub(super) tail: Tail,
}

/// Reads the log that `meta` describes, and makes its end ready for writes.
///
/// A snapshot of `distrusted_through` is lost; what the watermark says about slots up to there rested on it.
pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    meta: &Meta,
    distrusted_through: Slot,
) -> Result<RecoveredLog, Error> {
    disk.sync_directory().during("sync", &disk.path(""))?;
    let span = meta.description().span(distrusted_through);
    let mut warn = |sight: Sight<'_>| {
        if let Sight::Damage(damage) = sight {
            tracing::warn!("{damage}");
        }
    };
    let found = Scan::run(disk.as_ref(), span, &mut warn)?;
    if let Some(damage) = found.fatal_damage() {
        return Err(Error::Damaged(damage));
    }
    cut(disk.as_ref(), found, meta)
}

/// Cuts the log behind the last whole write, and removes what is no part of it.
fn cut(disk: &dyn Disk, mut found: Scan<'_>, meta: &Meta) -> Result<RecoveredLog, Error> {
    let (end, has_tail) = (found.whole, found.has_tail());
    let Description { first_segment: first, last_segment: last, .. } = meta.description();
    found.segments.truncate(end.segment_index + 1);
    let extents: VecDeque<Extent> = found.segments.iter().map(|(_, extent)| *extent).collect();
    let Some(segment) = found.segments.pop().and_then(|(segment, _)| segment) else {
        let file = disk.path(&segment::name(first));
        let cause = DamageCause::MissingSegment;
        return Err(Error::Damaged(Damage { file, offset: 0, cause, slots: None, is_promise_intact: false }));
    };
    if segment.number != last {
        let change = meta.change(|description| description.last_segment = segment.number);
        change.during("write", &disk.path(meta::NAME))?;
    }
    for name in disk.list().during("list", &disk.path(""))? {
        let number = segment::number_of(&name);
        let is_outside = number.is_some_and(|number| number > segment.number || number < first);
        if is_outside || segment::is_unfinished(&name) {
            disk.remove(&name).during("remove", &disk.path(&name))?;
        }
    }
    if has_tail {
        clear_tail(disk, &segment, end.offset)?;
    }
    let tail = Tail {
        segment,
        extents,
        offset: end.offset,
        next: end.next,
        hard_state: found.hard_state,
        last_slots: end.last_slots,
        highest_slot: end.highest_slot,
        is_marked: end.is_marked,
    };
    Ok(RecoveredLog { entries: found.entries, lost: found.lost, tail })
}

fn clear_tail(disk: &dyn Disk, segment: &Segment, offset: usize) -> Result<(), Error> {
    let path = disk.path(&segment::name(segment.number));
    tracing::warn!(
        file = %path.display(),
        offset,
        "the log ends in a write that was never acknowledged; it is cut there"
    );
    disk.sync_directory().during("sync", &disk.path(""))?;
    segment::clear_from(segment, offset).during("write", &path)
}

/// Makes entries and hard state right for what was `lost`: gives the last slot of which an acceptance is not known
/// any more, zero if all are known.
///
/// `snapshot` is the slot of the newest whole snapshot; up to `distrusted_through` a lost one went.
pub(super) fn settle(
    entries: &mut BTreeMap<Slot, Entry>,
    hard_state: &mut HardState,
    snapshot: Slot,
    distrusted_through: Slot,
    lost: &[(Slot, Slot)],
) -> Slot {
    if lost.is_empty() && distrusted_through <= snapshot {
        return Slot::ZERO;
    }
    // The watermark must come down below the first slot that is missing. What it says about the slots above, that
    // their values are the chosen ones, goes into the slots.
    let vouched_after = snapshot.max(distrusted_through);
    for (slot, entry) in entries.range_mut(vouched_after.next()..) {
        if *slot <= hard_state.chosen {
            *entry = Entry::Chosen { value: entry.value().clone() };
        }
    }
    let mut chosen = snapshot;
    while chosen < hard_state.chosen && matches!(entries.get(&chosen.next()), Some(Entry::Chosen { .. })) {
        chosen = chosen.next();
    }
    let unvouched = (snapshot.next(), hard_state.chosen.max(distrusted_through));
    hard_state.chosen = chosen;
    let last_missing = |&(first, last): &(Slot, Slot)| {
        (first.max(snapshot.next()).0..=last.0).rev().map(Slot).find(|slot| !entries.contains_key(slot))
    };
    lost.iter().chain([&unvouched]).filter_map(last_missing).max().unwrap_or(Slot::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use paxos_core::{Ballot, NodeId, Value};

    fn accepted() -> Entry {
        Entry::Accepted { ballot: Ballot { round: 1, node: NodeId(1) }, value: Value::no_op() }
    }

    fn settled(
        slots: &[u64],
        chosen: u64,
        snapshot: u64,
        distrusted: u64,
        lost: &[(u64, u64)],
    ) -> (u64, u64, Vec<u64>) {
        let mut entries: BTreeMap<Slot, Entry> = slots.iter().map(|slot| (Slot(*slot), accepted())).collect();
        let mut hard_state = HardState { chosen: Slot(chosen), ..HardState::default() };
        let lost: Vec<_> = lost.iter().map(|(first, last)| (Slot(*first), Slot(*last))).collect();
        let through = settle(&mut entries, &mut hard_state, Slot(snapshot), Slot(distrusted), &lost);
        let known = entries.iter().filter(|(_, entry)| matches!(entry, Entry::Chosen { .. }));
        (through.0, hard_state.chosen.0, known.map(|(slot, _)| slot.0).collect())
    }

    #[test]
    fn the_watermark_comes_down_below_what_is_missing_and_lives_on_in_the_slots_above() {
        assert_eq!(settled(&[1, 3, 4, 5], 4, 0, 0, &[(2, 2)]), (2, 1, vec![1, 3, 4]));
    }

    #[test]
    fn what_was_written_anew_is_not_missing() {
        assert_eq!(settled(&[1, 2, 3], 2, 0, 0, &[(2, 3)]), (0, 2, vec![1, 2]));
    }

    #[test]
    fn what_a_snapshot_covers_is_not_missing() {
        assert_eq!(settled(&[5], 5, 4, 0, &[(1, 3)]), (0, 5, vec![5]));
    }

    #[test]
    fn unchosen_slots_may_be_missing_too() {
        assert_eq!(settled(&[1, 2], 2, 0, 0, &[(3, 6)]), (6, 2, vec![1, 2]));
    }

    #[test]
    fn below_a_lost_snapshot_acceptances_are_kept_but_not_taken_for_chosen() {
        assert_eq!(settled(&[8, 9, 10, 11, 12], 11, 5, 10, &[]), (7, 5, vec![11]));
        assert_eq!(settled(&[6, 7], 10, 5, 10, &[]), (10, 5, vec![]));
    }
}
