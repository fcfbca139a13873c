//! How many bytes of chosen values lie behind a slot, for a leader that tells how far its members lag.
//!
//! The meter adds up the values that this node applies, and marks the sum once a tick. It keeps the marks of
//! the last [`LEVEL_MARKS`] ticks, as many of every second tick before, as many of every fourth before those,
//! and so on: a day of ticks of 10 ms takes 2,200 marks, or 35 KiB. So the answer is exact at a mark, and
//! otherwise rounded up to the mark before: by what was applied within a tick for a member that follows, and
//! by what was applied in a fiftieth of the time for one that lags far behind.

use std::collections::VecDeque;

use paxos_core::Slot;

/// So many marks are kept at each distance.
const LEVEL_MARKS: usize = 128;

/// The bytes of the values of all slots up to one, from where the meter began.
#[derive(Clone, Copy, Debug)]
struct Mark {
    slot: Slot,
    bytes: u64,
}

/// Adds up the values of the log as they are applied.
#[derive(Debug)]
pub(crate) struct LogMeter {
    /// Where the meter began.
    beginning: Slot,
    /// The newest marks first, level by level; in each the marks are in the order of their slots.
    levels: Vec<VecDeque<Mark>>,
    last: Mark,
}

impl LogMeter {
    /// A meter for the values after `slot`.
    pub(crate) fn beginning_after(slot: Slot) -> LogMeter {
        LogMeter { beginning: slot, levels: Vec::new(), last: Mark { slot, bytes: 0 } }
    }

    /// The value of the next slot is applied.
    pub(crate) fn add(&mut self, slot: Slot, value_bytes: usize) {
        self.last = Mark { slot, bytes: self.last.bytes + value_bytes as u64 };
    }

    /// To be called once a tick.
    pub(crate) fn mark(&mut self) {
        let newest = self.levels.first().and_then(VecDeque::back).map_or(self.beginning, |mark| mark.slot);
        if newest == self.last.slot {
            return;
        }
        // A level that is full hands every other one of its oldest marks on to the next.
        let (mut level, mut moving) = (0, Some(self.last));
        while let Some(mark) = moving {
            if level == self.levels.len() {
                self.levels.push(VecDeque::new());
            }
            let marks = &mut self.levels[level];
            marks.push_back(mark);
            moving = None;
            if marks.len() > LEVEL_MARKS {
                moving = marks.pop_front();
                marks.pop_front();
            }
            level += 1;
        }
    }

    /// The bytes of the values after `slot`, as far as they are applied here; `None` if some of them were
    /// applied before the meter began.
    pub(crate) fn bytes_after(&self, slot: Slot) -> Option<u64> {
        if slot >= self.last.slot {
            return Some(0);
        }
        if slot < self.beginning {
            return None;
        }
        let at_or_before = |marks: &VecDeque<Mark>| {
            let known = marks.partition_point(|mark| mark.slot <= slot);
            known.checked_sub(1).map(|place| marks[place].bytes)
        };
        let marked_bytes = self.levels.iter().find_map(at_or_before).unwrap_or(0);
        Some(self.last.bytes - marked_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE_BYTES: usize = 100;
    const SLOTS_PER_TICK: u64 = 10;

    /// A meter that has begun after slot 7 and has seen this many ticks.
    fn after_ticks(ticks: u64) -> LogMeter {
        let mut meter = LogMeter::beginning_after(Slot(7));
        for tick in 0..ticks {
            for place in 1..=SLOTS_PER_TICK {
                meter.add(Slot(7 + tick * SLOTS_PER_TICK + place), VALUE_BYTES);
            }
            meter.mark();
        }
        meter
    }

    #[test]
    fn what_lies_behind_a_mark_is_told_exactly_and_between_two_it_is_rounded_up() {
        let meter = after_ticks(100);
        assert_eq!(meter.bytes_after(Slot(1007)), Some(0));
        assert_eq!(meter.bytes_after(Slot(2000)), Some(0), "the member knows more than is applied here");
        assert_eq!(meter.bytes_after(Slot(507)), Some(500 * VALUE_BYTES as u64));
        assert_eq!(meter.bytes_after(Slot(503)), Some(510 * VALUE_BYTES as u64));
    }

    #[test]
    fn what_was_applied_before_the_meter_began_is_not_known() {
        let meter = after_ticks(10);
        assert_eq!(meter.bytes_after(Slot(7)), Some(100 * VALUE_BYTES as u64));
        assert_eq!(meter.bytes_after(Slot(6)), None);
        assert_eq!(LogMeter::beginning_after(Slot(7)).bytes_after(Slot(6)), None);
    }

    #[test]
    fn marks_are_few_and_dense_where_members_mostly_are() {
        let ticks = 1_000_000;
        let meter = after_ticks(ticks);
        let marks: usize = meter.levels.iter().map(VecDeque::len).sum();
        assert!(marks <= 14 * LEVEL_MARKS, "{marks} marks");
        let last = 7 + ticks * SLOTS_PER_TICK;
        for lag in (1..10 * SLOTS_PER_TICK).chain([1_000, 10_000, 100_000, 1_000_000, 9_999_999]) {
            let told = meter.bytes_after(Slot(last - lag)).expect("the meter had begun");
            let exact = lag * VALUE_BYTES as u64;
            let most = exact + exact * 2 / LEVEL_MARKS as u64 + SLOTS_PER_TICK * VALUE_BYTES as u64;
            assert!(told >= exact && told <= most, "{lag} slots: {told} and not {exact} to {most}");
        }
    }
}
