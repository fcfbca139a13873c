//! A few hundred records and a table that finds them: small, so that it can be made anew at any time.

use hashbrown::HashTable;
use paxos_core::Time;

use super::heap::{Heap, Place};
use super::record::{History, Record};
use super::{Hash, Hasher};

/// A shard with more records, or more bytes of them, is to be split.
const MAX_RECORDS: usize = 600;
const MAX_BYTES: usize = 96 << 10;
/// Two shards that have less than this together are to be merged.
const MIN_RECORDS: usize = 200;
const MIN_BYTES: usize = 32 << 10;
/// Before a record is added, the pages are made anew if one of this many parts of them is unused: for each
/// byte stored elsewhere at most so many are copied.
const PARTS_UNUSED_BEFORE_ADDING: usize = 8;
/// The same after a record is removed.
const PARTS_UNUSED_AFTER_REMOVAL: usize = 2;

/// Records whose hashes have some bits in common.
#[derive(Debug, Default)]
pub(super) struct Shard {
    places: HashTable<Place>,
    heap: Heap,
}

impl Shard {
    pub(super) fn find(&self, hash: Hash, key: &[u8]) -> Option<Place> {
        self.places.find(hash.spread(), |place| self.heap.key(*place) == key).copied()
    }

    /// Finds a record by the revision at which it was created.
    pub(super) fn find_created(&self, hash: Hash, created: u64) -> Option<Place> {
        self.places.find(hash.spread(), |place| self.heap.record(*place).created == created).copied()
    }

    /// Where the record of this hash is in all likelihood: its key is not compared.
    pub(super) fn guess(&self, hash: Hash) -> Option<Place> {
        self.places.find(hash.spread(), |_| true).copied()
    }

    pub(super) fn heap(&self) -> &Heap {
        &self.heap
    }

    pub(super) fn record(&self, place: Place) -> Record<'_> {
        self.heap.record(place)
    }

    /// All records, in no order.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.heap.records()
    }

    /// Forgets all records; their memory stays for others.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.heap.clear();
    }

    /// Frees what [`clear`](Shard::clear) left and nothing has used since.
    pub(super) fn free_unused(&mut self, hasher: &Hasher) {
        let Shard { places, heap } = self;
        heap.free_spare();
        places.shrink_to(places.len(), |place| hasher.hash(heap.key(*place)).spread());
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.places.len() > MAX_RECORDS || self.heap.live_bytes() > MAX_BYTES
    }

    /// Whether it must be split before anything is added.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.heap.is_nearly_full()
    }

    /// Whether it and another one make one shard that is not crowded at all.
    pub(super) fn is_sparse_with(&self, other: &Shard) -> bool {
        self.places.len() + other.places.len() < MIN_RECORDS
            && self.heap.live_bytes() + other.heap.live_bytes() < MIN_BYTES
    }

    /// Adds a record whose key is not there.
    pub(super) fn add(&mut self, hasher: &Hasher, hash: Hash, history: History, key: &[u8], value: &[u8]) {
        if self.heap.is_wasteful(PARTS_UNUSED_BEFORE_ADDING) {
            self.make_anew();
        }
        let Shard { places, heap } = self;
        let place = heap.add(history, key, value);
        places.insert_unique(hash.spread(), place, |place| hasher.hash(heap.key(*place)).spread());
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, hasher: &Hasher, hash: Hash, place: Place) {
        self.take_out(hash, place);
        if self.places.is_empty() {
            *self = Shard::default();
        } else if self.heap.is_wasteful(PARTS_UNUSED_AFTER_REMOVAL) {
            self.make_anew();
            let Shard { places, heap } = self;
            places.shrink_to(places.len(), |place| hasher.hash(heap.key(*place)).spread());
        }
    }

    fn take_out(&mut self, hash: Hash, place: Place) {
        let entry = self.places.find_entry(hash.spread(), |other| *other == place);
        entry.unwrap_or_else(|_| unreachable!("each record is in the table")).remove();
        self.heap.remove(place);
    }

    /// Replaces the value of a record, and its deadline.
    pub(super) fn overwrite(
        &mut self,
        hasher: &Hasher,
        hash: Hash,
        place: Place,
        (modified, deadline): (u64, Option<Time>),
        value: &[u8],
    ) {
        if !self.heap.overwrite(place, modified, deadline, value) {
            let Record { key, created, .. } = self.heap.record(place);
            let key = key.to_vec();
            self.take_out(hash, place);
            self.add(hasher, hash, History { created, modified, deadline }, &key, value);
        }
    }

    /// Replaces the deadline of a record.
    pub(super) fn set_deadline(
        &mut self,
        hash: Hash,
        place: Place,
        (modified, deadline): (u64, Option<Time>),
    ) {
        if self.heap.set_deadline(place, modified, deadline) {
            return;
        }
        let created = self.heap.record(place).created;
        let Shard { places, heap } = self;
        let new = heap.repeat(place, History { created, modified, deadline });
        let entry = places.find_entry(hash.spread(), |other| *other == place);
        *entry.unwrap_or_else(|_| unreachable!("each record is in the table")).get_mut() = new;
        heap.remove(place);
        if heap.is_wasteful(PARTS_UNUSED_BEFORE_ADDING) {
            self.make_anew();
        }
    }

    /// Appends to the value of a record; returns the new length in bytes and hash.
    pub(super) fn append(
        &mut self,
        hasher: &Hasher,
        hash: Hash,
        place: Place,
        modified: u64,
        tail: &[u8],
    ) -> Record<'_> {
        if self.heap.append_to(place, modified, tail) {
            return self.heap.record(place);
        }
        let Record { key, value, deadline, .. } = self.heap.record(place);
        let (key, joined) = (key.to_vec(), [value.as_bytes(), tail].concat());
        self.overwrite(hasher, hash, place, (modified, deadline), &joined);
        let place = self.find(hash, &key).expect("it has just been stored");
        self.heap.record(place)
    }

    /// Moves the records into new pages, without what was removed.
    fn make_anew(&mut self) {
        let mut heap = Heap::default();
        for place in &mut self.places {
            *place = heap.take_over(&mut self.heap, *place);
        }
        self.heap = heap;
    }

    /// Moves the records whose hashes satisfy `goes` into a shard of their own, and all others into new
    /// pages.
    pub(super) fn split(&mut self, hasher: &Hasher, goes: impl Fn(Hash) -> bool) -> Shard {
        let mut old = std::mem::take(self);
        let mut other = Shard::default();
        for place in &old.places {
            let hash = hasher.hash(old.heap.key(*place));
            let target = if goes(hash) { &mut other } else { &mut *self };
            target.take_over(hasher, hash, &mut old.heap, *place);
        }
        other
    }

    /// Takes all records of another shard.
    pub(super) fn merge(&mut self, hasher: &Hasher, mut other: Shard) {
        for place in &other.places {
            let hash = hasher.hash(other.heap.key(*place));
            self.take_over(hasher, hash, &mut other.heap, *place);
        }
    }

    fn take_over(&mut self, hasher: &Hasher, hash: Hash, from: &mut Heap, place: Place) {
        let Shard { places, heap } = self;
        let place = heap.take_over(from, place);
        places.insert_unique(hash.spread(), place, |place| hasher.hash(heap.key(*place)).spread());
    }
}
