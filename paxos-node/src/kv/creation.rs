//! The order in which keys were created, for scans: the same on all nodes, and no change of a value disturbs
//! it.
//!
//! It has the revisions of creation and, for each, the hash of its key, by which the record is found. They
//! stand in pages, each for a range of revisions; new keys go to the end of the last one. 8 bytes a key.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::records::Hash;

/// A page has no more entries than this.
const MAX_ENTRIES: usize = 512;
/// A page with fewer is merged with a neighbour if both fit into three quarters of a page.
const MIN_ENTRIES: usize = 128;
/// The high bits of a revision, which all revisions of a page have in common.
const HIGH: u64 = !(u32::MAX as u64);

/// Keys by the revision at which they were created.
#[derive(Clone, Debug, Default)]
pub(super) struct ByCreation {
    /// By the lowest revision that each may hold; the first with its high bits begins with them alone.
    pages: BTreeMap<u64, Page>,
}

/// In order of revisions.
type Page = Vec<Entry>;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The low bits of the revision.
    low: u32,
    hash: u32,
}

impl Entry {
    fn new(created: u64, hash: Hash) -> Entry {
        Entry { low: low(created), hash: hash.bits() }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the high bits are those of the page")]
fn low(created: u64) -> u32 {
    created as u32
}

impl ByCreation {
    /// Adds a key; `false` if one was created at that revision already.
    pub(super) fn insert(&mut self, created: u64, hash: Hash) -> bool {
        let page = self.pages.range_mut(..=created).next_back();
        let Some((_, page)) = page.filter(|(first, _)| **first & HIGH == created & HIGH) else {
            self.pages.insert(created & HIGH, vec![Entry::new(created, hash)]);
            return true;
        };
        let Err(place) = place(page, created) else { return false };
        if page.len() < MAX_ENTRIES {
            page.insert(place, Entry::new(created, hash));
        } else if place == page.len() {
            self.pages.insert(created, vec![Entry::new(created, hash)]);
        } else {
            let upper = page.split_off(MAX_ENTRIES / 2);
            page.shrink_to(MAX_ENTRIES / 2);
            self.pages.insert(created & HIGH | u64::from(upper[0].low), upper);
            return self.insert(created, hash);
        }
        true
    }

    /// The hash of the key that was created at this revision.
    pub(super) fn hash_of(&self, created: u64) -> Option<Hash> {
        let (first, page) = self.pages.range(..=created).next_back()?;
        let place = place(page, created).ok().filter(|_| *first & HIGH == created & HIGH)?;
        Some(Hash::from_bits(page[place].hash))
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, created: u64) {
        let (&first, page) = self.pages.range_mut(..=created).next_back().expect("every key has an entry");
        let place = place(page, created).expect("every key has an entry");
        page.remove(place);
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
    fn merge(&mut self, first: u64) {
        let mut pages = self.pages.range_mut(first..);
        let (Some((_, page)), Some((&next, behind))) = (pages.next(), pages.next()) else { return };
        if next & HIGH == first & HIGH && page.len() + behind.len() <= MAX_ENTRIES / 4 * 3 {
            page.reserve_exact(behind.len());
            page.append(behind);
            self.pages.remove(&next);
        }
    }

    /// The keys that were created at these revisions, the newest first.
    pub(super) fn newest_first(&self, created: RangeInclusive<u64>) -> impl Iterator<Item = (u64, Hash)> {
        let (oldest, newest) = created.into_inner();
        let pages = self.pages.range(..=newest).rev();
        let entries = pages.flat_map(|(first, page)| {
            page.iter().rev().map(move |entry| (first & HIGH | u64::from(entry.low), entry.hash))
        });
        entries
            .skip_while(move |(created, _)| *created > newest)
            .take_while(move |(created, _)| *created >= oldest)
            .map(|(created, hash)| (created, Hash::from_bits(hash)))
    }

    /// The revision at which the oldest key was created.
    pub(super) fn oldest(&self) -> Option<u64> {
        let (first, page) = self.pages.first_key_value()?;
        page.first().map(|entry| first & HIGH | u64::from(entry.low))
    }

    /// Of keys in any order, each with the revision at which it was created. `None` if two were created at
    /// one revision.
    pub(super) fn of(mut keys: Vec<(u64, Hash)>) -> Option<ByCreation> {
        keys.sort_unstable_by_key(|(created, _)| *created);
        let mut by_creation = ByCreation::default();
        for (created, hash) in keys {
            if !by_creation.insert(created, hash) {
                return None;
            }
        }
        Some(by_creation)
    }
}

fn place(page: &Page, created: u64) -> Result<usize, usize> {
    page.binary_search_by_key(&low(created), |entry| entry.low)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A revision: most are near each other, some share none of their high bits.
    fn revision() -> impl Strategy<Value = u64> {
        prop_oneof![8 => 1..3_000_u64, 1 => (0..3_u64, 0..40_u64).prop_map(|(high, low)| (high << 32) + low)]
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(changes in prop::collection::vec((revision(), 0..3_u8), 0..4_000), from: u64) {
            let (mut index, mut model) = (ByCreation::default(), BTreeMap::new());
            for (created, kind) in changes {
                let hash = low(created.wrapping_mul(7));
                if kind > 0 {
                    let is_new = model.insert(created, hash).is_none();
                    prop_assert_eq!(index.insert(created, Hash::from_bits(hash)), is_new);
                } else if model.remove(&created).is_some() {
                    index.remove(created);
                }
            }
            prop_assert_eq!(index.oldest(), model.keys().next().copied());
            for from in [from, from % 3_000, u64::MAX] {
                let found: Vec<_> =
                    index.newest_first(0..=from).map(|(created, hash)| (created, hash.bits())).collect();
                let expected: Vec<_> = model.range(..=from).rev().map(|(at, hash)| (*at, *hash)).collect();
                prop_assert_eq!(&found, &expected);
            }
            let mut keys: Vec<_> = model.iter().map(|(at, hash)| (*at, Hash::from_bits(*hash))).collect();
            keys.reverse();
            let rebuilt = ByCreation::of(keys.clone()).expect("each revision comes once");
            let all = |index: &ByCreation| -> Vec<_> {
                index.newest_first(0..=u64::MAX).map(|(at, hash)| (at, hash.bits())).collect()
            };
            prop_assert_eq!(all(&rebuilt), all(&index));
            if let Some(first) = keys.first().copied() {
                keys.push(first);
                prop_assert!(ByCreation::of(keys).is_none());
            }
        }
    }

    #[test]
    fn pages_stay_filled() {
        let mut index = ByCreation::default();
        (1..=100_000).for_each(|created| assert!(index.insert(created, Hash::from_bits(0))));
        assert_eq!(index.pages.len(), 100_000_usize.div_ceil(MAX_ENTRIES));
        (1..=100_000).filter(|created| created % 50 != 0).for_each(|created| index.remove(created));
        let most = 2_000 / (MIN_ENTRIES / 2);
        assert!(index.pages.len() <= most, "{} pages for 2 000 keys", index.pages.len());
    }
}
