//! The part of the log that is in memory: what was accepted and what is chosen, slot by slot.

use std::collections::{BTreeSet, VecDeque};

use crate::durable::Entry;
use crate::id::{Ballot, Slot};
use crate::membership::Membership;
use crate::mutant::{Mutant, mutated};
use crate::value::ValueKind;

/// At most this many slots are dropped at once: more would take milliseconds.
const MAX_TRIMMED_AT_ONCE: usize = 8192;
/// How many slots there stays room for when a log is trimmed.
const LEAST_ROOM: usize = 8;
/// How many bytes a slot is taken to cost beside its value.
const ENTRY_BYTES: usize = 64;

/// The slots after [`trimmed`](Log::trimmed). Every one up to [`chosen`](Log::chosen) holds an
/// [`Entry::Chosen`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    trimmed: Slot,
    chosen: Slot,
    entries: VecDeque<Option<Entry>>,
    bytes: usize,
    /// The slots that hold a membership.
    memberships: BTreeSet<Slot>,
}

impl Log {
    /// A log of which everything through `slot` is in a snapshot.
    pub(crate) fn after_snapshot(slot: Slot) -> Log {
        Log { trimmed: slot, chosen: slot, ..Log::default() }
    }

    /// Slots up to here are no longer in memory.
    pub(crate) fn trimmed(&self) -> Slot {
        self.trimmed
    }

    /// Every slot up to here is chosen.
    pub(crate) fn chosen(&self) -> Slot {
        self.chosen
    }

    /// The highest slot with an entry, or the watermark if that is higher.
    pub(crate) fn last(&self) -> Slot {
        self.trimmed.advanced_by(self.entries.len() as u64)
    }

    /// Roughly how much memory the log takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(self.position(slot)?)?.as_ref()
    }

    fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        let position = self.position(slot)?;
        self.entries.get_mut(position)?.as_mut()
    }

    /// Whether any slot holds a membership.
    pub(crate) fn has_memberships(&self) -> bool {
        !self.memberships.is_empty()
    }

    /// The first chosen slot after `slot` that holds a membership.
    pub(crate) fn membership_after(&self, slot: Slot) -> Option<(Slot, Membership)> {
        let first = *self.memberships.range(slot.next()..).next()?;
        let is_in_force = first <= self.chosen || mutated(Mutant::MembershipUsedBeforeChosen);
        let value = is_in_force.then(|| self.entry(first))??.value();
        Some((first, value.as_membership().expect("the slot was noted when it was given a membership")))
    }

    /// Whether the value in this slot is known to be the chosen one.
    pub(crate) fn is_chosen(&self, slot: Slot) -> bool {
        slot <= self.chosen || matches!(self.entry(slot), Some(Entry::Chosen { .. }))
    }

    /// The entries from `first` on, with their slots.
    pub(crate) fn reports_from(&self, first: Slot) -> impl Iterator<Item = (Slot, Entry)> + '_ {
        let skipped = self.position(first).unwrap_or(0);
        let slots = (self.trimmed.0 + 1 + skipped as u64..).map(Slot);
        let entries = self.entries.iter().skip(skipped).zip(slots);
        entries.filter_map(|(entry, slot)| Some((slot, entry.clone()?)))
    }

    /// Replaces the entry of an unchosen slot.
    pub(crate) fn put(&mut self, slot: Slot, entry: Entry) {
        assert!(slot > self.chosen, "the value of a chosen slot never changes");
        let position = self.position(slot).expect("an unchosen slot lies after the trimmed part");
        self.bytes += entry_bytes(&entry);
        if entry.value().kind() == ValueKind::Membership {
            self.memberships.insert(slot);
        } else if !self.memberships.is_empty() {
            self.memberships.remove(&slot);
        }
        if position == self.entries.len() {
            self.entries.push_back(Some(entry)); // Mostly: the next slot.
            return;
        }
        if position > self.entries.len() {
            self.entries.resize(position + 1, None);
        }
        if let Some(replaced) = self.entries[position].replace(entry) {
            self.bytes -= entry_bytes(&replaced);
        }
    }

    /// Notes that the value which `slot` holds is chosen.
    pub(crate) fn mark_chosen(&mut self, slot: Slot) {
        if slot <= self.chosen {
            return;
        }
        choose(self.entry_mut(slot).expect("only a slot that has a value is marked as chosen"));
    }

    /// Moves the watermark over all slots that are known to be chosen.
    pub(crate) fn advance(&mut self) {
        while matches!(self.entry(self.chosen.next()), Some(Entry::Chosen { .. })) {
            self.chosen = self.chosen.next();
        }
    }

    /// Applies a leader's watermark: all slots through `through` are chosen. The chosen value is known for
    /// each slot that was accepted here under the leader's own `ballot`: a leader proposes one value per
    /// slot, and in a chosen slot only the chosen one (P2c).
    pub(crate) fn advance_under(&mut self, ballot: Ballot, through: Slot) {
        loop {
            let next = self.chosen.next();
            match self.entry_mut(next) {
                Some(Entry::Chosen { .. }) => {}
                Some(entry) if next <= through && is_proposal_under(ballot, entry) => choose(entry),
                _ => return,
            }
            self.chosen = next;
        }
    }

    /// Sets the watermark to what stable storage knew, or names a slot below it that has no value.
    pub(crate) fn recover_chosen(&mut self, chosen: Slot) -> Result<(), Slot> {
        while self.chosen < chosen {
            let next = self.chosen.next();
            if self.entry(next).is_none() {
                return Err(next);
            }
            self.mark_chosen(next);
            self.chosen = next;
        }
        self.advance();
        Ok(())
    }

    /// Drops chosen slots through `through`, oldest first, until no more than `retained_bytes` are left; of
    /// very many only the first.
    pub(crate) fn trim(&mut self, through: Slot, retained_bytes: usize) {
        for _ in 0..MAX_TRIMMED_AT_ONCE {
            if self.bytes <= retained_bytes || self.trimmed >= through.min(self.chosen) {
                break;
            }
            let dropped = self.entries.pop_front().flatten().expect("a chosen slot has an entry");
            self.bytes -= entry_bytes(&dropped);
            self.trimmed = self.trimmed.next();
        }
        self.forget_trimmed_memberships();
        self.give_back_memory();
    }

    /// Replaces everything through `slot` by a snapshot; what lies beyond stays.
    pub(crate) fn install_snapshot(&mut self, slot: Slot) {
        assert!(slot > self.chosen, "a snapshot is installed only if it is ahead of the log");
        while self.trimmed < slot {
            if let Some(dropped) = self.entries.pop_front().flatten() {
                self.bytes -= entry_bytes(&dropped);
            }
            self.trimmed = self.trimmed.next();
            if self.entries.is_empty() {
                self.trimmed = slot;
            }
        }
        self.forget_trimmed_memberships();
        self.give_back_memory();
        self.chosen = slot;
        self.advance();
    }

    fn forget_trimmed_memberships(&mut self) {
        while self.memberships.first().is_some_and(|slot| *slot <= self.trimmed) {
            self.memberships.pop_first();
        }
    }

    /// Gives room of dropped slots back, if that is most of it, so that a log which was long once takes no
    /// more than others. Room for twice the slots stays: a log that grows again as before takes little anew.
    fn give_back_memory(&mut self) {
        let needed = (2 * self.entries.len()).max(LEAST_ROOM);
        if self.entries.capacity() > 2 * needed {
            self.entries.shrink_to(needed);
        }
    }

    fn position(&self, slot: Slot) -> Option<usize> {
        usize::try_from(slot.0.checked_sub(self.trimmed.0 + 1)?).ok()
    }
}

/// Notes that the value in this entry is the chosen one.
fn choose(entry: &mut Entry) {
    if let Entry::Accepted { value, .. } = entry {
        *entry = Entry::Chosen { value: std::mem::take(value) };
    }
}

/// Whether this entry was accepted under `ballot`.
fn is_proposal_under(ballot: Ballot, entry: &Entry) -> bool {
    let Entry::Accepted { ballot: accepted, .. } = entry else { return false };
    *accepted == ballot || mutated(Mutant::WatermarkOfAnyBallot)
}

fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_BYTES + entry.value().size_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;
    use bytes::Bytes;

    fn accepted(round: u64) -> Entry {
        Entry::Accepted { ballot: ballot(round), value: Value::batch(&[Bytes::from(vec![0; 100])]) }
    }

    fn ballot(round: u64) -> Ballot {
        Ballot::ZERO.successor_for(crate::NodeId(round))
    }

    #[test]
    fn a_watermark_covers_only_what_was_accepted_under_its_ballot() {
        let mut log = Log::default();
        for (slot, round) in [(1, 2), (2, 2), (3, 1), (4, 2)] {
            log.put(Slot(slot), accepted(round));
        }
        log.advance_under(ballot(2), Slot(4));
        assert_eq!(log.chosen(), Slot(2), "slot 3 may hold a value that was not chosen");
        log.put(Slot(3), accepted(2));
        log.advance_under(ballot(2), Slot(3));
        assert_eq!(log.chosen(), Slot(3), "the leader has not said that slot 4 is chosen");
    }

    #[test]
    fn holes_stop_the_watermark_until_they_are_filled() {
        let mut log = Log::default();
        log.put(Slot(2), Entry::Chosen { value: Value::no_op() });
        log.advance();
        assert_eq!((log.chosen(), log.last()), (Slot(0), Slot(2)));
        assert!(log.is_chosen(Slot(2)) && !log.is_chosen(Slot(1)));
        log.put(Slot(1), Entry::Chosen { value: Value::no_op() });
        log.advance();
        assert_eq!(log.chosen(), Slot(2));
    }

    #[test]
    fn trimming_keeps_the_tail_and_what_is_not_chosen() {
        let mut log = Log::default();
        for slot in 1..=10 {
            log.put(Slot(slot), accepted(1));
        }
        log.advance_under(ballot(1), Slot(8));
        let each = log.bytes() / 10;
        log.trim(Slot(6), 7 * each);
        assert_eq!(log.trimmed(), Slot(3), "three of ten are dropped to keep seven");
        log.trim(Slot(6), 0);
        assert_eq!(log.trimmed(), Slot(6), "nothing after the snapshot is dropped");
        assert_eq!(log.reports_from(Slot(1)).map(|(slot, _)| slot.0).collect::<Vec<_>>(), [7, 8, 9, 10]);
        assert_eq!(log.bytes(), 4 * each);
        assert!(log.is_chosen(Slot(1)), "what was dropped was chosen");
    }

    #[test]
    fn a_snapshot_replaces_what_it_covers_and_keeps_what_lies_beyond() {
        let mut log = Log::default();
        log.put(Slot(2), accepted(1));
        log.put(Slot(6), Entry::Chosen { value: Value::no_op() });
        log.install_snapshot(Slot(5));
        assert_eq!((log.trimmed(), log.chosen(), log.last()), (Slot(5), Slot(6), Slot(6)));
        log.install_snapshot(Slot(100));
        assert_eq!(
            (log.trimmed(), log.chosen(), log.last(), log.bytes()),
            (Slot(100), Slot(100), Slot(100), 0)
        );
    }

    #[test]
    fn a_replaced_entry_gives_its_memory_back() {
        let mut log = Log::default();
        log.put(Slot(1), accepted(1));
        let each = log.bytes();
        assert!(each > 100, "a value of a hundred bytes takes more than those");
        log.put(Slot(1), accepted(2));
        assert_eq!(log.bytes(), each);
        log.put(Slot(1), Entry::Chosen { value: Value::no_op() });
        assert_eq!(log.bytes(), ENTRY_BYTES, "a no-op has no bytes of its own");
        log.put(Slot(2), accepted(1));
        log.put(Slot(3), accepted(1));
        log.install_snapshot(Slot(2));
        assert_eq!(log.bytes(), each, "slot 3 is left");
    }

    #[test]
    fn a_log_that_was_long_once_gives_its_room_back() {
        let mut log = Log::default();
        for slot in 1..=1000 {
            log.put(Slot(slot), Entry::Chosen { value: Value::no_op() });
        }
        log.advance();
        log.trim(Slot(600), 0);
        assert!(log.entries.capacity() >= 400, "{}", log.entries.capacity());
        log.trim(Slot(1000), 0);
        assert!(log.entries.capacity() <= 2 * LEAST_ROOM, "{}", log.entries.capacity());
        log.put(Slot(1001), accepted(1));
        assert_eq!(log.last(), Slot(1001));
    }

    #[test]
    fn a_log_goes_on_behind_its_snapshot() {
        let mut log = Log::after_snapshot(Slot(5));
        assert_eq!((log.trimmed(), log.chosen(), log.last()), (Slot(5), Slot(5), Slot(5)));
        log.put(Slot(6), accepted(1));
        assert_eq!((log.last(), log.entry(Slot(5))), (Slot(6), None));
    }

    #[test]
    fn a_recovered_watermark_needs_a_value_in_each_slot_below() {
        let mut log = Log::default();
        log.put(Slot(1), accepted(1));
        log.put(Slot(2), accepted(1));
        log.put(Slot(3), Entry::Chosen { value: Value::no_op() });
        log.put(Slot(5), accepted(1));
        assert_eq!(log.recover_chosen(Slot(2)), Ok(()));
        assert_eq!(log.chosen(), Slot(3), "what was learned to be chosen needs no watermark");
        assert!(log.is_chosen(Slot(1)) && !log.is_chosen(Slot(5)));
        assert_eq!(log.recover_chosen(Slot(5)), Err(Slot(4)));
    }

    #[test]
    fn reports_tell_what_is_below_the_watermark_as_chosen_and_the_rest_as_accepted() {
        let mut log = Log::default();
        for slot in 1..=3 {
            log.put(Slot(slot), accepted(1));
        }
        log.advance_under(ballot(1), Slot(2));
        let is_chosen = |(slot, entry): (Slot, Entry)| (slot.0, matches!(entry, Entry::Chosen { .. }));
        let reports: Vec<_> = log.reports_from(Slot(2)).map(is_chosen).collect();
        assert_eq!(reports, [(2, true), (3, false)]);
    }
}
