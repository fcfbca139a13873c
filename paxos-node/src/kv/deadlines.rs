//! The keys that expire, in the order in which they do: by deadline, and of equal ones by the revision at
//! which the key was created. That order is the same on all nodes.
//!
//! They stand in pages, each for a range of deadlines, as the keys of [`creation`](super::creation) do: 12
//! bytes a key, and the deadline itself takes 8 in the key's record.

use std::collections::BTreeMap;

use paxos_core::Time;

/// A page has no more entries than this.
const MAX_ENTRIES: usize = 512;
/// A page with fewer is merged with a neighbour if both fit into three quarters of a page.
const MIN_ENTRIES: usize = 128;
/// A page that is full for now gets room for so many more entries.
const MORE_ENTRIES: usize = 32;
/// The high bits of a deadline, which all deadlines of a page have in common.
const HIGH: u64 = !(u32::MAX as u64);

/// A deadline, and the revision at which its key was created.
type Place = (u64, u64);

/// Keys by their deadlines.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines {
    /// By the lowest place that each may hold.
    pages: BTreeMap<Place, Vec<Entry>>,
}

/// An entry of a page. In three parts, so that no bytes are lost to alignment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    /// The low bits of the deadline.
    low: u32,
    created: [u32; 2],
}

impl Entry {
    #[expect(clippy::cast_possible_truncation, reason = "the high bits are kept apart")]
    fn new((deadline, created): Place) -> Entry {
        Entry { low: deadline as u32, created: [(created >> 32) as u32, created as u32] }
    }

    /// By this the entries of a page are in order.
    fn order(self) -> (u32, [u32; 2]) {
        (self.low, self.created)
    }

    fn place(self, page: Place) -> Place {
        let [high, low] = self.created;
        (page.0 & HIGH | u64::from(self.low), u64::from(high) << 32 | u64::from(low))
    }
}

impl Deadlines {
    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.pages.values().map(Vec::len).sum()
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, deadline: Time, created: u64) {
        let place = (deadline.0, created);
        let entry = Entry::new(place);
        let page = self.pages.range_mut(..=place).next_back();
        let Some((_, page)) = page.filter(|(first, _)| first.0 & HIGH == place.0 & HIGH) else {
            self.pages.insert((place.0 & HIGH, 0), vec![entry]);
            return;
        };
        let at = page.partition_point(|other| other.order() < entry.order());
        assert!(page.get(at) != Some(&entry), "a key has one deadline");
        if page.len() < MAX_ENTRIES {
            if page.len() == page.capacity() {
                page.reserve_exact(MORE_ENTRIES);
            }
            page.insert(at, entry);
        } else if at == page.len() {
            self.pages.insert(place, vec![entry]);
        } else {
            let upper = page.split_off(MAX_ENTRIES / 2);
            page.shrink_to(MAX_ENTRIES / 2);
            let first = upper[0].place(place);
            self.pages.insert(first, upper);
            self.insert(deadline, created);
        }
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, deadline: Time, created: u64) {
        let place = (deadline.0, created);
        let (&first, page) =
            self.pages.range_mut(..=place).next_back().expect("every key with a deadline has an entry");
        let entry = Entry::new(place);
        let at = page.partition_point(|other| other.order() < entry.order());
        assert!(page.get(at) == Some(&entry), "every key with a deadline has an entry");
        page.remove(at);
        if page.is_empty() {
            self.pages.remove(&first);
        } else if page.len() < MIN_ENTRIES {
            self.merge(first);
            if let Some((&before, _)) = self.pages.range(..first).next_back() {
                self.merge(before);
            }
        }
    }

    /// Moves the entries of the page behind this one here, if both have few.
    fn merge(&mut self, first: Place) {
        let mut pages = self.pages.range_mut(first..);
        let (Some((_, page)), Some((&next, behind))) = (pages.next(), pages.next()) else { return };
        if next.0 & HIGH == first.0 & HIGH && page.len() + behind.len() <= MAX_ENTRIES / 4 * 3 {
            page.reserve_exact(behind.len());
            page.append(behind);
            self.pages.remove(&next);
        }
    }

    /// The first key whose deadline is not after `time`.
    pub(super) fn first_due(&self, time: Time) -> Option<(Time, u64)> {
        self.due(time).next()
    }

    /// The keys whose deadlines are not after `time`, the earliest first.
    pub(super) fn due(&self, time: Time) -> impl Iterator<Item = (Time, u64)> {
        let entries =
            self.pages.iter().flat_map(|(first, page)| page.iter().map(|entry| entry.place(*first)));
        entries
            .take_while(move |(deadline, _)| *deadline <= time.0)
            .map(|(deadline, created)| (Time(deadline), created))
    }

    /// Whether there are keys with deadlines after `since` and not after `until`.
    #[cfg(any(test, feature = "server"))]
    pub(super) fn has_between(&self, since: Time, until: Time) -> bool {
        let from = (since.0.saturating_add(1), 0);
        let before = self.pages.range(..from).next_back();
        let pages = before.into_iter().chain(self.pages.range(from..));
        let mut places = pages.filter_map(|(first, page)| {
            let begin = page.partition_point(|entry| entry.place(*first) < from);
            page[begin..].first().map(|entry| entry.place(*first))
        });
        places.next().is_some_and(|(deadline, _)| deadline <= until.0)
    }

    /// Whether more than `count` keys are due at `time`.
    pub(super) fn has_more_due_than(&self, count: usize, time: Time) -> bool {
        self.due(time).nth(count).is_some()
    }

    /// Fills the pages, which are far from full after insertions in any order.
    pub(super) fn pack(&mut self) {
        let mut packed = Deadlines::default();
        while let Some((first, page)) = self.pages.pop_first() {
            for entry in page {
                let (deadline, created) = entry.place(first);
                packed.insert(Time(deadline), created);
            }
        }
        *self = packed;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const FAR: u64 = 1 << 33;

    fn deadline() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0..50_u64, 1 => 0..5_000_u64, 1 => FAR..FAR + 50]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn keys_are_due_in_order_of_their_deadlines(
            steps in prop::collection::vec((any::<bool>(), deadline(), 0..3_000_u64), 1..4_000)
        ) {
            let (mut deadlines, mut model) = (Deadlines::default(), BTreeSet::new());
            for (inserts, deadline, created) in steps {
                let is_there = model.contains(&(deadline, created));
                if inserts && !is_there {
                    deadlines.insert(Time(deadline), created);
                    model.insert((deadline, created));
                } else if is_there {
                    deadlines.remove(Time(deadline), created);
                    model.remove(&(deadline, created));
                }
            }
            prop_assert_eq!(deadlines.len(), model.len());
            for packed in [false, true] {
                if packed {
                    deadlines.pack();
                }
                for time in [0, 20, 300, FAR + 20, u64::MAX] {
                    let due: Vec<_> = deadlines.due(Time(time)).map(|(time, created)| (time.0, created)).collect();
                    let expected: Vec<_> = model.range(..=(time, u64::MAX)).copied().collect();
                    prop_assert_eq!(deadlines.has_more_due_than(7, Time(time)), expected.len() > 7);
                    prop_assert_eq!(due, expected);
                    for since in [0, 19, 300, FAR] {
                        let expected = model.iter().any(|(deadline, _)| *deadline > since && *deadline <= time);
                        prop_assert_eq!(deadlines.has_between(Time(since), Time(time)), expected);
                    }
                }
            }
            let full = deadlines.pages.values().filter(|page| page.len() == MAX_ENTRIES).count();
            prop_assert!(deadlines.pages.len() <= full + 2, "packed pages are full");
        }
    }

    #[test]
    fn a_key_takes_fifteen_bytes_in_pages_at_most_half_of_which_were_split() {
        let mut deadlines = Deadlines::default();
        let count = 100_000_u64;
        for number in 0..count {
            deadlines.insert(Time(number.wrapping_mul(0x9e37_79b9) % 1_000_000), number);
        }
        let taken: usize =
            deadlines.pages.values().map(|page| 40 + page.capacity() * size_of::<Entry>()).sum();
        assert!(taken as u64 <= 15 * count, "{} bytes for each", taken as u64 / count);
    }
}
